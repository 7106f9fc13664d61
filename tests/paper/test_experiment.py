"""An experiment leaves a file and a picture, from which its section can be told again."""

import json

import pytest

from paper.harness import Experiment, main, new_figure


def draw(found):
    figure, axes = new_figure()
    axes[0, 0].plot(found["x"], found["x"])
    return figure


EXPERIMENT = Experiment(
    name="made_up",
    title="Figure 0",
    claim="Three is three.",
    differs="Nothing.",
    measure=lambda options: {"x": [1, 2, 3], "scale": options.scale},
    section=lambda found: f"x is {found['x']}",
    draw=draw,
)


def test_a_result_says_what_was_found_by_which_command_and_on_what(tmp_path, capsys):
    assert main(EXPERIMENT, ["--scale", "quick", "--work", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "results" / "made_up.json").read_text())
    assert result["found"] == {"x": [1, 2, 3], "scale": "quick"}
    assert result["command"] == "python -m paper.made_up --scale quick"
    assert set(result["versions"]) == {"receptance", "torch", "python"}
    assert result["machine"]["cores"] >= 1
    assert (tmp_path / "results" / "made_up.png").read_bytes().startswith(b"\x89PNG")
    assert "x is [1, 2, 3]" in capsys.readouterr().out


def test_a_figure_is_drawn_anew_without_measuring(tmp_path):
    main(EXPERIMENT, ["--scale", "quick", "--work", str(tmp_path)])
    picture = tmp_path / "results" / "made_up.png"
    before = picture.read_bytes()
    picture.unlink()

    def measured(_options):
        raise AssertionError

    again = Experiment(**{**vars(EXPERIMENT), "measure": measured})
    assert main(again, ["--scale", "quick", "--work", str(tmp_path), "--redraw"]) == 0
    assert picture.read_bytes() == before


def test_a_scale_that_an_experiment_does_not_know_is_refused(tmp_path):
    with pytest.raises(SystemExit):
        main(EXPERIMENT, ["--scale", "paper", "--work", str(tmp_path)])
