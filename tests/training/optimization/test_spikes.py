"""A step out of all proportion is not applied, and too many of them take the run back."""

import json
import math
from typing import Any

import pytest

from receptance.errors import CheckpointError, ConfigError
from receptance.training import SpikeConfig
from receptance.training.optimization.spikes import SpikeGuard, SpikeState, Verdict, write_spike

N_CALM = 200


def calm_loss(step: int) -> float:
    """Return a loss near 2 that scatters by about 0.07."""
    return 2.0 + 0.1 * math.sin(1.7 * step)


def calm_guard(n_steps: int = N_CALM, **config: Any) -> SpikeGuard:
    guard = SpikeGuard(SpikeConfig(**config))
    for step in range(1, n_steps + 1):
        assert guard.judge(step, calm_loss(step), 1.0).is_applied
    return guard


def actions(guard: SpikeGuard, losses: list[float], first: int = N_CALM + 1) -> list[str]:
    return [guard.judge(step, loss, 1.0).action for step, loss in enumerate(losses, start=first)]


def test_steps_in_proportion_are_applied_and_averaged():
    guard = calm_guard()

    assert guard.state.loss.n_values == guard.state.grad_norm.n_values == N_CALM
    assert guard.loss_average == pytest.approx(2.0, abs=0.02)
    assert guard.state.skipped == ()


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_never_applied(number):
    young = SpikeGuard(SpikeConfig(loss_deviations=0.0, grad_norm_ratio=0.0))

    loss = young.judge(1, number, 1.0)
    norm = young.judge(2, 2.0, number)

    assert loss == Verdict(action="skip", reason=f"the loss is {number}")
    assert norm == Verdict(action="skip", reason=f"the gradient's norm is {number}")
    assert young.state.loss.n_values == 0


def test_a_loss_far_above_its_average_is_skipped_and_not_averaged():
    guard = calm_guard()
    before = guard.state.loss

    verdict = guard.judge(N_CALM + 1, 3.0, 1.0)

    assert verdict.action == "skip"
    assert verdict.reason.startswith("the loss is 3.0000 nats, above ")
    assert verdict.reason.endswith(f"{before.mean:.4f} + 6 × {before.deviation:.4f}")
    assert guard.state.loss == before
    assert guard.state.skipped == (N_CALM + 1,)


def test_the_border_is_so_many_deviations_above_the_average():
    average = calm_guard().state.loss
    border = average.mean + 6 * average.deviation

    assert calm_guard().judge(N_CALM + 1, border * (1 - 1e-9), 1.0).is_applied
    assert not calm_guard().judge(N_CALM + 1, border * (1 + 1e-9), 1.0).is_applied
    assert calm_guard(loss_deviations=12.0).judge(N_CALM + 1, border * 1.01, 1.0).is_applied
    assert calm_guard(loss_deviations=0.0).judge(N_CALM + 1, 1e9, 1.0).is_applied


def test_a_gradient_far_above_its_average_is_skipped():
    assert calm_guard().judge(N_CALM + 1, 2.0, 9.99).is_applied
    assert calm_guard().judge(N_CALM + 1, 2.0, 10.01) == Verdict(
        action="skip", reason="the gradient's norm without the embedding's is 10.01, above 10 × 1"
    )
    assert calm_guard(grad_norm_ratio=0.0).judge(N_CALM + 1, 2.0, 1e9).is_applied


def test_a_loss_that_falls_is_no_spike():
    assert calm_guard().judge(N_CALM + 1, 0.0, 0.0).is_applied


def test_a_loss_that_does_not_scatter_may_still_rise_a_little():
    guard = SpikeGuard(SpikeConfig())
    for step in range(1, N_CALM + 1):
        guard.judge(step, 0.5, 1.0)

    assert guard.judge(N_CALM + 1, 0.51, 1.0).is_applied
    assert not guard.judge(N_CALM + 2, 0.55, 1.0).is_applied


def test_the_embedding_alone_may_have_any_gradient_that_is_finite():
    """A token that is met for the first time has a row that nothing has enlarged."""
    assert calm_guard().judge(N_CALM + 1, 2.0, 1.0, 1e6).is_applied
    assert calm_guard().judge(N_CALM + 1, 2.0, 1.0, math.nan) == Verdict(
        action="skip", reason="the norm of the embedding's gradient is nan"
    )


def test_a_young_run_is_not_judged():
    guard = calm_guard(n_steps=99)
    assert guard.judge(100, 50.0, 50.0).is_applied

    assert not calm_guard(n_steps=100).judge(101, 50.0, 50.0).is_applied


def test_three_skips_within_a_hundred_steps_take_the_run_back_before_the_first():
    guard = calm_guard()
    assert actions(guard, [9.0, 2.0, math.nan]) == ["skip", "apply", "skip"]
    for step in range(N_CALM + 4, N_CALM + 100):
        guard.judge(step, calm_loss(step), 1.0)

    verdict = guard.judge(N_CALM + 100, math.inf, 1.0)

    assert verdict.action == "roll_back"
    assert verdict.before_step == N_CALM + 1
    assert verdict.reason == "the loss is inf; 3 steps from 201 to 300 were skipped"


def test_three_skips_further_apart_do_not():
    guard = calm_guard()
    for step in range(N_CALM + 1, N_CALM + 1000):
        spike = (step - N_CALM) % 50 == 1
        assert guard.judge(step, 9.0 if spike else calm_loss(step), 1.0).action == (
            "skip" if spike else "apply"
        )


def test_the_oldest_skip_that_counts_is_known_until_it_is_too_old():
    guard = calm_guard()
    assert guard.first_skip(N_CALM) is None
    actions(guard, [9.0, 2.0, 9.0])

    assert guard.first_skip(N_CALM + 3) == N_CALM + 1
    assert guard.first_skip(N_CALM + 100) == N_CALM + 1
    assert guard.first_skip(N_CALM + 101) == N_CALM + 3
    assert guard.first_skip(N_CALM + 103) is None


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("roll_back", ["skip", "skip", "roll_back"]),
        ("skip", ["skip", "skip", "stop"]),
        ("stop", ["stop"]),
    ],
)
def test_the_policy_says_how_far_it_goes(policy, expected):
    assert actions(calm_guard(policy=policy), [9.0] * len(expected)) == expected


def test_after_going_back_the_averages_are_those_of_the_checkpoint():
    guard = calm_guard()
    saved = guard.state
    assert actions(guard, [2.1, 9.0, 9.0, 9.0])[-1] == "roll_back"

    guard.go_back(saved)

    assert guard.state.loss == saved.loss
    assert guard.state.grad_norm == saved.grad_norm
    assert guard.state.skipped == ()
    assert (guard.state.rollbacks, guard.state.rolled_back_step) == (1, N_CALM + 4)
    assert actions(guard, [9.0, 9.0]) == ["skip", "skip"]


def test_a_run_that_goes_back_again_and_again_ends():
    guard = calm_guard()
    saved = guard.state
    for _ in range(3):
        assert actions(guard, [9.0] * 3) == ["skip", "skip", "roll_back"]
        guard.go_back(saved)

    verdicts = [guard.judge(N_CALM + n, 9.0, 1.0) for n in (1, 2, 3)]

    assert [verdict.action for verdict in verdicts] == ["skip", "skip", "stop"]
    assert verdicts[-1].reason.endswith("were skipped, and going back 3 times did not help")


def test_a_run_that_got_past_its_trouble_has_all_its_rollbacks_again():
    guard = calm_guard()
    for begin in range(N_CALM, N_CALM + 2000, 200):
        saved = guard.state
        assert actions(guard, [9.0] * 3, begin + 1)[-1] == "roll_back"
        guard.go_back(saved)
        for step in range(begin + 1, begin + 201):
            assert guard.judge(step, calm_loss(step), 1.0).is_applied


def test_a_guard_goes_on_from_its_json_as_if_it_had_never_stopped():
    losses = [calm_loss(step) if step % 40 else 9.0 for step in range(1, 400)]
    losses[150] = math.nan
    whole = SpikeGuard(SpikeConfig())
    verdicts = [whole.judge(step, loss, loss) for step, loss in enumerate(losses, start=1)]

    stopped = SpikeGuard(SpikeConfig())
    for step, loss in enumerate(losses, start=1):
        text = json.dumps(stopped.state.to_json(), allow_nan=False)
        stopped = SpikeGuard(SpikeConfig(), SpikeState.from_json(json.loads(text)))
        assert stopped.judge(step, loss, loss) == verdicts[step - 1]

    assert stopped.state == whole.state
    assert {verdict.action for verdict in verdicts} >= {"apply", "skip", "roll_back"}


@pytest.mark.parametrize("entries", [{}, {"loss": 1}, {"loss": {"mean": 1.0, "colour": 2}}])
def test_entries_that_are_no_state_are_refused(entries):
    with pytest.raises(CheckpointError, match="must hold the averages of the loss and the"):
        SpikeState.from_json(entries)


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [
        ("loss_deviations", -1.0, 0),
        ("grad_norm_ratio", -0.5, 0),
        ("memory_steps", 1, 2),
        ("warmup_steps", -1, 0),
        ("skips_to_roll_back", 0, 1),
        ("within_steps", 0, 1),
        ("max_rollbacks", -1, 0),
    ],
)
def test_impossible_settings_are_refused(name, value, least):
    with pytest.raises(ConfigError, match=f"`spikes.{name}` must be at least {least}, got {value}"):
        SpikeConfig(**{name: value})


def record(folder: Any, first_sample: int, loss: float = 9.0) -> Any:
    verdict = Verdict(action="skip", reason="the loss is 9")
    samples = [{"epoch": 0, "first_token": 128}, {"epoch": 0, "first_token": 64}]
    return write_spike(
        folder, 7, verdict, loss=loss, grad_norm=1.5, first_sample=first_sample, samples=samples
    )


def test_a_spike_is_recorded_with_its_samples(tmp_path):
    path = record(tmp_path, 24)

    assert path == tmp_path / "spike-00000007.json"
    assert json.loads(path.read_text()) == {
        "step": 7, "action": "skip", "reason": "the loss is 9", "loss": 9.0, "grad_norm": 1.5,
        "first_sample": 24,
        "samples": [{"epoch": 0, "first_token": 128}, {"epoch": 0, "first_token": 64}],
    }  # fmt: skip
    assert json.loads(record(tmp_path, 24, loss=math.nan).read_text())["loss"] is None


def test_a_step_done_again_is_recorded_once_but_with_other_samples_twice(tmp_path):
    paths = [record(tmp_path, first) for first in (24, 24, 40, 40)]

    assert [path.name for path in paths[1:3]] == [
        "spike-00000007.json",
        "spike-00000007-from-40.json",
    ]
    assert sorted(tmp_path.iterdir()) == sorted(set(paths))
