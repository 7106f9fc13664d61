"""Files of rwkv.cpp are written as its own scripts write them, and come back as what was stored."""

import logging
import math
import struct
import weakref
from pathlib import Path

import gguf
import pytest
import torch
from gguf import quants
from torch import Tensor

from receptance.checkpoint.formats.ggml import read_bin, write_bin
from receptance.errors import CheckpointError
from receptance.models import RWKV4, RWKV4Config
from receptance.tensor_file import Entry
from tests.checkpoint.ggml_file import ggml_file
from tests.random_models import random_rwkv4, random_tokens
from tests.tolerances import FLOAT32_LOGITS, GGML_LOGITS

BLOCK_TYPES = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")
DECAY = "blocks.0.att.time_decay"


@pytest.fixture
def model() -> RWKV4:
    """An RWKV-4 whose rows are whole blocks."""
    return random_rwkv4(n_layer=2, n_embd=64, vocab_size=80)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "RWKV-4-tiny.bin"


def entries(weights: dict[str, Tensor]) -> dict[str, Entry]:
    return {name: Entry.of(weight) for name, weight in weights.items()}


def written(path: Path, model: RWKV4, data_type: str) -> dict[str, Tensor]:
    """Write a model and return what comes back."""
    write_bin(path, model.config, entries(model.state_dict()), data_type)
    return {name: entry.read() for name, entry in read_bin(path).open().items()}


def one_decay(path: Path, decay: Tensor) -> Tensor:
    """Write a decay alone and return what comes back."""
    config = RWKV4Config(n_layer=1, n_embd=len(decay), vocab_size=1)
    write_bin(path, config, {DECAY: Entry.of(decay)}, "FP32")
    return read_bin(path).open()[DECAY].read()


@pytest.mark.parametrize("data_type", ["FP32", "FP16"])
def test_a_file_is_what_the_script_of_rwkv_cpp_writes(model, path, data_type):
    write_bin(path, model.config, entries(model.state_dict()), data_type)

    assert path.read_bytes() == ggml_file(model.state_dict(), data_type=data_type)


@pytest.mark.parametrize("version", [100, 101])
@pytest.mark.parametrize("data_type", ["FP32", "FP16"])
def test_either_version_is_read(model, path, version, data_type):
    path.write_bytes(ggml_file(model.state_dict(), data_type=data_type, version=version))

    stored = read_bin(path)

    assert (stored.format, stored.path, stored.weights_path) == ("ggml", path, path)
    assert stored.config == model.config
    assert stored.quantization is None
    assert stored.details == {"version": version, "data_type": data_type}
    stored.model(None, None)


@pytest.mark.parametrize("data_type", ["FP32", "FP16", *BLOCK_TYPES])
def test_an_entry_says_what_it_will_be_in_the_order_of_the_model(model, path, data_type):
    write_bin(path, model.config, entries(model.state_dict()), data_type)

    stored = read_bin(path)

    assert stored.details == {"version": 101, "data_type": data_type}
    for opened in (stored.open(), stored.open_to_read()):
        assert [*opened] == [*model.state_dict()]
        for name, like in model.state_dict().items():
            tensor = opened[name].read()
            assert (opened[name].shape, opened[name].dtype) == (tensor.shape, tensor.dtype), name
            assert tensor.shape == like.shape
            is_half = like.ndim == 2 and (
                data_type == "FP16" or (data_type != "FP32" and not name.startswith("blocks."))
            )
            assert tensor.dtype == (torch.float16 if is_half else torch.float32), name


def test_float32_comes_back_bit_for_bit(model, path):
    back = written(path, model, "FP32")

    for name, weight in model.state_dict().items():
        if name.endswith("time_decay"):
            torch.testing.assert_close(back[name], weight, rtol=0, atol=1e-6)
        else:
            assert torch.equal(back[name], weight), name


def test_float16_is_rounded_to_nearest(model, path):
    back = written(path, model, "FP16")

    for name, weight in model.state_dict().items():
        if not name.endswith("time_decay"):
            assert torch.equal(back[name], weight.half() if weight.ndim == 2 else weight), name


@pytest.mark.parametrize("data_type", BLOCK_TYPES)
def test_blocks_come_back_as_what_the_reference_makes_of_them(model, path, data_type):
    theirs = gguf.GGMLQuantizationType[data_type]
    back = written(path, model, data_type)

    for name, weight in model.state_dict().items():
        if name in ("emb.weight", "head.weight"):
            assert torch.equal(back[name], weight.half())
        elif weight.ndim == 2:
            rounded = quants.dequantize(quants.quantize(weight.numpy(), theirs), theirs)
            assert torch.equal(back[name], torch.from_numpy(rounded)), name
        elif not name.endswith("time_decay"):
            assert torch.equal(back[name], weight), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("data_type", ["FP32", "FP16", "Q8_0"])
def test_weights_of_any_dtype_are_written_as_their_float32(model, path, tmp_path, dtype, data_type):
    rounded = {name: weight.to(dtype) for name, weight in model.state_dict().items()}
    wide = {name: weight.float() for name, weight in rounded.items()}

    write_bin(path, model.config, entries(rounded), data_type)
    write_bin(tmp_path / "wide.bin", model.config, entries(wide), data_type)

    assert path.read_bytes() == (tmp_path / "wide.bin").read_bytes()


@pytest.mark.parametrize("data_type", ["FP32", "FP16", *BLOCK_TYPES])
@pytest.mark.parametrize(("n_layer", "n_embd"), [(2, 64), (12, 128)])
def test_the_logits_are_those_of_the_model_that_was_written(path, data_type, n_layer, n_embd):
    model = random_rwkv4(n_layer, n_embd, vocab_size=80)
    tokens = random_tokens(2, 24, vocab_size=80)
    write_bin(path, model.config, entries(model.state_dict()), data_type)

    with torch.no_grad():
        expected, _ = model(tokens)
        logits, _ = read_bin(path).model(None, None)(tokens)

    error = (logits - expected).square().mean().sqrt() / expected.square().mean().sqrt()
    assert error <= GGML_LOGITS[data_type]
    if data_type == "FP32":
        torch.testing.assert_close(logits, expected, rtol=0, atol=FLOAT32_LOGITS)


def test_a_matrix_of_more_than_one_part_is_whole(path):
    """The parts are of 2^20 numbers, and the last one is shorter."""
    config = RWKV4Config(n_layer=1, n_embd=96, vocab_size=1)
    matrix = torch.randn(24_001, 96)
    tensors = {"blocks.0.ffn.key.weight": Entry.of(matrix)}
    theirs = gguf.GGMLQuantizationType.Q5_1

    write_bin(path, config, tensors, "Q5_1")

    rounded = quants.dequantize(quants.quantize(matrix.numpy(), theirs), theirs)
    (entry,) = read_bin(path).open().values()
    assert torch.equal(entry.read(), torch.from_numpy(rounded))


def test_a_decay_comes_back_within_what_is_promised(path):
    decay = torch.linspace(-87, 87, 200_001)

    back = one_decay(path, decay)

    assert float((back - decay).abs().max()) <= 2.5e-7
    is_far = decay.abs() >= 4
    assert torch.equal(back[is_far], decay[is_far])


def test_one_tensor_at_a_time_is_in_memory(model, path):
    alive: list[weakref.ref[Tensor]] = []

    def read(weight: Tensor) -> Tensor:
        assert not any(each() is not None for each in alive)
        copy = weight.clone()
        alive.append(weakref.ref(copy))
        return copy

    tensors = {
        name: Entry(weight.dtype, tuple(weight.shape), lambda weight=weight: read(weight))
        for name, weight in model.state_dict().items()
    }
    write_bin(path, model.config, tensors, "Q4_0")

    assert len(alive) == len(tensors)


def test_there_is_no_such_type(model, path):
    with pytest.raises(ValueError, match=r"`data_type` must be one of .* got 'Q4_2'"):
        write_bin(path, model.config, {}, "Q4_2")


@pytest.mark.parametrize("data_type", BLOCK_TYPES)
def test_rows_that_are_no_whole_blocks_are_refused_before_a_file_is_made(path, data_type):
    model = random_rwkv4(n_embd=24)

    with pytest.raises(ValueError, match=r"whole blocks of 32, but it has `n_embd` 24"):
        write_bin(path, model.config, entries(model.state_dict()), data_type)

    assert not path.exists()


def test_a_model_without_ln0_is_refused_since_rwkv_cpp_would_not_open_it(path):
    config = RWKV4Config(n_layer=1, n_embd=32, vocab_size=4, ln0=False)

    with pytest.raises(CheckpointError, match=r"must hold the norm 'blocks.0.ln0'"):
        write_bin(path, config, {}, "FP32")

    assert not path.exists()


@pytest.mark.parametrize("number", [65520.0, -1e6, math.inf, -math.inf, math.nan])
def test_what_float16_cannot_hold_is_refused(model, path, number):
    weights = model.state_dict()
    weights["blocks.1.ffn.key.weight"][3, 5] = number

    with pytest.raises(
        CheckpointError, match=r"'blocks.1.ffn.key.weight' must be finite in FP16 .*; write FP32"
    ):
        write_bin(path, model.config, entries(weights), "FP16")


def test_the_largest_numbers_that_float16_holds_are_written(model, path):
    model.state_dict()["blocks.1.ffn.key.weight"][3, 5] = 65519.0

    assert written(path, model, "FP16")["blocks.1.ffn.key.weight"][3, 5] == 65504


@pytest.mark.parametrize("data_type", BLOCK_TYPES)
def test_what_no_block_can_hold_is_refused(model, path, data_type):
    weights = model.state_dict()
    weights["blocks.1.ffn.key.weight"][3, 5] = 1e8

    with pytest.raises(CheckpointError, match=rf"'blocks.1.ffn.key.weight' .* {data_type}.*1e\+08"):
        write_bin(path, model.config, entries(weights), data_type)


@pytest.mark.parametrize("name", ["ln_out.bias", "blocks.0.att.time_mix_k", "emb.weight"])
@pytest.mark.parametrize("number", [math.inf, math.nan])
def test_what_is_not_finite_is_refused(model, path, name, number):
    weights = model.state_dict()
    weights[name].view(-1)[3] = number

    with pytest.raises(CheckpointError, match=f"'{name}' must be finite"):
        write_bin(path, model.config, entries(weights), "Q8_0")


def test_an_embedding_too_large_for_float16_stays_float32_and_is_named(model, path, caplog):
    model.state_dict()["emb.weight"][3, 5] = -70_000.0

    with caplog.at_level(logging.INFO):
        back = written(path, model, "Q8_0")

    assert torch.equal(back["emb.weight"], model.state_dict()["emb.weight"])
    assert back["head.weight"].dtype == torch.float16
    assert "'emb.weight' has numbers too large for FP16, and is stored in FP32" in caplog.text


@pytest.mark.parametrize("decay", [-200.0, 90.0, math.inf, -math.inf, math.nan])
def test_a_decay_that_cannot_be_stored_is_refused(path, decay):
    with pytest.raises(CheckpointError, match=f"-exp of '{DECAY}' must be negative and finite"):
        one_decay(path, torch.tensor([1.0, decay]))


@pytest.mark.parametrize("stored", [0.0, -0.0, 0.5, math.inf, -math.inf, math.nan])
def test_a_stored_decay_that_is_none_is_refused(path, stored):
    one_decay(path, torch.tensor([1.0, 2.0]))
    content = path.read_bytes()
    path.write_bytes(content[:-4] + struct.pack("<f", stored))

    with pytest.raises(CheckpointError, match=f"'{DECAY}' in .*tiny.bin' must be stored as -exp"):
        read_bin(path).open()[DECAY].read()


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        ("blocks.0.att.r_k", "an RWKV-7"),
        ("blocks.0.att.time_maa_k", "an RWKV-6"),
        ("blocks.0.att.ln_x.weight", "an RWKV-5"),
        ("transformer.h.0.attn.weight", "something else"),
    ],
)
def test_a_relative_is_refused_by_its_name(model, path, extra, what):
    path.write_bytes(ggml_file({**model.state_dict(), extra: torch.ones(4, 2, 3)}))

    with pytest.raises(CheckpointError, match=f"must be an RWKV-4, but it is {what}"):
        read_bin(path)


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"n_layer": 3}, "must hold the 3 layers that its header tells of, but it holds 2"),
        ({"n_layer": 1}, "must hold the 1 layers that its header tells of, but it holds 2"),
        ({"n_vocab": 81}, r"'emb.weight' .* must have the shape \[81, 64\] .* it has \[80, 64\]"),
        ({"n_embd": 32}, r"'emb.weight' .* must have the shape \[80, 32\] .* it has \[80, 64\]"),
    ],
)
def test_a_header_that_tells_of_another_model_is_refused(model, path, sizes, words):
    path.write_bytes(ggml_file(model.state_dict(), **sizes))

    with pytest.raises(CheckpointError, match=words):
        read_bin(path)


@pytest.mark.parametrize("change", ["without", "turned"])
def test_what_does_not_fit_the_model_is_named(model, path, change):
    weights = model.state_dict()
    key = weights.pop("blocks.1.ffn.key.weight")
    if change == "turned":
        weights["blocks.1.ffn.key.weight"] = key.T.contiguous()
    path.write_bytes(ggml_file(weights))

    with pytest.raises(CheckpointError, match=r"'blocks.1.ffn.key.weight'"):
        read_bin(path).model(None, None)


@pytest.mark.parametrize("data_type", ["FP32", "Q5_1"])
def test_a_file_that_is_cut_short_while_it_is_used_is_refused(model, path, data_type):
    write_bin(path, model.config, entries(model.state_dict()), data_type)
    opened = read_bin(path).open()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    assert opened["blocks.0.att.key.weight"].read().shape == (64, 64)
    with pytest.raises(CheckpointError, match=r"'blocks.1.ffn.value.weight' in .* was cut short"):
        opened["blocks.1.ffn.value.weight"].read()
