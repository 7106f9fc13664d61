"""The guides about models and runs of one's own are followed word by word.

Their shell, Python and TOML blocks are run in order, in one folder, with a small model in place of
the one that `receptance demo` trains, and each `text` block must be in what the commands before it
said. One thing is changed: the runs of the guides take the few steps of `FEWER`.
"""

import io
import re
import shlex
import shutil
import sys
import tomllib
from contextlib import redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from receptance.checkpoint import save_model
from receptance.data import prepare
from receptance.models import RWKV4Config, build
from receptance.tokenizer import train_bpe
from receptance.training import list_checkpoints, parse_config
from tests.data.binidx_files import write_binidx

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
FEWER = ["training.steps=2", "schedule.warmup_steps=1", "every.sample_tokens=9"]

LAYERS = (
    *("att.key", "att.value", "att.receptance", "att.output"),
    *("ffn.key", "ffn.receptance", "ffn.value"),
)

COPIED = """
name = "copied"
model = { n_layer = 1, n_embd = 16 }
data = { store = "stores/copied", ctx_len = 16, batch_size = 4 }
training = { steps = 10, precision = "float32" }
every = { checkpoint_steps = 4, keep_checkpoints = 3 }
"""


class Block(NamedTuple):
    """A fenced block of a guide."""

    language: str
    text: str


def blocks_of(guide: str) -> list[Block]:
    """Return the fenced blocks of a guide, in their order."""
    text = (GUIDES / guide).read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [Block(*each) for each in found]


class Reader:
    """Somebody who does what a guide says."""

    def __init__(self, receptance, monkeypatch: pytest.MonkeyPatch) -> None:
        self.receptance = receptance
        self.monkeypatch = monkeypatch
        self.entries: dict[str, object] = {}
        self.said = ""

    def follow(self, guide: str) -> None:
        """Run each block; what fails fails the test."""
        for block in blocks_of(guide):
            getattr(self, block.language)(block.text)

    def sh(self, text: str) -> None:
        """Run each command in this process; it may have lines in quotes, and an echo before it."""
        self.said = ""
        for command in re.split(r"\n(?=receptance|echo)", text.strip()):
            said, bar, piped = command.rpartition(" | ")
            entered = shlex.split(said)[1] + "\n" if bar else ""
            name, *args = shlex.split(piped)
            assert name == "receptance", command
            if args[0] == "train" and "/" not in args[1]:
                args += FEWER
            self.monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(entered.encode())))
            result = self.receptance(*args)
            assert result.code == 0, f"{command}\n{result.stderr}"
            self.said += result.stdout + result.stderr

    def python(self, text: str) -> None:
        """Run a program."""
        with redirect_stdout(io.StringIO()):
            exec(compile(text, "guide", "exec"), {"__name__": "__main__"})

    def toml(self, text: str) -> None:
        """Write the run that a comment names, or see that its tables fit the one before."""
        entries = tomllib.loads(text)
        if text.startswith("# "):
            Path(text.split()[1]).write_text(text)
            self.entries = entries
        assert parse_config({**self.entries, **entries}, "guide")

    def text(self, text: str) -> None:
        """See that the commands said this, however wide their columns were."""
        said = " ".join(self.said.split())
        for line in text.splitlines():
            assert " ".join(line.split()) in said


@pytest.fixture
def reader(receptance, monkeypatch, tmp_path, demo) -> Reader:
    """Return somebody in a folder where `receptance demo` was run."""
    shutil.copytree(demo, tmp_path / "runs" / "demo" / "model")
    monkeypatch.chdir(tmp_path)
    return Reader(receptance, monkeypatch)


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """Return a model of the demo's shape that was not trained, with a tokenizer of a few words."""
    folder = tmp_path_factory.mktemp("demo") / "model"
    torch.manual_seed(1)
    model = build(RWKV4Config(n_layer=5, n_embd=192, vocab_size=4096))
    model.init_weights()
    save_model(model, train_bpe(["Goran of Oslo is 31 years old.\n" * 9], 300), folder)
    return folder


def test_a_model_is_fine_tuned_as_the_guide_says(reader):
    reader.follow("fine-tuning.md")

    base, tuned = Path("runs/demo/model"), Path("runs/mine-state/model")
    weights = [(each / "model.safetensors").read_bytes() for each in (base, tuned)]
    assert weights[0] == weights[1]
    merged, plain = (load_file(each / "model.safetensors") for each in (Path("merged"), base))
    changed = {name for name in plain if not torch.equal(merged[name], plain[name])}
    assert changed == {f"blocks.{layer}.{each}.weight" for layer in range(5) for each in LAYERS}


def test_a_model_is_made_to_answer_as_the_guide_says(reader):
    reader.follow("answering-in-your-format.md")

    assert Path("runs/answers/model/initial_state.safetensors").stat().st_size < 25_000


def test_the_run_of_somebody_else_goes_on_as_the_guide_says(reader, demo, tmp_path):
    reader.receptance("convert", demo, "theirs.pth", "--to", "official")
    reader.receptance("convert", demo, "theirs-hf", "--to", "huggingface")
    shutil.copy(demo / "tokenizer.json", tmp_path)
    write_binidx(tmp_path / "theirs.idx", [[5, 6, 7] * 200, [8, 9] * 400])
    whole = copied_run(reader, tmp_path)

    reader.follow("continuing-a-run.md")

    again = (tmp_path / "runs" / "copied" / "model" / "model.safetensors").read_bytes()
    assert again == whole
    assert 'order = "authors"' in Path("runs/continued/config.toml").read_text()


def copied_run(reader: Reader, place: Path) -> bytes:
    """Put a run there that was stopped, and return the weights that it would have come to."""
    (place / "text.txt").write_text("the cat sat on the mat and the dog ate the hat. " * 9)
    prepare([place / "text.txt"], "bytes", place / "stores" / "copied", valid_fraction=0.0)
    (place / "copied.toml").write_text(COPIED)
    assert reader.receptance("train", "copied.toml").code == 0
    folder = place / "runs" / "copied"
    whole = (folder / "model" / "model.safetensors").read_bytes()
    shutil.rmtree(folder / "model")
    for later in list_checkpoints(folder / "checkpoints")[1:]:
        shutil.rmtree(later)
    return whole


@pytest.mark.parametrize("said", ["receptance none", "receptance train none.toml"])
def test_a_command_that_fails_is_not_passed_over(reader, said):
    with pytest.raises(AssertionError, match="none"):
        reader.sh(said)


def test_an_output_that_is_not_there_is_not_passed_over(reader):
    reader.sh("receptance inspect runs/demo/model")
    reader.text("vocab_size 4096\n")
    with pytest.raises(AssertionError):
        reader.text("vocab_size 4097\n")
