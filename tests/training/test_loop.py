"""A run learns, and comes to the same numbers however often it was stopped."""

import json
from pathlib import Path

import pytest
import torch

from receptance.data import Batch
from receptance.errors import ConfigError
from receptance.models import RWKV4
from receptance.training import (
    HeldOut,
    Progress,
    Run,
    RunConfig,
    autocast,
    list_checkpoints,
    open_run,
)
from receptance.training import train as train_run
from tests.training.tiny_run import hooks, stop_after, tiny_batch, tiny_config, tiny_train


def weights_of(model: RWKV4) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items()}


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_learns_a_text_that_repeats(tmp_path, precision):
    losses: list[float] = []
    config = tiny_config(training_steps=120, training_precision=precision, every_checkpoint_steps=0)

    run, progress = tiny_train(config, tmp_path / "run", hooks(losses))

    assert losses[0] > 4.5
    assert losses[-1] < 2.0
    assert progress[:3] == (120, 120 * 64, 120 * 4)
    assert {parameter.dtype for parameter in run.model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"training_precision": "bfloat16"},
        {"data_micro_batch_size": 2},
        {"data_reset_at_documents": True, "optimizer_weight_decay": 0.1},
    ],
)
def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path, settings):
    config = tiny_config(**settings)
    whole: list[float] = []
    run, _ = tiny_train(config, tmp_path / "whole", hooks(whole))

    parts: list[float] = []
    for n_steps in (1, 6, 100):
        part, _ = tiny_train(
            config, tmp_path / "parts", hooks(parts, should_stop=stop_after(n_steps))
        )

    assert parts == whole
    assert_same(weights_of(part.model), weights_of(run.model))
    keys = ("step", "tokens", "loss", "lr", "grad_norm")
    found, expected = lines(tmp_path / "parts"), lines(tmp_path / "whole")
    assert [[line[key] for key in keys] for line in found] == [
        [line[key] for key in keys] for line in expected
    ]


def test_after_a_kill_the_steps_since_the_checkpoint_are_done_again_and_told_once(tmp_path):
    config = tiny_config(every_checkpoint_steps=5)
    run, _ = tiny_train(config, tmp_path / "whole")

    class Killed(BaseException):
        pass

    def kill(_: RWKV4, step: int) -> None:
        if step == 8:
            raise Killed

    dying = tiny_config(every_checkpoint_steps=5, every_sample_steps=1)
    with pytest.raises(Killed):
        tiny_train(dying, tmp_path / "killed", hooks(sample=kill))
    assert [line["step"] for line in lines(tmp_path / "killed")] == list(range(1, 9))
    with (tmp_path / "killed" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "lo')
    again, _ = tiny_train(config, tmp_path / "killed")

    assert [line["step"] for line in lines(tmp_path / "killed")] == list(range(1, 13))
    assert_same(weights_of(again.model), weights_of(run.model))


def test_a_step_in_parts_is_the_step_of_the_whole_batch(tmp_path):
    whole, _ = tiny_train(tiny_config(training_steps=1), tmp_path / "whole")
    parts, _ = tiny_train(
        tiny_config(training_steps=1, data_micro_batch_size=1), tmp_path / "parts"
    )

    (one,), (four,) = lines(tmp_path / "whole"), lines(tmp_path / "parts")
    assert four["loss"] == pytest.approx(one["loss"], rel=1e-6)
    assert four["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-6)
    states = whole.optimizer.state.values(), parts.optimizer.state.values()
    for state, other in zip(*states, strict=True):
        torch.testing.assert_close(state["exp_avg"], other["exp_avg"], rtol=1e-6, atol=1e-6)


def test_a_long_gradient_is_scaled_down_to_the_clip_and_told_as_it_was(tmp_path):
    config = tiny_config(training_steps=1, optimizer_grad_clip=0.01)
    run, _ = tiny_train(config, tmp_path / "clipped")
    tiny_train(tiny_config(training_steps=1, optimizer_grad_clip=1e9), tmp_path / "whole")

    (clipped,), (whole,) = lines(tmp_path / "clipped"), lines(tmp_path / "whole")
    assert clipped["grad_norm"] == whole["grad_norm"] > 0.1
    moments = [state["exp_avg"] for state in run.optimizer.state.values()]
    # After one step the moment is the gradient times 1 - 0.9.
    assert torch.nn.utils.get_total_norm(moments).item() == pytest.approx(0.1 * 0.01, rel=1e-3)


def test_documents_begin_anew_only_where_the_run_wants_it(tmp_path):
    without, on, off = [], [], []
    config = tiny_config()
    tiny_train(tiny_config(data_reset_at_documents=True), tmp_path / "on", hooks(on))
    tiny_train(config, tmp_path / "off", hooks(off))

    def never_reset(first_sample: int, n_rows: int, segment: int) -> Batch:
        batch = tiny_batch(first_sample, n_rows, segment)
        return batch._replace(resets=torch.zeros_like(batch.resets))

    run = open_run(config, tmp_path / "without", config.model.build(256))
    train_run(config, tmp_path / "without", run, never_reset, hooks(without))

    assert off == without
    assert on[-1] != off[-1]


def test_validation_and_samples_change_no_bit(tmp_path):
    quiet: list[float] = []
    run, _ = tiny_train(tiny_config(), tmp_path / "quiet", hooks(quiet))

    def validate(model: RWKV4) -> HeldOut:
        with torch.no_grad(), autocast("bfloat16"):
            mean = float(model(tiny_batch(99, 4).tokens)[0].mean())
            return HeldOut(mean**2 + torch.rand(1).item())

    told: list[int] = []

    def sample(_: RWKV4, step: int) -> None:
        told.append(step)
        torch.rand(step)

    loud: list[float] = []
    config = tiny_config(every_validation_steps=5, every_sample_steps=7, every_checkpoint_steps=1)
    other, _ = tiny_train(config, tmp_path / "loud", hooks(loud, validate=validate, sample=sample))

    assert loud == quiet
    assert_same(weights_of(other.model), weights_of(run.model))
    assert told == [7, 12]
    measured = [line["step"] for line in lines(tmp_path / "loud") if "valid_bits_per_byte" in line]
    assert measured == [5, 10, 12]


def test_without_held_out_text_nothing_is_validated(tmp_path):
    tiny_train(tiny_config(every_validation_steps=1), tmp_path, hooks(validate=None))

    assert [line for line in lines(tmp_path) if "valid_bits_per_byte" in line] == []


def test_the_figures_of_a_step_are_those_of_the_run(tmp_path):
    config = tiny_config(optimizer_lr=1e-2, schedule_warmup_steps=2)
    run, _ = tiny_train(config, tmp_path)

    first, second, *_, last = lines(tmp_path)

    assert (first["lr"], second["lr"]) == pytest.approx((5e-3, 1e-2))
    assert last["lr"] == pytest.approx(1e-3)
    assert (last["step"], last["tokens"]) == (12, 12 * 64)
    flops = 3 * run.model.config.flops_per_token
    assert last["flops_per_s"] == pytest.approx(flops * last["tokens_per_s"])
    assert last["seconds"] > first["seconds"] > 0
    assert last["memory_bytes"] > 10**7


@pytest.mark.parametrize(
    ("every", "keep", "kept"), [(4, 2, [8, 12]), (5, 3, [5, 10, 12]), (0, 2, [12]), (4, 1, [8, 12])]
)
def test_the_newest_checkpoints_are_kept_and_the_last_step_s_always(tmp_path, every, keep, kept):
    config = tiny_config(every_checkpoint_steps=every, every_keep_checkpoints=keep)

    tiny_train(config, tmp_path)

    found = [path.name for path in list_checkpoints(tmp_path / "checkpoints")]
    assert found == [f"step-{step:08d}" for step in kept]


def test_stopped_before_its_first_step_it_leaves_no_checkpoint(tmp_path):
    _, progress = tiny_train(tiny_config(), tmp_path, hooks(should_stop=lambda: True))

    assert progress.step == 0
    assert list_checkpoints(tmp_path / "checkpoints") == []


def test_a_finished_run_is_left_as_it_is(tmp_path):
    tiny_train(tiny_config(), tmp_path)
    before = (tmp_path / "metrics.jsonl").read_bytes()

    losses: list[float] = []
    _, progress = tiny_train(tiny_config(), tmp_path, hooks(losses))

    assert progress.step == 12
    assert losses == []
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


class Poisoned:
    """Batches whose token is out of the ordinary at some places: the loss becomes NaN there."""

    def __init__(self, run: Run, places: set[int]) -> None:
        self.places = places
        self.seen: list[int] = []
        run.model.head.weight.register_hook(self._poison)

    def __call__(self, first_sample: int, n_rows: int, segment: int) -> Batch:
        return tiny_batch(first_sample, n_rows, segment)

    def _poison(self, gradient: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(self.seen))
        return gradient * float("nan") if self.seen[-1] in self.places else gradient


def poisoned_run(config: RunConfig, folder: Path, places: set[int], **given) -> Run:
    """Train a run whose gradient is no number the given times that it is computed."""
    run = open_run(config, folder, config.model.build(256))
    train_run(run.config, folder, run, Poisoned(run, places), hooks(**given))
    return run


def test_a_gradient_that_is_not_finite_is_skipped_and_told(tmp_path):
    config = tiny_config(every_checkpoint_steps=4)
    run = poisoned_run(config, tmp_path, {5})

    told = lines(tmp_path)
    assert [line["step"] for line in told] == list(range(1, 13))
    assert [line["step"] for line in told if "skipped" in line] == [6]
    assert told[5]["skipped"] == "the gradient's norm is nan"
    record = json.loads((tmp_path / "spike-00000006.json").read_text())
    assert (record["step"], record["first_sample"], record["action"]) == (6, 20, "skip")
    assert all(bool(torch.isfinite(each).all()) for each in run.model.parameters())


def test_after_three_skips_the_run_goes_back_and_on_with_other_samples(tmp_path):
    config = tiny_config(every_checkpoint_steps=4)
    poisoned_run(config, tmp_path, {5, 6, 7})

    told = lines(tmp_path)
    assert [line["step"] for line in told] == list(range(1, 13))
    assert told[4]["rolled_back_from"] == 8
    assert [line["step"] for line in told if "skipped" in line] == []
    # The first four steps saw samples 0 to 15; 16 to 31 were passed over.
    run = open_run(config, tmp_path, config.model.build(256))
    assert run.begin.progress[:3] == (12, 12 * 64, 64)


def test_the_checkpoint_to_go_back_to_is_kept_until_it_is_no_longer_needed(tmp_path):
    config = tiny_config(every_checkpoint_steps=1, every_keep_checkpoints=1)
    poisoned_run(config, tmp_path, {4, 7, 10})

    assert [line["step"] for line in lines(tmp_path)] == list(range(1, 13))
    assert lines(tmp_path)[4]["rolled_back_from"] == 11


def test_a_run_that_went_back_goes_on_bit_for_bit_after_a_stop(tmp_path):
    config = tiny_config(every_checkpoint_steps=4)
    whole = poisoned_run(config, tmp_path / "whole", {5, 6, 7})
    poisoned_run(config, tmp_path / "parts", {5, 6, 7}, should_stop=stop_after(10))

    part, _ = tiny_train(config, tmp_path / "parts")

    assert_same(weights_of(part.model), weights_of(whole.model))


def test_without_a_checkpoint_to_go_back_to_the_run_ends_with_its_weights_untouched(tmp_path):
    config = tiny_config(every_checkpoint_steps=0)
    run = open_run(config, tmp_path, config.model.build(256))
    before = weights_of(run.model)

    with pytest.raises(ConfigError) as caught:
        train_run(config, tmp_path, run, Poisoned(run, {0, 1, 2}), hooks())

    assert "the run diverged: the gradient's norm is nan" in str(caught.value)
    assert "there is no checkpoint of before them to go back to" in str(caught.value)
    assert "lower `optimizer.lr`" in str(caught.value)
    assert_same(weights_of(run.model), before)


@pytest.mark.parametrize("bits", [float("nan"), float("inf")])
def test_a_held_out_figure_that_is_not_finite_ends_the_run(tmp_path, bits):
    config = tiny_config(every_validation_steps=3)

    with pytest.raises(ConfigError) as caught:
        tiny_train(config, tmp_path, hooks(validate=lambda _: HeldOut(bits)))

    assert f"must be finite, but they are {bits} after step 3" in str(caught.value)
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]


def test_progress_counts_over_all_parts(tmp_path):
    _, first = tiny_train(tiny_config(), tmp_path, hooks(should_stop=stop_after(5)))
    _, second = tiny_train(tiny_config(), tmp_path)

    assert first[:3] == (5, 5 * 64, 5 * 4)
    assert second[:3] == (12, 12 * 64, 12 * 4)
    assert second.seconds > first.seconds > 0
    assert isinstance(second, Progress)
