"""The forward kernels of `wkv4` in Triton against the reference, whole and cut into segments."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from receptance.ops.wkv4 import WKV4State
from receptance.ops.wkv4.reference import wkv4_reference
from receptance.ops.wkv4.triton import TILE
from tests.ops.wkv4.test_native import SINGLE, SINGLE_EACH, Case, make_case, relative_error

pytestmark = pytest.mark.usefixtures("_guarded_memory")

# Tokens of a segment: as the shape says, which is one segment for all that is short; or one tile.
WHOLE, CUT = 0, TILE
FORMS = {"whole": WHOLE, "cut": CUT}

# Results of 16 bits: everything inside is float32, so nearly all of the error must come from
# rounding the results, which computing in float64 and rounding once cannot avoid either.
HALF_EXCESS = 1.5


def run_forward(case: Case, tokens: int, device: str = "cpu") -> tuple[Tensor, WKV4State, Tensor]:
    """Return y, the state and the borders, on the CPU."""
    moved = [None if each is None else each.to(device) for each in case[:8]]
    y, *after, borders = torch.ops.receptance.wkv4_triton(*moved, tokens)
    return y.cpu(), WKV4State(*(each.cpu() for each in after)), borders.cpu()


def exact_forward(case: Case) -> tuple[Tensor, WKV4State]:
    """Return the reference's y and state, in float64."""
    case = case.to(torch.float64)
    state = WKV4State(case.num, case.den, case.log_scale)
    return wkv4_reference(case.log_w, case.u, case.k, case.v, state, case.resets)


def assert_states_agree(actual: WKV4State, expected: WKV4State) -> None:
    """Compare what does not change with the state's unit."""
    assert relative_error(actual.num / actual.den, expected.num / expected.den) < SINGLE
    assert_close(
        (actual.den.log() + actual.log_scale).double(),
        (expected.den.log() + expected.log_scale),
        **SINGLE_EACH,
    )


@pytest.mark.parametrize(
    ("T", "form"),
    [*((T, "whole") for T in (1, 2, 15, 16, 17, 63, 64, 65, 257)), (33, "cut"), (257, "cut")],
)
def test_any_number_of_tokens_agrees_with_the_reference(T, form, triton_device):
    case = make_case(1, T, 3, with_resets=T % 2 == 1, seed=T).to(torch.float32)
    y, after, _ = run_forward(case, FORMS[form], triton_device)
    expected, state = exact_forward(case)
    assert relative_error(y, expected) < SINGLE
    assert_states_agree(after, state)


@pytest.mark.parametrize("C", [1, 31, 33, 70])
@pytest.mark.parametrize("form", FORMS)
def test_any_number_of_channels_and_rows_agrees_with_the_reference(C, form, triton_device):
    case = make_case(2, 40, C, with_resets=True).to(torch.float32)
    y, after, _ = run_forward(case, FORMS[form], triton_device)
    expected, state = exact_forward(case)
    assert relative_error(y, expected) < SINGLE
    assert_states_agree(after, state)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bits_lose_little_more_than_one_rounding(dtype, triton_device):
    case = make_case(1, 60, 40, with_resets=True).to(dtype)
    y, after, _ = run_forward(case, WHOLE, triton_device)
    expected, state = exact_forward(case)
    assert y.dtype == dtype
    unavoidable = (expected.to(dtype).double() - expected).square().mean().sqrt()
    error = (y.double() - expected).square().mean().sqrt()
    assert error <= HALF_EXCESS * unavoidable
    assert_states_agree(after, state)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # NumPy's; -inf is meant
@pytest.mark.parametrize("form", FORMS)
def test_extreme_keys_and_decays_stay_finite_and_right(form, triton_device):
    log_w = torch.tensor([-float("inf"), -1e38, -1e30, -1e4, -1e-9, -0.0])
    case = make_case(1, 70, 6, seed=1).to(torch.float32)
    sign = torch.randint(-1, 2, case.k.shape, generator=torch.Generator().manual_seed(2))
    case = case._replace(log_w=log_w, k=1e4 * sign.float(), **WKV4State.zeros(1, 6)._asdict())
    y, after, _ = run_forward(case, FORMS[form], triton_device)
    state = WKV4State(case.num, case.den, case.log_scale)
    expected, expected_after = wkv4_reference(case.log_w, case.u, case.k, case.v, state, None)
    assert_close(y, expected, **SINGLE_EACH)
    assert_close(after.num / after.den, expected_after.num / expected_after.den, **SINGLE_EACH)


@pytest.mark.parametrize("form", FORMS)
def test_borders_are_the_states_that_shorter_sequences_end_with(form, triton_device):
    case = make_case(2, 2 * TILE + 5, 3, with_resets=True).to(torch.float32)
    assert case.resets is not None
    _, _, borders = run_forward(case, FORMS[form], triton_device)
    assert borders.shape == (3, 2, 3, 3)
    assert torch.equal(borders[:, :, 0], torch.stack([case.num, case.den, case.log_scale]))
    for tile in (1, 2):
        k, v, resets = (each[:, : tile * TILE] for each in (case.k, case.v, case.resets))
        _, state = exact_forward(case._replace(k=k, v=v, resets=resets))
        assert_states_agree(WKV4State(*borders[:, :, tile]), state)


def test_a_row_has_the_same_bits_alone_and_in_a_batch(triton_device):
    case = make_case(3, 40, 5).to(torch.float32)
    alone = Case._make(each if each is None or each.ndim == 1 else each[1:2] for each in case)
    for form in FORMS.values():
        together, after, _ = run_forward(case, form, triton_device)
        y, state, _ = run_forward(alone, form, triton_device)
        assert torch.equal(y, together[1:2])
        assert torch.equal(state.num, after.num[1:2])


def test_splitting_a_sequence_changes_nothing(triton_device):
    case = make_case(1, 50, 3, with_resets=True).to(torch.float32)
    assert case.resets is not None
    whole, after, _ = run_forward(case, WHOLE, triton_device)
    state = WKV4State(case.num, case.den, case.log_scale)
    pieces = []
    for begin, end in ((0, 1), (1, 33), (33, 50)):
        k, v, resets = (each[:, begin:end] for each in (case.k, case.v, case.resets))
        piece = case._replace(k=k, v=v, resets=resets, **state._asdict())
        y, state, _ = run_forward(piece, WHOLE, triton_device)
        pieces.append(y)
    assert_close(torch.cat(pieces, dim=1), whole, **SINGLE_EACH)
    assert_states_agree(state, WKV4State(*(each.double() for each in after)))
