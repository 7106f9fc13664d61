"""The demo's recipe is a run, and its report sets the model beside two compressors."""

import gzip
import re
import sys
from pathlib import Path

import pytest

from receptance.cli.demo import demo_config, run_demo
from receptance.data import standard_library
from receptance.training import read_config


def test_its_recipe_is_a_run_on_the_store(tmp_path):
    config = demo_config(tmp_path / "a folder" / "tokens")

    assert config.data.store == str(tmp_path / "a folder" / "tokens")
    assert config.name == "demo"
    assert config.model.build(4096).n_parameters < 20e6


@pytest.mark.usefixtures("place")
def test_it_trains_and_measures_held_out_files_by_model_and_by_compressor(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(sys, "argv", ["receptance"])
    library = tmp_path / "library"
    library.mkdir()
    for index in range(6):
        (library / f"module{index}.py").write_text(f"def f{index}(x):\n    return x\n" * 200)
    corpus = standard_library(n_held_out=2, folder=library)
    config = read_config(Path("run.toml"), [f"data.store={tmp_path / 'demo' / 'tokens'}"])

    outcome = run_demo(corpus, config, tmp_path / "demo", vocab_size=300)

    out = capsys.readouterr().out
    texts = [path.read_bytes() for path in corpus.held_out]
    n_bytes = sum(map(len, texts))
    bits = 8 * sum(len(gzip.compress(text, 9)) for text in texts) / n_bytes
    assert f"bits per byte of 2 files that it never saw ({n_bytes:,} bytes):" in out
    assert re.search(rf"gzip -9, each file alone +{bits:.3f}\n", out)
    assert re.search(r"RWKV-4 of 0\.0 M +\d\.\d{3}\n", out)
    assert "it writes:" in out
    assert f"receptance generate {outcome.model_folder}" in out
