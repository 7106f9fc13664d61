"""A rounded model is one model, whether it was rounded in memory, while read, or on disk."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from receptance.checkpoint import convert_model, load_checkpoint, save_model
from receptance.errors import CheckpointError
from receptance.ops.quantized_linear import QuantizedFormat
from receptance.quantization import FORMATS, quantization, quantize_model

NAMES = list(FORMATS)


@pytest.fixture
def rounded(folder, tmp_path):
    """The model, rounded to 4 bits, as a model folder."""
    convert_model(folder, tmp_path / "int4", quantize="int4")
    return tmp_path / "int4"


def weights_equal(one, other):
    expected = other.state_dict()
    assert one.state_dict().keys() == expected.keys()
    return all(torch.equal(each, expected[name]) for name, each in one.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_rounding_while_reading_is_rounding_in_memory(model, folder, pth, name):
    expected = quantize_model(model, name)

    for path in (folder, pth):
        found = load_checkpoint(path, quantize=name).model
        assert quantization(found) == FORMATS[name]
        assert weights_equal(found, expected)
        assert found.fingerprint() == expected.fingerprint()


@pytest.mark.parametrize(
    "format", [*FORMATS.values(), QuantizedFormat(4, 64, True), QuantizedFormat(8, 128, True)]
)
def test_a_rounded_model_is_saved_and_comes_back(model, tmp_path, format):
    expected = quantize_model(model, format)
    save_model(expected, None, tmp_path / "rounded")
    loaded = load_checkpoint(tmp_path / "rounded").model

    assert quantization(loaded) == format
    assert weights_equal(loaded, expected)
    assert loaded.fingerprint() == expected.fingerprint()
    tokens = torch.tensor([[5, 0, 20, 17]])
    with torch.no_grad():
        assert torch.equal(loaded(tokens)[0], expected(tokens)[0])
    save_model(loaded, None, tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        again, first = (tmp_path / each / name for each in ("again", "rounded"))
        assert again.read_bytes() == first.read_bytes()


def test_the_file_holds_the_packed_bytes_under_the_authors_names(rounded):
    entries = json.loads((rounded / "config.json").read_text())
    assert entries["quantization"] == {"bits": 4, "group_size": 32, "has_offset": False}

    weights = load_file(rounded / "model.safetensors")
    block = 32 * (2 + 16)
    assert weights["emb.weight"].shape == (256, 18)
    assert weights["blocks.0.att.key.weight"].shape == (1, 1, block)
    assert weights["blocks.0.ffn.key.weight"].shape == (1, 1, block)
    assert weights["head.weight"].shape == (8, 1, block)
    assert {each.dtype for each in weights.values()} == {torch.uint8, torch.float32}


def test_a_folder_may_be_asked_for_in_the_format_that_it_has(rounded):
    expected = load_checkpoint(rounded).model
    assert weights_equal(load_checkpoint(rounded, quantize="int4").model, expected)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"quantize": "int8"}, "must hold plain weights to become int8, but they are rounded to"),
        ({"dtype": "bfloat16"}, "must hold plain weights to become bfloat16, but they are rounded"),
    ],
)
def test_rounded_weights_become_nothing_else(rounded, wanted, words):
    with pytest.raises(CheckpointError) as raised:
        load_checkpoint(rounded, **wanted)
    assert words in str(raised.value)
    assert "int4 already; take the model that it was made from" in str(raised.value)


def damaged(folder, **changes):
    path = folder / "model.safetensors"
    weights = {name: each.clone() for name, each in load_file(path).items()}
    save_file({**weights, **changes}, path)


def test_a_scale_that_is_not_finite_is_refused(rounded):
    for name in ("head.weight", "emb.weight"):
        weight = load_file(rounded / "model.safetensors")[name].clone()
        intact = weight.clone()
        weight[-1].view(-1)[:2] = torch.tensor([0x80, 0x7F], dtype=torch.uint8)  # infinity
        damaged(rounded, **{name: weight})
        with pytest.raises(CheckpointError, match=f"'{name}' in .* must be finite"):
            load_checkpoint(rounded)
        damaged(rounded, **{name: intact})
    load_checkpoint(rounded)


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        (torch.zeros(8, 1, 575, dtype=torch.uint8), r"must have the shape \[8, 1, 576\], but"),
        (torch.zeros(8, 1, 576), r"must be one of \['torch.uint8'\], but it is torch.float32"),
    ],
)
def test_packed_weights_of_another_shape_or_dtype_are_refused(rounded, weight, words):
    damaged(rounded, **{"head.weight": weight})
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(rounded)


def test_weights_that_are_not_finite_are_not_rounded(model, folder):
    weight = model.state_dict()["head.weight"].clone()
    weight[3, 4] = torch.nan
    damaged(folder, **{"head.weight": weight})
    with pytest.raises(CheckpointError, match=r"'head.weight' in .* must be finite"):
        load_checkpoint(folder, quantize="int4")


@pytest.mark.parametrize("name", ["folder", "rounded"])
def test_loaded_weights_lie_in_the_mapped_file(name, request):
    path = request.getfixturevalue(name) / "model.safetensors"
    loaded = load_checkpoint(path.parent).model

    with open("/proc/self/maps") as maps:  # noqa: PTH123 (no file, but a table)
        spans = [line.split()[0].split("-") for line in maps if str(path) in line]
    places = [(int(begin, 16), int(end, 16)) for begin, end in spans]
    for key, weight in loaded.state_dict().items():
        assert any(begin <= weight.data_ptr() < end for begin, end in places), key


def test_the_maps_show_which_weights_are_not_mapped(folder):
    path = folder / "model.safetensors"
    loaded = load_checkpoint(folder, quantize="int4").model
    with safe_open(path, framework="pt") as file:
        assert file.get_tensor("head.weight").data_ptr() != loaded.head.weight.data_ptr()


MEASURE = """
import sys, torch
from pathlib import Path
from receptance.checkpoint import convert_model, load_checkpoint, save_model
from receptance.models import RWKV4, RWKV4Config

def anonymous(peak=False):
    lines = Path("/proc/self/status").read_text().splitlines()
    values = {line.split(":")[0]: line.split()[1] for line in lines if line.endswith("kB")}
    return int(values["VmHWM" if peak else "RssAnon"]) * 1024

torch.set_num_threads(1)
folder = Path(sys.argv[1])
if not folder.exists():
    model = RWKV4(RWKV4Config(n_layer=14, n_embd=512, vocab_size=4096))
    for weight in model.parameters():
        weight.data.uniform_(-1, 1)
    save_model(model, None, folder)
    sys.exit()
def go(folder, way, target):
    if way == "convert":
        return convert_model(folder, target, quantize="int4")
    return load_checkpoint(folder, quantize=None if way == "plain" else way)

small, way, place = Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4])
go(small, way, place / "small")  # all code that this way needs is in memory then
before, peak = anonymous(), anonymous(peak=True)
loaded = go(folder, way, place / "large")
print(anonymous() - before, anonymous(peak=True) - peak)
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A model of 208 MB in float32."""
    folder = tmp_path_factory.mktemp("large") / "model"
    subprocess.run([sys.executable, "-c", MEASURE, folder], check=True)
    return folder


@pytest.mark.parametrize(
    ("way", "kept", "peak"),
    [
        ("plain", 0.02, 1.1),  # the file's own pages, read once to see that all is finite
        ("int4", 0.2, 0.7),  # 0.14, and what of the file was read last
        ("convert", 0.06, 0.6),
    ],
)
def test_memory_is_bounded(large, folder, tmp_path, way, kept, peak):
    """As shares of the weights in float32: what stays in memory of its own, and the most ever."""
    command = [sys.executable, "-c", MEASURE, large, folder, way, tmp_path]
    # Each tensor from the system and back to it: what the process holds is then what is in use,
    # and not what glibc keeps of the heap for later, which may be twice the largest tensor.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found_kept, found_peak = map(int, done.stdout.split())
    size = (large / "model.safetensors").stat().st_size
    assert found_kept < kept * size
    assert found_peak < peak * size
