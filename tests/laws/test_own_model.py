"""Anybody's model is fine-tuned, and no adapter is lost on the way, or what is wrong is said.

Each test answers complaints that users of other trainers wrote down.
"""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from receptance.checkpoint import convert_model, load_checkpoint, save_model
from receptance.cli.training_run import run_training
from receptance.data import prepare
from receptance.errors import CheckpointError
from receptance.inference import load
from receptance.tokenizer import load_tokenizer
from receptance.training import ADAPTER_FILE, read_config
from tests.random_models import random_rwkv4
from tests.tolerances import FLOAT32_LOGITS

RUN = """
name = "own"
model = { n_layer = 2, n_embd = 32 }
data = { store = "store", ctx_len = 16, batch_size = 4 }
training = { steps = 2, precision = "float32", init_from = "base" }
finetune = { method = "lora" }
every = { checkpoint_steps = 0, sample_steps = 0, validation_steps = 0 }
"""
MATRICES = ("att.key", "att.value", "att.receptance", "att.output", "ffn.key", "ffn.receptance")
FORMATS = {"native": "native", "official": "o.pth", "huggingface": "hf", "ggml": "g.bin"}
PROMPT = list(b"the cat")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base in all formats, a store and a run."""
    place = tmp_path_factory.mktemp("made")
    save_model(random_rwkv4(2, 32, 256), load_tokenizer("bytes"), place / "base")
    for to, name in FORMATS.items():
        convert_model(place / "base", place / name, to=to, tokenizer="bytes")
    (place / "text.txt").write_text("the cat sat on the mat and the dog ate the hat. " * 9)
    prepare([place / "text.txt"], "bytes", place / "store", valid_fraction=0.0)
    (place / "run.toml").write_text(RUN)
    return place


@pytest.fixture(autouse=True)
def _there(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)


def train(run: Path, *settings: str) -> Path:
    """Train in a folder and return the adapter's file, if there is one."""
    outcome = run_training(read_config(Path("run.toml"), settings), run, resume="never")
    return outcome.model_folder.with_name(ADAPTER_FILE)


@pytest.mark.parametrize("target", [*MATRICES, "ffn.value"])
def test_an_adapter_of_any_matrix_is_merged(tmp_path, target):
    """Joluck/RWKV-PEFT#54, josStorer/RWKV-Runner#217: merging ended in a KeyError."""
    adapter = train(tmp_path / "run", f'finetune.targets=["{target}"]')
    convert_model("base", tmp_path / "merged", adapter=adapter)

    before = load_checkpoint("base").model.state_dict()
    after = load_checkpoint(tmp_path / "merged").model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"blocks.{layer}.{target}.weight" for layer in range(2)}


@pytest.fixture(scope="module")
def adapter(made: Path) -> Path:
    """An adapter of the base that changes what it says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        return train(made / "adapted", "optimizer.lr=1e-1").absolute()


@pytest.mark.parametrize("to", list(FORMATS))
def test_no_format_is_merged_into_without_the_adapter(adapter, tmp_path, to):
    """RWKV/rwkv.cpp#51: a merge said that it was done, and the model was the one of before."""
    merged = tmp_path / FORMATS[to]
    convert_model("base", merged, to=to, adapter=adapter)

    expected = load("base", adapter=adapter).forward(PROMPT)[0]
    found = load(merged, tokenizer="bytes").forward(PROMPT)[0]
    assert (found - expected).abs().max() < FLOAT32_LOGITS
    assert (found - load("base").forward(PROMPT)[0]).abs().max() > 0.1


@pytest.mark.parametrize(
    "name", ["base_model.model.blocks.0.att.key.lora_A.weight", "blocks.0.att.key.lora_A"]
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_an_adapter_of_another_tool_is_refused_and_not_passed_over(tmp_path, name, suffix):
    """RWKV/rwkv.cpp#51: of a file with other names nothing was found, and nothing was said."""
    foreign = tmp_path / f"foreign{suffix}"
    tensors = {name: torch.ones(2, 32), name.replace("lora_A", "lora_B"): torch.ones(32, 2)}
    save_file(tensors, foreign) if suffix == ".safetensors" else torch.save(tensors, foreign)

    with pytest.raises(CheckpointError, match=r"must be (an adapter|a safetensors file)"):
        convert_model("base", tmp_path / "merged", adapter=foreign)
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("base", list(FORMATS.values()))
def test_a_base_of_any_format_gets_a_state_and_takes_it(tmp_path, base):
    """Joluck/RWKV-PEFT#67: state tuning failed; Blealtan/RWKV-LM-LoRA#53: not of this base."""
    train(tmp_path / "run", f"training.init_from={base}", "finetune.method=state")

    lm = load(base, tokenizer="bytes")
    state = lm.load_state(tmp_path / "run" / "model" / "initial_state.safetensors")
    tuned = load(tmp_path / "run" / "model").forward(PROMPT)[0]
    assert torch.equal(lm.forward(PROMPT, state)[0], tuned)
    assert not torch.equal(lm.forward(PROMPT)[0], tuned)


def test_an_adapter_is_trained_over_samples_longer_than_a_step(tmp_path):
    """Joluck/RWKV-PEFT#60, #81: training over many contexts and an adapter did not go together."""
    adapter = train(tmp_path / "run", "data.segments=2", "training.checkpoint_layers=true")
    merged = load("base", adapter=adapter).forward(PROMPT)[0]
    assert not torch.equal(merged, load("base").forward(PROMPT)[0])
