"""A run is told in plain lines, and on a terminal in a panel."""

import io
import math
from typing import Any

import pytest
from rich.console import Console

from receptance.cli.panel import TrainingPanel
from receptance.training import Metrics


def metrics(step: int, **changed: Any) -> Metrics:
    figures: dict[str, Any] = {
        "step": step,
        "tokens": 64 * step,
        "loss": 2.0,
        "lr": 3e-4,
        "grad_norm": 0.5,
        "tokens_per_s": 12345.6,
        "flops_per_s": 7e9,
        "memory_bytes": 2_500_000_000,
        "seconds": 2.0 * step,
    }
    return Metrics(**figures | changed)


def screen(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=80, color_system=None)


def written(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def last_panel(console: Console) -> str:
    return written(console).split("╭")[-1]


def test_without_a_terminal_a_step_is_one_plain_line():
    console = screen(terminal=False)

    with TrainingPanel("tiny", 100, console) as panel:
        panel.log(metrics(1))

    assert written(console) == (
        "step 1/100: loss 2.0000 nats, 12,346 tokens/s, lr 3.00e-04, 3:18 left\n"
    )


def test_plain_lines_are_few_but_held_out_text_and_the_last_step_have_theirs():
    console = screen(terminal=False)

    with TrainingPanel("tiny", 9, console) as panel:
        for step in range(1, 10):
            panel.log(metrics(step, valid_bits_per_byte=1.25 if step == 5 else None))

    lines = written(console).splitlines()
    assert [line.split(":")[0] for line in lines] == ["step 1/9", "step 5/9", "step 9/9"]
    assert lines[1].endswith("left, held out 1.2500 bits per byte")
    assert "held out" not in lines[2]
    assert "0:00 left" in lines[2]


def test_a_held_out_text_that_costs_nothing_is_told_too():
    console = screen(terminal=False)

    with TrainingPanel("tiny", 9, console) as panel:
        panel.log(metrics(1))
        panel.log(metrics(2, valid_bits_per_byte=0.0))

    assert "step 2/9" in written(console)
    assert "held out 0.0000 bits per byte" in written(console)


def test_on_a_terminal_the_panel_has_all_figures():
    console = screen(terminal=True)

    with TrainingPanel("tiny", 2000, console) as panel:
        panel.log(metrics(1000, valid_bits_per_byte=1.2345))

    shown = last_panel(console)
    for words in (
        "training tiny",
        "1,000 of 2,000",
        "2.0000 nats",
        "12,346 tokens/s",
        "7 GFLOP/s",
        "33:20",
        "2.50 GB",
        "3.00e-04",
        "1.2345 bits per byte",
    ):
        assert words in shown


def test_the_loss_is_the_average_and_the_held_out_figure_stays():
    console = screen(terminal=True)

    with TrainingPanel("tiny", 10, console) as panel:
        panel.log(metrics(1, loss=3.0, loss_average=3.0, valid_bits_per_byte=1.5))
        panel.log(metrics(2, loss=float("nan"), loss_average=2.75))

    assert "2.7500 nats" in last_panel(console)
    assert "1.5000 bits per byte" in last_panel(console)


@pytest.mark.parametrize(("has_held_out", "told"), [(True, "not yet"), (False, "none")])
def test_a_run_without_held_out_text_says_so(has_held_out, told):
    console = screen(terminal=True)

    with TrainingPanel("tiny", 10, console, has_held_out=has_held_out) as panel:
        panel.log(metrics(1, saved="step-00000001"))

    assert f"held out   {told}" in last_panel(console)


def test_the_panel_tells_the_share_of_the_peak_and_where_the_time_goes():
    console = screen(terminal=True)
    parts = {
        "data_s": 0.001,
        "forward_s": 0.06,
        "backward_s": 0.12,
        "optimizer_s": 0.02,
        "communication_s": 0.0,
    }

    with TrainingPanel("tiny", 10, console) as panel:
        panel.log(metrics(1, flops_share=0.612, **parts))

    assert "7 GFLOP/s, 61% of peak" in last_panel(console)
    assert "0.201 s: forward 30%, backward 60%, optimizer 10%" in last_panel(console)


def test_the_time_left_is_what_the_run_says():
    console = screen(terminal=False)

    with TrainingPanel("tiny", 100, console) as panel:
        panel.log(metrics(1, seconds_left=3725.0))

    assert ", 1:02:05 left" in written(console)


def test_the_panel_keeps_the_last_skipped_step_and_the_last_checkpoint():
    console = screen(terminal=True)

    with TrainingPanel("tiny", 10, console) as panel:
        panel.log(metrics(4, saved="step-00000004"))
        panel.log(metrics(5, skipped="the loss is nan"))
        panel.log(metrics(6, skipped="the loss is inf"))
        panel.log(metrics(7))

    assert "saved       step-00000004" in last_panel(console)
    assert "skipped     2, the last at step 6: the loss is inf" in last_panel(console)


def test_a_checkpoint_that_failed_is_told_until_one_is_saved():
    console = screen(terminal=True)

    with TrainingPanel("tiny", 10, console) as panel:
        panel.log(metrics(4, save_failed="the disk is full"))
        panel.log(metrics(5))
        assert "saved       not yet" not in last_panel(console)
    assert "saved       failed: the disk is full" in last_panel(console)

    with TrainingPanel("tiny", 10, console) as panel:
        panel.log(metrics(4, save_failed="the disk is full"))
        panel.log(metrics(5, saved="step-00000005"))
    assert "saved       step-00000005" in last_panel(console)


def test_without_a_terminal_what_goes_wrong_has_a_line_at_once():
    console = screen(terminal=False)

    with TrainingPanel("tiny", 100, console) as panel:
        panel.log(metrics(1))
        panel.log(metrics(2, skipped="the loss is nan"))
        panel.log(metrics(3))
        panel.log(metrics(4, save_failed="no\x1bspace"))
        panel.log(metrics(2, rolled_back_from=9))

    lines = written(console).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "step 1/100",
        "step 2/100",
        "step 4/100",
        "step 2/100",
    ]
    assert lines[1].endswith(" left, skipped: the loss is nan")
    assert lines[2].endswith(r" left, saving failed: no\x1bspace")
    assert lines[3].endswith(" left, went back here from step 9")


@pytest.mark.parametrize("terminal", [True, False])
def test_of_several_ranks_only_one_shows_the_run(terminal, capsys, monkeypatch):
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")

    with TrainingPanel("tiny", 10, is_shown=False) as panel:
        panel.log(metrics(1))
        panel.message("going on")

    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_before_the_first_step_there_is_no_figure():
    console = screen(terminal=True)

    with TrainingPanel("tiny", 10, console):
        pass

    assert "the first step" in last_panel(console)
    assert "nats" not in written(console)


def test_a_panel_that_was_asked_to_stop_says_so():
    console = screen(terminal=True)

    with TrainingPanel("tiny", 10, console) as panel:
        panel.log(metrics(1))
        panel.stopping()

    assert "training tiny: stopping after this step" in last_panel(console)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_message_cannot_act_on_the_terminal(terminal):
    console = screen(terminal=terminal)

    with TrainingPanel("tiny", 10, console) as panel:
        panel.message("[bold]a\tb\nné \x1b[2J\x07\x9b1m")

    assert "\x1b[2J" not in written(console)
    assert not {"\x07", "\x9b"} & set(written(console))
    assert r"né \x1b[2J\x07\x9b1m" in written(console)
    assert "[bold]a" in written(console)


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.4, "0:00"), (59.0, "0:59"), (61.0, "1:01"), (3600.0, "1:00:00"), (90061.0, "25:01:01")],
)
def test_the_time_left_is_that_of_as_many_steps_again(seconds, told):
    console = screen(terminal=False)

    with TrainingPanel("tiny", 2, console) as panel:
        panel.log(metrics(1, seconds=seconds))

    assert f", {told} left" in written(console)


def test_a_name_is_shown_as_it_is():
    console = screen(terminal=True)

    with TrainingPanel("[red]x[/red]", 10, console):
        pass

    assert "training [red]x[/red]" in last_panel(console)


@pytest.mark.parametrize("terminal", [False, True])
def test_the_figures_of_each_source_are_told(terminal):
    console = screen(terminal=terminal)
    sources = {"prose": 1.5, "[red]code": 2.75}

    with TrainingPanel("tiny", 2, console) as panel:
        panel.log(metrics(1, loss_by_source=sources))
        panel.log(
            metrics(
                2,
                loss_by_source={"prose": 1.25},
                valid_bits_per_byte=1.125,
                valid_bits_per_byte_by_source={"prose": 0.5, "[red]code": 2.0},
            )
        )

    told = last_panel(console) if terminal else written(console)
    assert "1.1250 bits per byte" in told
    assert "prose 0.5000, [red]code 2.0000" in told
    if terminal:
        # A source that this step did not see has its last loss.
        assert "prose 1.2500, [red]code 2.7500" in told


def test_a_step_of_which_no_token_counts_has_no_loss():
    console = screen(terminal=False)

    with TrainingPanel("tiny", 9, console) as panel:
        panel.log(metrics(1, loss=math.nan, skipped="no token of the batch counts"))
        panel.log(metrics(2, loss=math.nan, loss_average=2.5, skipped="no token of the batch"))
        panel.log(metrics(3, loss=math.nan, skipped="the loss is nan"))

    assert "step 1/9: loss -, " in written(console)
    assert "step 2/9: loss 2.5000 nats, " in written(console)
    # One that diverged has one, which must be seen.
    assert "step 3/9: loss nan nats, " in written(console)
