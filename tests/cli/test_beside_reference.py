"""`receptance plot --reference` draws runs beside the curves of their recipe, and judges them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from receptance.cli.demo import demo_config
from receptance.cli.run_reference import read_references
from receptance.training import RunConfig, config_to_toml, read_config
from tests.policy.source_tree import ROOT


def make_run(folder: Path, config: RunConfig, values: list[float], every: int) -> None:
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(config_to_toml(config))
    with (folder / "metrics.jsonl").open("w") as file:
        for step in range(1, every * len(values) + 1):
            line = {
                "step": step, "tokens": 2048 * step, "loss": 3.0, "lr": 1e-3, "grad_norm": 1.0,
                "bits_per_byte": values[(step - 1) // every], "tokens_per_s": 900.0,
                "seconds": 0.5 * step,
            }  # fmt: skip
            file.write(json.dumps(line) + "\n")


@pytest.fixture
def demo_run(tmp_path, monkeypatch):
    """The settings of a run of the demo on a text of the references, and its reference."""
    monkeypatch.chdir(tmp_path)
    (reference,) = (each for each in read_references() if each.recipe == "demo")
    config = demo_config(tmp_path / "tokens")
    sha = reference.runs[0]["store_sha256"]
    return replace(config, data=replace(config.data, store_sha256=sha)), reference


def test_a_run_within_the_band_is_drawn_with_it_and_said_to_be(receptance, demo_run):
    config, reference = demo_run
    make_run(Path("runs/mine"), config, list(reference.training().mean), reference.window)

    result = receptance("plot", "mine", "--reference")

    assert (result.code, result.stderr) == (0, "")
    assert "reference runs of demo: mean and band" in result.stdout
    drawing = result.stdout.splitlines()
    titles = [line for line in drawing if line.startswith(("bits per byte", "loss, nats"))]
    assert titles[0].startswith("bits per byte")
    assert drawing[-1] == "  Within the band, as far as it is."


def test_a_run_beyond_the_band_is_said_to_be_in_a_picture_too(receptance, demo_run):
    config, reference = demo_run
    values = [1.5 * each for each in reference.training().mean]
    make_run(Path("runs/mine"), config, values, reference.window)

    result = receptance("plot", "mine", "--reference", "--out", "curves.png", "--x", "tokens")

    assert result.stderr == "drawn: curves.png\n"
    assert result.stdout.splitlines()[-1] == "  Not within the band."
    assert Path("curves.png").stat().st_size > 10_000


def test_a_run_of_a_published_shape_is_set_beside_its_losses(receptance, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = read_config(ROOT / "recipes" / "rwkv4-169m-pile.toml")
    make_run(Path("runs/pile"), config, [1.0, 0.9], 10)

    result = receptance("plot", "pile", "--reference")

    assert result.code == 0
    assert "2.5355 nats a token after 332 G tokens" in result.stdout
    assert "Not judged: these are points" in result.stdout


def test_seconds_of_another_machine_are_no_reference(receptance, demo_run):
    config, _ = demo_run
    make_run(Path("runs/mine"), config, [3.0], 10)
    result = receptance("plot", "mine", "--reference", "--x", "seconds")
    assert result.code == 2
    assert "--reference needs --x step or tokens" in result.stderr
