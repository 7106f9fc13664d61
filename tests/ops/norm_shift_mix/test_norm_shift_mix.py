"""What `norm_shift_mix` promises whichever implementation runs: dtypes, checks, the choice."""

import re
from typing import Any

import pytest
import torch

from receptance.errors import ImplementationUnavailableError
from receptance.ops.native import library_obstacle
from receptance.ops.norm_shift_mix import IMPLEMENTATIONS, norm_shift_mix

B, T, C = 2, 6, 4


def arguments(dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """Return the tensors that are always there."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    return {
        "x": normal(B, T, C),
        "weight": normal(C),
        "bias": normal(C),
        "mixes": (normal(1, 1, C), normal(C), normal(1, 1, C)),
        "x_last": normal(B, C),
    }


def test_the_implementations_are_fastest_first():
    assert [each.name for each in IMPLEMENTATIONS] == ["native", "triton", "reference"]


@pytest.mark.parametrize("implementation", ["native", "reference"])
def test_results_have_the_dtype_that_is_asked_for(implementation):
    if implementation == "native" and library_obstacle() is not None:
        pytest.skip(str(library_obstacle()))
    wide, last = norm_shift_mix(**arguments(), implementation=implementation)
    narrow, same_last = norm_shift_mix(
        **arguments(), dtype=torch.bfloat16, implementation=implementation
    )
    assert len(wide) == len(narrow) == 3
    assert last.dtype == torch.float32
    assert torch.equal(last, same_last)
    for exact, rounded in zip(wide, narrow, strict=True):
        assert exact.dtype == torch.float32
        assert torch.equal(rounded, exact.bfloat16())


def test_no_argument_is_changed():
    before = arguments()
    kept = arguments()
    norm_shift_mix(**before, resets=torch.ones(B, T, dtype=torch.bool))
    for name, tensor in before.items():
        if name != "mixes":
            assert torch.equal(tensor, kept[name])


def test_an_implementation_that_cannot_run_says_why_and_auto_takes_another():
    with pytest.raises(ImplementationUnavailableError) as caught:
        norm_shift_mix(**arguments(), dtype=torch.float16, implementation="native")
    assert str(caught.value) == (
        "no implementation of norm_shift_mix can run these tensors (native: it serves float32, "
        "float32 with bfloat16, and float64, and these tensors are torch.float32 with "
        "torch.float16)"
    )
    mixed, _ = norm_shift_mix(**arguments(), dtype=torch.float16)
    assert mixed[0].dtype == torch.float16


def test_another_number_of_mixes_is_left_to_the_reference():
    args = arguments()
    args["mixes"] = args["mixes"][:1]
    with pytest.raises(ImplementationUnavailableError, match="it serves 2 or 3 mixes, and there"):
        norm_shift_mix(**args, implementation="native")
    (mixed,), _ = norm_shift_mix(**args)
    assert mixed.shape == (B, T, C)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "x": ({"x": torch.zeros(B, C)}, "`x` must have the shape [B, T, C], got [2, 4]"),
    "weight": (
        {"weight": torch.zeros(C + 1)},
        "`weight` must have the shape [4] to go with `x` of [2, 6, 4], got [5]",
    ),
    "bias": ({"bias": torch.zeros(1)}, "`bias` must have the shape [4] to go with `x`"),
    "mixes": (
        {"mixes": (torch.zeros(C), torch.zeros(1, 1, 3))},
        "`mixes[1]` must have the shape [1, 1, 4] to go with `x` of [2, 6, 4], got [1, 1, 3]",
    ),
    "x_last": ({"x_last": torch.zeros(1, C)}, "`x_last` must have the shape [2, 4] to go with"),
    "resets": (
        {"resets": torch.zeros(B, 1, dtype=torch.bool)},
        "`resets` must have the shape [2, 6] to go with `x` of [2, 6, 4], got [2, 1]",
    ),
}


@pytest.mark.unhooked
@pytest.mark.parametrize("case", WRONG)
def test_shapes_that_do_not_fit_are_refused(case):
    change, message = WRONG[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        norm_shift_mix(**(arguments() | change))


@pytest.mark.parametrize("name", ["weight", "bias", "x_last"])
def test_dtypes_that_do_not_fit_are_refused(name):
    args = arguments()
    args[name] = args[name].double()
    with pytest.raises(ValueError, match="must be") as caught:
        norm_shift_mix(**args)
    assert str(caught.value) == (
        f"`{name}` must be torch.float32 to go with `x` of torch.float32, got torch.float64"
    )


def test_an_unknown_implementation_is_a_value_error_that_lists_the_names():
    with pytest.raises(ValueError, match=r"one of \['auto', 'native', 'triton', 'reference'\] for"):
        norm_shift_mix(**arguments(), implementation="fast")


def test_the_docstring_is_enough_to_write_it_again():
    assert norm_shift_mix.__doc__ is not None
    for phrase in ("n_t   = LayerNorm(x_t)", "mix n_t + (1 - mix) n_{t-1}", "eqs 11-15"):
        assert phrase in norm_shift_mix.__doc__
