"""The states that the native `wkv4` leaves before every chunk of tokens, for its way back."""

import pytest
import torch
from torch.testing import assert_close

from receptance.ops.native import instruction_sets, library_obstacle
from receptance.ops.wkv4 import WKV4State
from receptance.ops.wkv4.native import CHUNK
from receptance.ops.wkv4.reference import wkv4_reference
from tests.ops.wkv4.test_gradients import backward_arguments
from tests.ops.wkv4.test_native import FORMS, make_case
from tests.tolerances import ALGEBRA

pytestmark = pytest.mark.skipif(library_obstacle() is not None, reason=str(library_obstacle()))


@pytest.mark.parametrize("instruction_set", instruction_sets())
@pytest.mark.parametrize("form", FORMS)
def test_borders_are_the_states_that_shorter_sequences_end_with(form, instruction_set):
    case = make_case(2, 150, 20, with_resets=True)
    assert case.resets is not None
    number = instruction_sets()[instruction_set]
    *_, borders = torch.ops.receptance.wkv4(*case[:8], FORMS[form], number)
    assert borders.shape == (3, 2, 5, 20)
    assert torch.equal(borders[:, :, 0], torch.stack([case.num, case.den, case.log_scale]))
    for chunk in range(1, 5):
        T = CHUNK * chunk
        k, v, resets = (each[:, :T] for each in (case.k, case.v, case.resets))
        state = WKV4State(case.num, case.den, case.log_scale)
        _, after = wkv4_reference(case.log_w, case.u, k, v, state, resets)
        num, den, log_scale = borders[:, :, chunk]
        assert_close(num / den, after.num / after.den, **ALGEBRA)
        assert_close(den.log() + log_scale, after.den.log() + after.log_scale, **ALGEBRA)


def test_the_backward_op_refuses_borders_and_gradients_that_do_not_fit():
    arguments = backward_arguments(make_case(2, 4, 5).to(torch.float32))
    for name, position in (("borders", 5), ("grad_y", 6), ("grad_num", 7), ("grad_den", 8)):
        wrong = list(arguments)
        wrong[position] = arguments[position][..., :3]
        with pytest.raises(RuntimeError, match=rf"`{name}` must have the shape \[.*, 5\], got"):
            torch.ops.receptance.wkv4_backward(*wrong)
