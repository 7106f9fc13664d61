"""What `wkv4` promises whichever implementation runs: dtypes, checks, the choice, the docs."""

import re
from collections.abc import Callable
from typing import Any, TypedDict

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from receptance.errors import ImplementationUnavailableError
from receptance.ops.wkv4 import IMPLEMENTATIONS, WKV4State, wkv4
from tests.tolerances import EXACT

B, T, C = 2, 6, 4


class Arguments(TypedDict):
    """The arguments that are always there."""

    log_w: Tensor
    u: Tensor
    k: Tensor
    v: Tensor


def arguments(dtype: torch.dtype = torch.float32, seed: int = 0) -> Arguments:
    """Return log_w, u, k and v; those that vary by token in `dtype`."""
    generator = torch.Generator().manual_seed(seed)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return Arguments(
        log_w=-torch.rand(C, generator=generator).to(wide),
        u=torch.randn(C, generator=generator).to(wide),
        k=torch.randn(B, T, C, generator=generator).to(dtype),
        v=torch.randn(B, T, C, generator=generator).to(dtype),
    )


def mapped(args: Arguments, function: Callable[[Tensor], Tensor]) -> Arguments:
    return Arguments(
        log_w=function(args["log_w"]),
        u=function(args["u"]),
        k=function(args["k"]),
        v=function(args["v"]),
    )


def state(dtype: torch.dtype = torch.float32) -> WKV4State:
    return WKV4State.zeros(B, C, dtype=dtype)


def runs(name: str, *args: object) -> bool:
    """Tell whether an implementation can run these arguments here."""
    (each,) = [each for each in IMPLEMENTATIONS if each.name == name]
    return each.obstacle(*args) is None


def test_the_implementations_are_fastest_first_and_the_reference_is_always_there():
    assert [each.name for each in IMPLEMENTATIONS] == ["native", "triton", "reference"]
    assert runs("reference", *arguments().values(), state(), None)


def test_the_zero_state_is_empty_sums_at_the_lowest_scale():
    zero = WKV4State.zeros(3, 5)
    assert [each.dtype for each in zero] == [torch.float32] * 3
    assert torch.equal(zero.num, torch.zeros(3, 5))
    assert torch.equal(zero.den, torch.zeros(3, 5))
    assert torch.equal(zero.log_scale, torch.full((3, 5), -1e38))
    assert len({each.data_ptr() for each in zero}) == 3
    assert WKV4State.zeros(3, 5, dtype=torch.float64).den.dtype == torch.float64


@pytest.mark.parametrize(
    ("implementation", "dtype"),
    [
        ("native", torch.bfloat16),
        ("reference", torch.bfloat16),
        ("reference", torch.float16),
    ],
)
def test_low_precision_keys_give_the_float32_result_rounded(implementation, dtype):
    args = arguments(dtype)
    if not runs(implementation, *args.values(), state(), None):
        pytest.skip("the extension is not installed")
    y, after = wkv4(**args, state=state(), implementation=implementation)
    wide = mapped(args, Tensor.float)
    expected, expected_after = wkv4(**wide, state=state(), implementation=implementation)
    assert y.dtype == dtype
    assert [each.dtype for each in after] == [torch.float32] * 3
    assert torch.equal(y, expected.to(dtype))
    assert_close(after, expected_after, **EXACT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_have_the_dtype_of_the_keys(dtype):
    y, after = wkv4(**arguments(dtype), state=state(dtype))
    assert y.dtype == dtype
    assert y.shape == (B, T, C)
    assert [each.dtype for each in after] == [dtype] * 3


def test_float64_is_float64_inside():
    args = arguments(torch.float64)
    y, _ = wkv4(**args, state=state(torch.float64))
    narrow = mapped(args, Tensor.float)
    rough, _ = wkv4(**narrow, state=state())
    assert 1e-9 < (y - rough).abs().max() < 1e-5


def test_no_argument_is_changed():
    args, before = arguments(), state()
    copies = mapped(args, Tensor.clone)
    wkv4(**args, state=before, resets=torch.ones(B, T, dtype=torch.bool))
    assert_close(args, copies, **EXACT)
    assert_close(before, state(), **EXACT)


def test_memory_layout_does_not_matter():
    args = arguments()
    strided = mapped(args, lambda each: each.transpose(0, -1).contiguous().transpose(0, -1))
    assert not strided["k"].is_contiguous()
    y, _ = wkv4(**args, state=state())
    y_strided, _ = wkv4(**strided, state=state())
    assert_close(y_strided, y, rtol=1e-6, atol=1e-6)


def test_an_unknown_implementation_is_a_value_error_that_lists_the_names():
    with pytest.raises(ValueError, match="implementation") as caught:
        wkv4(**arguments(), state=state(), implementation="fast")
    assert str(caught.value) == (
        "`implementation` must be one of ['auto', 'native', 'triton', 'reference'] for wkv4, "
        "got 'fast'"
    )


def test_an_implementation_that_cannot_run_says_why_and_auto_takes_another():
    args = arguments(torch.float16)
    with pytest.raises(ImplementationUnavailableError, match="native") as caught:
        wkv4(**args, state=state(), implementation="native")
    assert str(caught.value) == (
        "no implementation of wkv4 can run these tensors "
        "(native: it serves float32, bfloat16 and float64, and `k` is torch.float16)"
    )
    y, _ = wkv4(**args, state=state())
    assert torch.equal(y, wkv4(**args, state=state(), implementation="reference")[0])


WIDE = torch.float64
WRONG_DTYPES: dict[str, tuple[dict[str, Any], str]] = {
    "u": (
        {"u": torch.zeros(C, dtype=WIDE)},
        "`u` must be torch.float32 to go with `k` of torch.float32, got torch.float64",
    ),
    "state": (
        {"state": state(WIDE)},
        "`state.num` must be torch.float32 to go with `k` of torch.float32, got",
    ),
    "all of low precision": (
        {
            "log_w": torch.zeros(C, dtype=torch.bfloat16),
            "u": torch.zeros(C, dtype=torch.bfloat16),
            "state": state(torch.bfloat16),
        },
        "`log_w` must be torch.float32 to go with `k` of torch.float32, got torch.bfloat16",
    ),
    "narrow sums of wide keys": (
        {"k": torch.zeros(B, T, C, dtype=WIDE), "v": torch.zeros(B, T, C, dtype=WIDE)},
        "`log_w` must be torch.float64 to go with `k` of torch.float64, got torch.float32",
    ),
    "wide sums of narrow keys": (
        {
            "log_w": torch.zeros(C, dtype=WIDE),
            "u": torch.zeros(C, dtype=WIDE),
            "state": state(WIDE),
        },
        "`log_w` must be torch.float32 to go with `k` of torch.float32, got torch.float64",
    ),
    "v": (
        {"v": torch.zeros(B, T, C, dtype=WIDE)},
        "`v` must be torch.float32 to go with `k` of torch.float32, got",
    ),
}


@pytest.mark.parametrize("case", WRONG_DTYPES)
def test_dtypes_that_do_not_fit_are_refused(case):
    change, message = WRONG_DTYPES[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        wkv4(**({**arguments(), "state": state()} | change))


def test_a_state_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="state") as caught:
        wkv4(**arguments(), state=WKV4State.zeros(B, C + 1))
    assert str(caught.value) == (
        "`state.num` must have the shape [2, 4] to go with `k` of [2, 6, 4], got [2, 5]"
    )


WRONG_SHAPES: dict[str, tuple[dict[str, Any], str]] = {
    "k": ({"k": torch.zeros(B, C)}, "`k` must have the shape [B, T, C], got [2, 4]"),
    "log_w": ({"log_w": torch.zeros(C + 1)}, "`log_w` must have the shape [4] to go with `k` of"),
    "u": (
        {"u": torch.zeros(1)},
        "`u` must have the shape [4] to go with `k` of [2, 6, 4], got [1]",
    ),
    "v": ({"v": torch.zeros(B, T + 1, C)}, "`v` must have the shape [2, 6, 4] to go with `k`"),
    "resets": (
        {"resets": torch.zeros(B, 1, dtype=torch.bool)},
        "`resets` must have the shape [2, 6] to go with `k` of [2, 6, 4], got [2, 1]",
    ),
}


@pytest.mark.unhooked
@pytest.mark.parametrize("case", WRONG_SHAPES)
def test_shapes_that_do_not_fit_are_refused(case):
    change, message = WRONG_SHAPES[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        wkv4(**({**arguments(), "state": state()} | change))


def test_the_docstring_is_enough_to_write_it_again():
    assert wkv4.__doc__ is not None
    for phrase in (
        "y_t = (a_{t-1} + exp(u + k_t) v_t) / (b_{t-1} + exp(u + k_t))",
        "a_t = exp(log_w) a_{t-1} + exp(k_t) v_t",
        "b_t = exp(log_w) b_{t-1} + exp(k_t)",
        "eq. 16",
    ):
        assert phrase in wkv4.__doc__
