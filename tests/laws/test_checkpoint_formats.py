"""A model is the same in every format, whatever way it took there.

Every chain of the four formats gives the same bytes, but for the time_decay of a file of rwkv.cpp,
which holds -exp of it.
"""

from itertools import permutations
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from receptance.checkpoint import convert_model, load_checkpoint, save_model
from receptance.models import RWKV4
from receptance.quantization import dequantized_tensor
from receptance.tokenizer import load_tokenizer
from tests.huggingface_folders import with_large_stream
from tests.oracles import AuthorsOracle
from tests.random_models import random_rwkv4, random_tokens

FOREIGN = ("official", "huggingface", "ggml")
V = 256

# What a float32 of log(exp(t)) may be off by; see checkpoint/formats/log_decay.py.
DECAY = 1e-6


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def target(folder: Path, name: str) -> Path:
    return folder / {"official": "m.pth", "ggml": "m.bin", "huggingface": "hf"}.get(name, name)


def through(model: RWKV4, formats: tuple[str, ...], folder: Path) -> Path:
    """Return the model folder that comes of converting a model to each format, and back."""
    save_model(model, load_tokenizer("bytes"), folder / "first")
    at = folder / "first"
    for format in formats:
        convert_model(at, target(folder, format), to=format)
        at = target(folder, format)
    convert_model(at, folder / "last")
    return folder / "last"


@pytest.mark.parametrize("formats", [*permutations(FOREIGN), *((each,) for each in FOREIGN)])
def test_every_chain_of_formats_gives_the_same_bytes(formats, tmp_path):
    model = random_rwkv4(n_layer=2, n_embd=64, vocab_size=V)

    last = weights_of(through(model, formats, tmp_path))

    first = weights_of(tmp_path / "first")
    assert last.keys() == first.keys()
    for name, weight in last.items():
        if name.endswith("time_decay") and "ggml" in formats:
            assert float((weight - first[name]).abs().max()) <= DECAY, name
        else:
            assert torch.equal(weight.view(torch.int32), first[name].view(torch.int32)), name


@pytest.mark.parametrize(
    ("n_layer", "n_embd"),
    [
        (2, 64),
        (4, 128),
        pytest.param(7, 96, marks=pytest.mark.slow),
        pytest.param(12, 768, marks=pytest.mark.slow),
    ],
)
def test_the_logits_are_those_of_the_programs_whose_formats_they_are(n_layer, n_embd, tmp_path):
    transformers = pytest.importorskip("transformers", reason="needs the transformers oracle")
    model = random_rwkv4(n_layer=n_layer, n_embd=n_embd, vocab_size=V)
    last = through(model, FOREIGN, tmp_path)
    tokens = random_tokens(1, 40, V)

    ours = load_checkpoint(last).model(tokens)[0][0]
    hf = transformers.AutoModelForCausalLM.from_pretrained(target(tmp_path, "huggingface"))
    with torch.no_grad():
        theirs = hf.eval()(tokens).logits[0]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    authors, _ = AuthorsOracle(target(tmp_path, "official"))(tokens)
    torch.testing.assert_close(ours, authors, rtol=0, atol=1e-4)
    for format in FOREIGN:
        found = load_checkpoint(target(tmp_path, format)).model(tokens)[0][0]
        # A decay that went through its logarithm changes the last digits.
        torch.testing.assert_close(found, ours, rtol=0, atol=1e-4)


def test_a_folder_in_float16_is_halved_so_that_transformers_does_not_overflow(tmp_path):
    transformers = pytest.importorskip("transformers", reason="needs the transformers oracle")
    model = with_large_stream(random_rwkv4(n_layer=7, n_embd=64, vocab_size=V))
    save_model(model, load_tokenizer("bytes"), tmp_path / "first")
    convert_model(tmp_path / "first", tmp_path / "hf", to="huggingface", dtype="float16")

    hf = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf", dtype=torch.float32)
    assert hf.config.rescale_every == 6
    tokens = random_tokens(1, 40, V)
    with torch.no_grad():
        theirs = hf.eval()(tokens).logits[0]
    ours = load_checkpoint(tmp_path / "hf").model(tokens)[0][0]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_matrices_of_every_dtype_are_the_same_in_every_format_that_has_it(dtype, tmp_path):
    model = random_rwkv4(n_layer=2, n_embd=64, vocab_size=V)
    save_model(model, None, tmp_path / "first")
    wanted = getattr(torch, dtype)

    convert_model(tmp_path / "first", tmp_path / "a.pth", to="official", dtype=dtype)
    convert_model(tmp_path / "a.pth", tmp_path / "hf", to="huggingface")
    convert_model(tmp_path / "hf", tmp_path / "b.pth", to="official")

    assert (tmp_path / "b.pth").read_bytes() == (tmp_path / "a.pth").read_bytes()
    found = torch.load(tmp_path / "a.pth", weights_only=True)
    for name, weight in model.state_dict().items():
        expected = weight.to(wanted) if weight.ndim == 2 else weight
        assert torch.equal(found[name], expected), name
    if dtype != "bfloat16":
        convert_model(tmp_path / "b.pth", tmp_path / "m.bin", to="ggml")
        convert_model(tmp_path / "m.bin", tmp_path / "c.pth", to="official")
        for name, weight in torch.load(tmp_path / "c.pth", weights_only=True).items():
            if not name.endswith("time_decay"):
                assert weight.dtype == found[name].dtype, name
                assert torch.equal(weight, found[name]), name


@pytest.mark.parametrize("to", FOREIGN)
def test_what_rounded_matrices_stand_for_is_written(to, tmp_path):
    model = random_rwkv4(n_layer=2, n_embd=64, vocab_size=V)
    save_model(model, load_tokenizer("bytes"), tmp_path / "first")
    convert_model(tmp_path / "first", tmp_path / "int4", quantize="int4")

    convert_model(tmp_path / "int4", target(tmp_path, to), to=to)

    rounded = load_checkpoint(tmp_path / "int4").model
    found = load_checkpoint(target(tmp_path, to)).model.state_dict()
    for name, packed in rounded.state_dict().items():
        is_rounded = packed.dtype == torch.uint8
        expected = dequantized_tensor(rounded, name, packed) if is_rounded else packed
        tolerance = DECAY if to == "ggml" and name.endswith("time_decay") else 0.0
        torch.testing.assert_close(found[name], expected, rtol=0, atol=tolerance)
