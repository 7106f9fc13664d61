"""One step: how its gradient is put together, and when it is thrown away."""

import math
import warnings
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from receptance.data import Batch
from receptance.models import RWKV4, RWKV4State
from receptance.ops import triton
from receptance.training import (
    ALONE,
    APPLY,
    Objective,
    Ranks,
    RunConfig,
    StepResult,
    Verdict,
    build_optimizer,
    training_step,
)
from receptance.training.data_config import SourceConfig
from receptance.training.metrics import Stopwatch
from receptance.training.optimization import objective as objective_module
from receptance.training.step import _add_gradients
from tests.random_models import random_rwkv4
from tests.training.thread_ranks import on_ranks
from tests.training.tiny_run import tiny_batch, tiny_config


def apply(loss: float, grad_norm: float, embedding_norm: float) -> Verdict:
    del loss, grad_norm, embedding_norm
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

    def refuse(loss: float, grad_norm: float, embedding_norm: float) -> Verdict:
        assert 0 < embedding_norm < math.hypot(grad_norm, embedding_norm)
        seen.append((loss, math.hypot(grad_norm, embedding_norm)))
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


def masked(batch: Batch, counted: Tensor) -> Batch:
    return batch._replace(counted=counted)


def some(n_rows: int) -> Tensor:
    """Of the first rows nothing counts, and of the others more and more."""
    places = torch.arange(16)
    return torch.stack([places < 3 * (row - 1) for row in range(n_rows)])


def gradient_step(config: RunConfig, batch: Batch, ranks: Ranks = ALONE):
    """Take a step without changing a weight; return it and the gradient that it had."""
    model = model_of()
    objective = Objective(model, auxiliary=1e-4, precision="float32")
    optimizer = build_optimizer(model, config.optimizer)
    gradient: dict[str, Tensor] = {}

    def keep(loss: float, grad_norm: float, embedding_norm: float) -> Verdict:
        del loss, grad_norm, embedding_norm
        for name, each in model.named_parameters():
            assert each.grad is not None
            gradient[name] = each.grad.clone()
        return Verdict(action="skip", reason="it is a test")

    return training_step(config, objective, optimizer, batch, keep, ranks=ranks), gradient


@pytest.mark.parametrize("micro", [0, 1, 2, 4])
def test_the_loss_is_the_mean_over_the_tokens_that_count_in_all_micro_batches(micro):
    config = tiny_config(data_batch_size=8, data_micro_batch_size=micro)
    batch = masked(tiny_batch(0, 8), some(8))

    result, gradient = gradient_step(config, batch)

    model = model_of()
    logits, _ = model(batch.tokens)
    largest = logits[some(8)].max(dim=-1).values
    expected = torch.nn.functional.cross_entropy(logits[some(8)], batch.targets[some(8)])
    (expected + 1e-4 / 2 * largest.square().mean()).backward()
    assert result.loss == pytest.approx(expected.item(), rel=1e-5)
    for name, each in model.named_parameters():
        torch.testing.assert_close(gradient[name], each.grad, rtol=1e-3, atol=1e-6)


def test_ranks_weigh_by_the_tokens_that_count_on_each():
    """What counts is uneven: on the first rank there are 0 + 3 tokens, on the second 6 + 9."""
    whole = masked(tiny_batch(0, 4), some(5)[1:])
    expected, of_whole = gradient_step(tiny_config(), whole)

    def act(ranks: Ranks):
        rows = slice(2 * ranks.rank, 2 * ranks.rank + 2)
        part = Batch(*(each[rows] for each in whole if each is not None))
        return gradient_step(tiny_config(data_batch_size=2), part, ranks)

    alone = [act(Ranks(rank=rank)) for rank in range(2)]
    counts = [int(some(5)[1:][2 * rank : 2 * rank + 2].sum()) for rank in range(2)]
    assert counts == [3, 15]
    # A rank by itself has the mean over its own tokens; two must share those of both.
    losses = [result.loss for result, _ in alone]
    assert expected.loss == pytest.approx((3 * losses[0] + 15 * losses[1]) / 18, rel=1e-5)
    together = [_as_one_of(act, rank, counts) for rank in range(2)]
    for name, each in of_whole.items():
        mean = (together[0][1][name] + together[1][1][name]) / 2
        torch.testing.assert_close(mean, each, rtol=1e-3, atol=1e-6)


def _as_one_of(act, rank: int, counts: list[int]):
    """Let a rank take its step as one of two, the other having told its count."""

    class OneOfTwo(Ranks):
        def mean(self, *values: float) -> list[float]:
            told = values == (float(counts[self.rank]),)
            return [sum(counts) / 2] if told else list(values)

    return act(OneOfTwo(rank=rank, world_size=2))


def test_a_step_of_which_nothing_counts_is_not_judged_and_changes_nothing():
    model = model_of()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    config = tiny_config(data_batch_size=8)
    objective = Objective(model, auxiliary=1e-4, precision="float32")
    batch = masked(tiny_batch(0, 8), torch.zeros(8, 16, dtype=torch.bool))

    def never(loss: float, grad_norm: float, embedding_norm: float) -> Verdict:
        raise AssertionError(loss, grad_norm, embedding_norm)

    result = training_step(
        config, objective, build_optimizer(model, config.optimizer), batch, never
    )

    assert math.isnan(result.loss)
    assert result.grad_norm == 0.0
    assert result.verdict == Verdict(action="skip", reason="no token of the batch counts")
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())


NAMES = ("prose", "code", "rare")
OF_SOURCES = torch.tensor([0, 1, 0, 0, 1, 0, 2, 1])


def source_config(**changed) -> RunConfig:
    sources = tuple(SourceConfig(name=name, store=name) for name in NAMES)
    config = tiny_config(data_batch_size=8, **changed)
    return replace(config, data=replace(config.data, store=None, sources=sources))


@pytest.mark.parametrize("counted", [None, some(8)], ids=["all", "some"])
@pytest.mark.parametrize("micro", [0, 1, 2, 4])
def test_each_source_has_the_loss_of_its_rows_whatever_the_micro_batch(micro, counted):
    batch = tiny_batch(0, 8)._replace(counted=counted, sources=OF_SOURCES)

    result, _ = gradient_step(source_config(data_micro_batch_size=micro), batch)

    costs = torch.nn.functional.cross_entropy(
        model_of()(batch.tokens)[0].transpose(1, 2), batch.targets, reduction="none"
    )
    which = torch.ones_like(batch.resets) if counted is None else counted
    found = result.loss_by_source
    assert found is not None
    assert list(found) == list(NAMES)
    total = 0.0
    for source, name in enumerate(NAMES):
        of_it = which & OF_SOURCES.eq(source)[:, None]
        assert found[name] == pytest.approx(costs[of_it].mean().item(), rel=1e-5)
        total += found[name] * int(of_it.sum())
    assert result.loss == pytest.approx(total / int(which.sum()), rel=1e-6)


def test_sources_have_the_same_loss_on_any_number_of_ranks():
    counted = some(8)
    whole = tiny_batch(0, 8)._replace(counted=counted, sources=OF_SOURCES)
    expected, _ = gradient_step(source_config(), whole)

    def act(ranks: Ranks):
        class Telling(Ranks):
            def mean(self, *values: float) -> list[float]:
                told = ranks.gather_objects(list(values))
                return [math.fsum(each) / 2 for each in zip(*told, strict=True)]

        rows = slice(4 * ranks.rank, 4 * ranks.rank + 4)
        part = Batch(*(each[rows] for each in whole if each is not None))
        telling = Telling(rank=ranks.rank, world_size=2)
        return gradient_step(source_config(), part, telling)[0]

    one, other = on_ranks(2, act)

    # The rare source is on the second rank alone.
    assert one.loss_by_source == other.loss_by_source
    assert one.loss_by_source == pytest.approx(expected.loss_by_source, rel=1e-5)


def test_a_source_whose_loss_is_not_finite_leaves_the_others_theirs():
    objective = Objective(model_of(), auxiliary=1e-4, precision="float32")
    batch = tiny_batch(0, 8)._replace(sources=OF_SOURCES)
    with torch.no_grad():
        # A token that the rare source alone has.
        batch.tokens[6] = 200
        objective.model.emb.weight[200] = math.nan

    result = training_step(
        source_config(), objective, build_optimizer(objective.model, tiny_config().optimizer), batch
    )

    found = result.loss_by_source
    assert found is not None
    assert {name: math.isfinite(loss) for name, loss in found.items()} == {
        "prose": True, "code": True, "rare": False,
    }  # fmt: skip


def test_a_source_of_which_nothing_counts_has_no_loss():
    counted = some(8)
    counted[OF_SOURCES == 1] = False
    batch = tiny_batch(0, 8)._replace(counted=counted, sources=OF_SOURCES)

    result, _ = gradient_step(source_config(), batch)

    assert result.loss_by_source is not None
    assert list(result.loss_by_source) == ["prose", "rare"]
    assert take_step(tiny_config(data_batch_size=8), model_of()).loss_by_source is None


class Calls(TorchDispatchMode):
    """Keeps which ops of this package ran."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        del types
        if func.namespace == "receptance":
            self.names.add(func.__name__.removesuffix(".default"))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("micro", [2, 4])
def test_until_all_gradients_are_told_to_be_added_up_no_number_is_read(monkeypatch, micro):
    """On PyTorch's device `meta`, in a GPU's place, nothing has numbers and to read one raises."""
    pytest.importorskip("triton", reason="needs triton: pip install triton")
    monkeypatch.setattr(triton, "_NO_GPU", ("cpu",))
    monkeypatch.setattr(
        objective_module, "autocast", lambda *_: nullcontext()
    )  # which meta has none of
    device = torch.device("meta")
    config = source_config(data_micro_batch_size=micro)
    model = model_of().to(device)
    batch = tiny_batch(0, 4)._replace(sources=torch.tensor([0, 1, 2, 1])).to(device)
    added_of = Objective(model, auxiliary=1e-4, precision="float32")
    with Calls() as calls:
        added = _add_gradients(config, added_of, batch, None, 0, 0, None, Stopwatch(device))
    assert {each.grad is not None for each in model.parameters()} == {True}
    assert {added.sums.device, *(each.num.device for each in added.states)} == {device}
    assert calls.names == {
        "linear_cross_entropy",
        *(f"{op}_triton" for op in ("gate", "gated_add", "layer_norm", "norm_shift_mix", "wkv4")),
        *(f"{op}_backward_triton" for op in ("gate", "layer_norm", "norm_shift_mix")),
        *("wkv4_triton_backward", "squared_relu_linear_triton"),
        "squared_relu_linear_backward_triton",
    }


@pytest.mark.gpu
def test_a_step_waits_for_a_gpu_as_often_whatever_the_number_of_micro_batches():
    waits = []
    for micro in (4, 2, 1):
        config = tiny_config(data_batch_size=4, data_micro_batch_size=micro)
        model = model_of().to("cuda")
        objective = Objective(model, auxiliary=1e-4, precision="bfloat16")
        optimizer = build_optimizer(model, config.optimizer)
        batch = tiny_batch(0, 4).to(torch.device("cuda"))
        training_step(config, objective, optimizer, batch)  # kernels are made ready
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                training_step(config, objective, optimizer, batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        waits.append(sum("synchronizing" in str(each.message) for each in told))
    assert waits[0] > 0
    assert set(waits) == {waits[0]}
