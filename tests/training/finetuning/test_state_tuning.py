"""A state that is trained is valid whatever its numbers, and begins every sequence."""

import pytest
import torch

from receptance.models import RWKV4State
from receptance.training.finetuning import InitialState, StateTunedRWKV4
from receptance.training.finetuning.state_tuning import WEIGHT_AT_FIRST
from tests.random_models import random_rwkv4

TOKENS = torch.arange(24).view(2, 12)


@pytest.fixture
def base():
    return random_rwkv4(2, 16, 64)


@pytest.fixture
def model(base):
    model = StateTunedRWKV4(base.config)
    model.load_state_dict(base.state_dict(), strict=False)
    model.initial_state.set_(base.zero_state(1))
    return model


def test_only_the_state_takes_gradients_and_all_of_it_does(model):
    model(TOKENS)[0].square().sum().backward()

    moved = {name for name, each in model.named_parameters() if each.grad is not None}
    names = ("time_mix_x", "channel_mix_x", "value", "log_weight")
    assert moved == {f"initial_state.{name}" for name in names}
    assert model.initial_state.value.grad.abs().min() > 0


def test_the_gradient_is_the_true_one():
    base = random_rwkv4(2, 4, 8).double()
    start = InitialState(base.config).double()
    for each in start.parameters():
        torch.nn.init.normal_(each)
    tokens = torch.tensor([[1, 2, 3], [4, 5, 6]])

    def logits(*numbers):
        # The unit is not the log weight but a constant: the same state in other numbers.
        time_mix_x, channel_mix_x, value, log_weight = numbers
        den = torch.exp(log_weight - 0.5)
        unit = torch.full_like(den, 0.5)
        state = RWKV4State(time_mix_x, channel_mix_x, den * value, den, unit)
        return base(tokens, state.select([0, 0]))[0]

    numbers = tuple(start.parameters())
    expected = torch.autograd.grad(logits(*numbers).square().sum(), numbers)
    found = torch.autograd.grad(base(tokens, start(2))[0].square().sum(), numbers)

    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_a_state_comes_back_as_the_same_memory(base, model):
    _, state = base(TOKENS[:1])

    model.initial_state.set_(state)

    expected, _ = base(TOKENS[1:], state)
    found, _ = model(TOKENS[1:])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(model.start_state(1).num, state.num / state.den)


def test_the_zero_state_becomes_one_of_little_weight(base, model):
    state = model.start_state(3)

    assert state.batch_size == 3
    assert set(state.log_scale.unique().tolist()) == {WEIGHT_AT_FIRST}
    assert state.den.unique().tolist() == [1.0]
    assert state.num.abs().max() == 0
    difference = (model(TOKENS)[0] - base(TOKENS)[0]).abs().max()
    assert 0 < difference < 0.5 * base(TOKENS)[0].abs().max()


@pytest.mark.parametrize("log_weight", [-300.0, 0.0, 300.0])
def test_no_number_of_the_log_weight_overflows(model, log_weight):
    with torch.no_grad():
        model.initial_state.log_weight.fill_(log_weight)
        model.initial_state.value.normal_()

    logits, _ = model(TOKENS)
    logits.square().sum().backward()

    assert torch.isfinite(logits).all()
    assert all(torch.isfinite(each.grad).all() for each in model.initial_state.parameters())


def test_a_state_that_is_given_goes_before_the_initial_one(base, model):
    _, state = base(TOKENS)

    torch.testing.assert_close(model(TOKENS, state)[0], base(TOKENS, state)[0])
