"""Law 8: a quantized model decodes as it reads, to the last bit.

Its products have one order of summation, and so has all else: the step of a packed model and the
model's forward are two programs that round at the same places.
"""

import pytest
import torch
from torch import Tensor

from receptance.models import RWKV4, RWKV4State
from receptance.models.rwkv4_packed import PackedRWKV4
from receptance.ops.native import library_obstacle
from receptance.ops.quantized_linear import QuantizedFormat
from receptance.quantization import quantize_model
from tests.random_models import random_rwkv4, random_tokens

pytestmark = pytest.mark.skipif(library_obstacle() is not None, reason=str(library_obstacle()))

V, T = 41, 48
FORMATS = [
    QuantizedFormat(bits=8, group_size=32),
    QuantizedFormat(bits=4, group_size=32),
    QuantizedFormat(bits=8, group_size=64, has_offset=True),
    QuantizedFormat(bits=4, group_size=128, has_offset=True),
]
each_format = pytest.mark.parametrize("format", FORMATS, ids=str)


def make_model(n_embd: int, format: QuantizedFormat) -> RWKV4:
    return quantize_model(random_rwkv4(3, n_embd, V), format).requires_grad_(False)


def steps(model: RWKV4, tokens: Tensor, pool: RWKV4State, slots: Tensor) -> Tensor:
    """Return the logits [B, T, V] of tokens [B, T], fed one by one to the sequences at `slots`."""
    packed = model.pack()
    assert isinstance(packed, PackedRWKV4)
    return torch.stack([packed.step(column, pool, slots) for column in tokens.unbind(1)], dim=1)


def assert_same_bits(found: RWKV4State, expected: RWKV4State) -> None:
    for name, tensor in found.tensors.items():
        assert torch.equal(tensor, expected.tensors[name]), name


@each_format
@pytest.mark.parametrize("n_embd", [48, 64, 96])
def test_stepping_and_reading_give_the_same_bits(n_embd, format):
    model, tokens = make_model(n_embd, format), random_tokens(3, T, V)
    pool, slots = model.zero_state(5), torch.tensor([4, 0, 2])
    logits = steps(model, tokens, pool, slots)
    expected, state = model(tokens)
    assert torch.equal(logits, expected)
    assert_same_bits(pool.select(slots), state)


@each_format
def test_a_prompt_may_be_read_and_then_stepped_through_anywhere(format):
    model, tokens = make_model(48, format), random_tokens(1, T, V)
    expected, expected_state = model(tokens)
    for end in (1, 2, 7, 31, T - 1):
        read, state = model(tokens[:, :end])
        stepped = steps(model, tokens[:, end:], state, torch.tensor([0]))
        assert torch.equal(torch.cat([read, stepped], dim=1), expected)
        assert_same_bits(state, expected_state)


@each_format
@pytest.mark.parametrize("batch", [1, 2, 3, 16, 33])
def test_a_step_gives_the_same_bits_in_any_company_and_leaves_other_slots_alone(batch, format):
    model, tokens = make_model(48, format), random_tokens(batch, 4, V)
    slots = torch.randperm(40, generator=torch.Generator().manual_seed(batch))[:batch]
    others = [slot for slot in range(40) if slot not in slots.tolist()]
    pool = model.zero_state(40)
    for tensor in pool.tensors.values():
        tensor[:, others] = float("nan")
    logits = steps(model, tokens, pool, slots)
    for tensor in pool.tensors.values():
        assert tensor[:, others].isnan().all()
    for row, slot in enumerate(slots.tolist()):
        alone = model.zero_state(1)
        expected = steps(model, tokens[row : row + 1], alone, torch.tensor([0]))
        assert torch.equal(logits[row : row + 1], expected)
        assert_same_bits(pool.select([slot]), alone)


@each_format
def test_bits_do_not_depend_on_the_number_of_threads(format):
    model, tokens = make_model(96, format), random_tokens(3, T, V)
    before = torch.get_num_threads()
    found = []
    try:
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            found.append(
                (steps(model, tokens, model.zero_state(3), torch.arange(3)), model(tokens)[0])
            )
    finally:
        torch.set_num_threads(before)
    for logits in (tensor for pair in found for tensor in pair):
        assert torch.equal(logits, found[0][0])
