"""One step: how its gradient is put together, and when it is thrown away."""

import pytest
import torch

from receptance.models import RWKV4, RWKV4State
from receptance.training import (
    ALONE,
    APPLY,
    Objective,
    RunConfig,
    StepResult,
    Verdict,
    build_optimizer,
    training_step,
)
from tests.random_models import random_rwkv4
from tests.training.tiny_run import tiny_batch, tiny_config


def apply(loss: float, grad_norm: float) -> Verdict:
    del loss, grad_norm
    return APPLY


def take_step(
    config: RunConfig, model: RWKV4, judge=apply, *, step: int = 0, carried=None, n_rows: int = 8
) -> StepResult:
    objective = Objective(
        model,
        auxiliary=config.training.auxiliary_loss,
        precision=config.training.precision,
    )
    optimizer = build_optimizer(model, config.optimizer)
    batch = tiny_batch(8 * step, n_rows)
    return training_step(
        config, objective, optimizer, batch, judge, step=step, ranks=ALONE, carried=carried
    )


def model_of(dropout: float = 0.0) -> RWKV4:
    model = random_rwkv4(n_layer=2, n_embd=16, vocab_size=256, seed=3)
    if dropout == 0.0:
        return model
    dropping = RWKV4(model.config, dropout=dropout)
    dropping.load_state_dict(model.state_dict())
    return dropping


@pytest.mark.parametrize("micro", [1, 2, 4])
def test_a_step_in_parts_is_the_step_of_the_whole_batch(micro):
    """In float32, whose sums are taken in another order: 1e-5 of a norm of order 1."""
    whole, parts = model_of(), model_of()
    one = take_step(tiny_config(data_batch_size=8), whole)
    many = take_step(tiny_config(data_batch_size=8, data_micro_batch_size=micro), parts)

    assert many.loss == pytest.approx(one.loss, rel=1e-6)
    assert many.grad_norm == pytest.approx(one.grad_norm, rel=1e-5)


def test_the_judge_sees_the_loss_and_the_norm_before_any_weight_has_changed():
    model = model_of()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    seen: list[tuple[float, float]] = []

    def refuse(loss: float, grad_norm: float) -> Verdict:
        seen.append((loss, grad_norm))
        return Verdict(action="skip", reason="it is a test")

    result = take_step(tiny_config(data_batch_size=8), model, refuse)

    assert seen == [(result.loss, result.grad_norm)]
    assert result.verdict.reason == "it is a test"
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    assert all(each.grad is None for each in model.parameters())


def test_what_is_dropped_depends_on_the_step_and_on_nothing_before():
    config = tiny_config(data_batch_size=8)
    torch.manual_seed(5)
    first = take_step(config, model_of(dropout=0.5))
    torch.rand(100)
    again = take_step(config, model_of(dropout=0.5))
    without = take_step(config, model_of())

    assert first.loss == again.loss != without.loss

    def same_batch_in_step(step: int) -> float:
        return take_step(config, model_of(dropout=0.5), step=step).loss

    assert same_batch_in_step(1) != same_batch_in_step(2)


def test_states_are_carried_for_each_row_whatever_the_micro_batch():
    segments = {"data_segments": 2, "data_batch_size": 8}
    first = take_step(tiny_config(**segments), model_of())
    parts = take_step(tiny_config(**segments, data_micro_batch_size=2), model_of())
    assert isinstance(first.carried, RWKV4State)
    assert isinstance(parts.carried, RWKV4State)
    assert first.carried.batch_size == 8
    for name, each in first.carried.tensors.items():
        assert not each.requires_grad
        torch.testing.assert_close(parts.carried.tensors[name], each)

    model = model_of()
    goes_on = take_step(tiny_config(**segments), model_of(), carried=first.carried)
    batch = tiny_batch(0, 8)
    logits, _ = model(batch.tokens, first.carried)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten())
    assert goes_on.loss == pytest.approx(expected.item(), rel=1e-5)


def test_without_segments_nothing_is_carried():
    assert take_step(tiny_config(data_batch_size=8), model_of()).carried is None


def test_the_parts_of_a_step_take_time():
    seconds = take_step(tiny_config(data_batch_size=8), model_of()).seconds

    assert min(seconds.forward, seconds.backward, seconds.optimizer) > 0
    assert seconds.communication >= 0
