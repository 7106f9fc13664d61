"""The curves of runs are drawn wherever they are asked for, or it is said why not."""

import json
import sys
from pathlib import Path

import pytest


def make_run(folder: Path, n_steps: int = 60) -> Path:
    folder.mkdir(parents=True)
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(1, n_steps + 1):
            line = {
                "step": step, "tokens": 64 * step, "loss": 1 + 4 / step, "lr": 1e-3,
                "grad_norm": 2 / step, "tokens_per_s": 900.0 + step, "seconds": 0.5 * step,
            }  # fmt: skip
            file.write(json.dumps(line) + "\n")
    return folder


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with the runs `one` and `two`."""
    for name in ("one", "two"):
        make_run(tmp_path / "runs" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("place")
def test_a_run_that_was_trained_is_drawn(receptance):
    assert receptance("train", "run.toml").code == 0

    result = receptance("plot", "runs/tiny")

    assert result.code == 0
    assert result.stderr == ""
    assert result.stdout.startswith("⠤⠤⠤ tiny: step 12, 768 tokens, loss ")
    for title in ("loss, nats a token", "bits per byte", "learning rate", "tokens per second"):
        assert title in result.stdout


@pytest.mark.usefixtures("runs")
def test_a_run_is_known_by_its_name_or_its_folder(receptance):
    by_name, by_path = receptance("plot", "one"), receptance("plot", "runs/one")

    assert by_name == by_path
    assert by_name.stdout.startswith("⠤⠤⠤ one: step 60, 3,840 tokens, loss ")


@pytest.mark.usefixtures("runs")
def test_several_runs_are_drawn_over_each_other_each_once(receptance):
    result = receptance("plot", "one", "two", "runs/one")

    heads = [line for line in result.stdout.splitlines() if ": step 60" in line]
    assert [head.split()[1] for head in heads] == ["one:", "two:"]


def test_runs_of_one_name_are_told_by_their_paths(receptance, runs):
    make_run(runs / "elsewhere" / "one")

    result = receptance("plot", "one", "elsewhere/one")

    assert " runs/one: step" in result.stdout
    assert " elsewhere/one: step" in result.stdout


@pytest.mark.usefixtures("runs")
@pytest.mark.parametrize(
    ("x", "label"), [("step", "steps"), ("tokens", "tokens"), ("seconds", "seconds of training")]
)
def test_what_runs_to_the_right_can_be_chosen(receptance, x, label):
    assert f" {label}\n" in receptance("plot", "one", "--x", x).stdout


@pytest.mark.usefixtures("runs")
def test_a_pipe_gets_lines_of_one_width_without_colours(receptance):
    result = receptance("plot", "one", "two")

    assert "\x1b" not in result.stdout
    assert max(len(line) for line in result.stdout.splitlines()) == 100


@pytest.mark.parametrize("name", ["curves.png", "curves.svg"])
def test_a_picture_is_written_and_its_place_told(receptance, runs, name):
    result = receptance("plot", "one", "two", "--out", name)

    assert (result.code, result.stdout, result.stderr) == (0, "", f"drawn: {name}\n")
    assert (runs / name).stat().st_size > 10_000


@pytest.mark.parametrize("name", ["curves.gif", "curves", "png"])
def test_another_kind_of_picture_is_wrong_usage(receptance, runs, name):
    result = receptance("plot", "one", "--out", name)

    assert result.code == 2
    assert f"--out must end with .png or .svg, got '{name}'" in result.stderr
    assert not (runs / name).exists()


def test_without_matplotlib_the_terminal_is_offered(receptance, runs, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    result = receptance("plot", "one", "--out", "x.png")

    assert result.code == 1
    assert result.stderr == (
        "error: a picture is drawn by matplotlib, which is not installed; install it with "
        "`pip install 'receptance[plot]'`, or draw in the terminal, without --out\n"
    )
    assert not (runs / "x.png").exists()
    assert receptance("plot", "one").code == 0


def test_a_run_that_is_not_there_is_told_with_those_that_are(receptance, runs):
    result = receptance("plot", "three")

    assert result.code == 3
    assert result.stderr == (
        "error: a run must be a folder, or one in 'runs', but 'three' is not; there are one, two\n"
    )
    for name in ("one", "two"):
        (runs / "runs" / name / "metrics.jsonl").unlink()
        (runs / "runs" / name).rmdir()
    assert receptance("plot", "three").stderr.endswith("'three' is not; there is none\n")


def test_a_run_without_figures_is_told(receptance, runs):
    (runs / "empty").mkdir()
    begun = make_run(runs / "begun", n_steps=0)

    result = receptance("plot", "one", "empty")
    assert result.code == 3
    assert result.stderr.endswith("must have a file 'empty/metrics.jsonl', but there is none\n")
    result = receptance("plot", str(begun))
    assert result.code == 3
    assert "a run must have done a step to be drawn, but " in result.stderr


def test_a_name_cannot_act_on_the_terminal(receptance, runs):
    make_run(runs / "runs" / "x\x1b[2Jy")

    result = receptance("plot", "x\x1b[2Jy")

    assert "\x1b" not in result.stdout
    assert r"x\x1b[2Jy: step 60" in result.stdout


def test_a_terminal_that_has_no_braille_gets_ascii(start, runs, monkeypatch):
    del runs
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    with start("plot", "one") as process:
        drawn = process.stdout.read()

    assert drawn.isascii()
    assert "loss, nats a token" in drawn
