"""Converting is loading and saving, without the memory for it."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from receptance.checkpoint import convert_model, find_model, load_checkpoint, save_model
from receptance.errors import CheckpointError, TokenizerError
from receptance.inference import load
from receptance.quantization import input_importance, quantize_model
from receptance.tokenizer import load_tokenizer
from tests.random_models import random_rwkv4

PRECISIONS = [
    {},
    {"dtype": "float32"},
    {"dtype": "bfloat16"},
    {"quantize": "int8"},
    {"quantize": "int4"},
]
TEXT = "the quick brown fox jumps over the lazy dog; " * 20


@pytest.mark.parametrize("source", ["folder", "pth"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_files_are_those_of_loading_and_saving(source, precision, request, tmp_path):
    path = request.getfixturevalue(source)
    convert_model(path, tmp_path / "converted", **precision)
    loaded = load_checkpoint(path, **precision)
    save_model(loaded.model, loaded.tokenizer, tmp_path / "saved")

    names = sorted(each.name for each in (tmp_path / "saved").iterdir())
    assert sorted(each.name for each in (tmp_path / "converted").iterdir()) == names
    for name in names:
        found, expected = ((tmp_path / each / name).read_bytes() for each in ("converted", "saved"))
        assert found == expected, name


def test_weights_in_float16_are_converted(model, pth, tmp_path):
    torch.save({name: weight.half() for name, weight in model.state_dict().items()}, pth)
    convert_model(pth, tmp_path / "converted")
    weights = load_file(tmp_path / "converted" / "model.safetensors")
    assert {each.dtype for each in weights.values()} == {torch.float32}


def test_a_rounded_folder_is_copied_as_it_is(folder, tmp_path):
    convert_model(folder, tmp_path / "int4", quantize="int4")
    for quantize in (None, "int4"):
        convert_model(tmp_path / "int4", tmp_path / "copy", quantize=quantize, replace=True)
        for name in ("config.json", "model.safetensors"):
            copy, original = ((tmp_path / each / name).read_bytes() for each in ("copy", "int4"))
            assert copy == original


def test_the_tokenizer_goes_with_the_model(tmp_path, pth):
    tokenizer = load_tokenizer("bytes")
    convert_model(pth, tmp_path / "converted", tokenizer=tokenizer)
    found = load_checkpoint(tmp_path / "converted").tokenizer
    assert found is not None
    assert found.sha256 == tokenizer.sha256


def test_a_calibration_text_is_read_by_the_plain_model(model, folder, tmp_path):
    convert_model(folder, tmp_path / "converted", quantize="int4", calibration=TEXT)

    tokens = torch.tensor([list(TEXT.encode())])
    expected = quantize_model(model, "int4", input_importance(model, [tokens]))
    found = load_checkpoint(tmp_path / "converted").model.state_dict()
    for name, weight in expected.state_dict().items():
        assert torch.equal(found[name], weight), name
    plain = load_checkpoint(folder, quantize="int4").model
    assert plain.fingerprint() != expected.fingerprint()


def test_a_long_calibration_text_is_read_in_batches(folder, tmp_path):
    convert_model(folder, tmp_path / "converted", quantize="int4", calibration=TEXT * 4)
    assert load_checkpoint(tmp_path / "converted").model.fingerprint()


def test_an_initial_state_goes_with_the_weights_that_it_belongs_to(model, folder, tmp_path):
    file = folder / "initial_state.safetensors"
    model.zero_state(1).save(file, model.fingerprint())

    convert_model(folder, tmp_path / "half", dtype="bfloat16")

    half = load_checkpoint(tmp_path / "half")
    assert half.initial_state is not None
    assert half.initial_state.read_bytes() == file.read_bytes()
    assert half.model.fingerprint() == model.fingerprint()
    for attempt in (
        lambda: convert_model(folder, tmp_path / "int4", quantize="int4"),
        lambda: load_checkpoint(folder, quantize="int4"),
    ):
        with pytest.raises(CheckpointError, match="and the rounded one is another; move that file"):
            attempt()
    assert not (tmp_path / "int4").exists()


def test_what_is_there_is_not_replaced_unless_asked(folder, tmp_path):
    target = tmp_path / "converted"
    target.mkdir()
    (target / "precious").write_text("text")
    with pytest.raises(FileExistsError, match="must not exist yet"):
        convert_model(folder, target)
    # Nor is what is no model, though it was asked: it may be all that somebody has.
    with pytest.raises(FileExistsError, match=r"must be a model folder to be replaced, but it has"):
        convert_model(folder, target, replace=True)
    assert (target / "precious").exists()
    (target / "config.json").write_text("{}")
    convert_model(folder, target, replace=True)
    assert (
        load_checkpoint(target).model.fingerprint() == load_checkpoint(folder).model.fingerprint()
    )


def test_a_folder_may_be_converted_in_its_place(folder):
    expected = load_checkpoint(folder, quantize="int8").model.fingerprint()
    convert_model(folder, folder, quantize="int8", replace=True)
    assert load_checkpoint(folder).model.fingerprint() == expected


def test_a_damaged_source_leaves_nothing_behind(model, tmp_path):
    path = tmp_path / "bad.pth"
    weights = model.state_dict()
    weights["head.weight"][0, 0] = torch.inf
    torch.save(weights, path)
    for wanted in PRECISIONS:
        with pytest.raises(CheckpointError, match=r"'head.weight' in .* must be finite"):
            convert_model(path, tmp_path / "converted", **wanted)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"dtype": "bfloat16", "quantize": "int4"}, "`dtype` must be None with `quantize`, since"),
        (
            {"quantize": "int2"},
            r"`quantize` must be one of \['int8', 'int4'\] or None for 'native'",
        ),
        ({"calibration": TEXT}, "`quantize` must be given with it, and `to` be 'native', got None"),
        ({"to": "gguf"}, "`to` must be one of"),
        (
            {"to": "official", "quantize": "int8"},
            "`quantize` must be None for 'official', got 'int",
        ),
        ({"to": "ggml", "quantize": "int8"}, r"`quantize` must be one of \['q4_0', 'q4_1'"),
        ({"to": "ggml", "quantize": "q4_0"}, "must be whole blocks of 32, but it has `n_embd` 8"),
        ({"to": "ggml", "dtype": "bfloat16"}, r"`dtype` must be one of \['float32', 'float16'\]"),
        ({"to": "native", "dtype": "float16"}, r"must be one of \['float32', 'bfloat16'\] or None"),
        (
            {"to": "ggml", "quantize": "q4_0", "calibration": TEXT},
            "and `to` be 'native', got 'q4_0",
        ),
        ({"quantize": "int4", "calibration": ""}, "must hold tokens to calibrate with, got 0"),
    ],
)
def test_what_makes_no_sense_is_a_wrong_argument(folder, tmp_path, wanted, words):
    with pytest.raises(ValueError, match=words):
        convert_model(folder, tmp_path / "converted", **wanted)
    assert not (tmp_path / "converted").exists()


def test_a_calibration_text_needs_a_tokenizer(tmp_path):
    model = random_rwkv4(n_layer=1, n_embd=8, vocab_size=300)
    save_model(model, None, tmp_path / "model")
    with pytest.raises(TokenizerError, match="came without one; pass it as `tokenizer`"):
        convert_model(tmp_path / "model", tmp_path / "to", quantize="int4", calibration=TEXT)


def test_what_is_rounded_already_needs_no_calibration_text(folder, tmp_path):
    convert_model(folder, tmp_path / "int8", quantize="int8")

    with pytest.raises(ValueError, match="is rounded already"):
        convert_model(tmp_path / "int8", tmp_path / "to", quantize="int8", calibration=TEXT)


@pytest.mark.parametrize("to", ["official", "huggingface", "ggml"])
def test_a_foreign_format_says_that_it_has_no_initial_state(to, folder, tmp_path, caplog):
    lm = load(folder)
    lm.prefill("abc").save(folder / "initial_state.safetensors")

    convert_model(folder, tmp_path / "converted", to=to)

    assert "has an initial state, which only a model folder can hold" in caplog.text
    assert load_checkpoint(tmp_path / "converted").initial_state is None


@pytest.mark.parametrize("to", ["official", "ggml"])
def test_a_file_says_that_it_has_no_tokenizer_unless_it_lies_beside_it(
    to, folder, bpe, tmp_path, caplog
):
    model = random_rwkv4(n_layer=1, n_embd=8, vocab_size=bpe.vocab_size)
    save_model(model, bpe, tmp_path / "own")

    convert_model(tmp_path / "own", tmp_path / "first", to=to)
    assert "holds no tokenizer: put the file of that of" in caplog.text
    caplog.clear()
    convert_model(folder, tmp_path / "second", to=to)  # bytes have no file
    bpe.save(tmp_path)
    convert_model(tmp_path / "own", tmp_path / "third", to=to)
    assert caplog.text == ""


def test_what_has_no_room_on_the_disk_is_not_begun(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))

    with pytest.raises(OSError, match="bytes are to be written, and its disk has 1000 left"):
        convert_model(folder, tmp_path / "converted", to="official")
    with pytest.raises(OSError, match="bytes are to be written, and its disk has 1000 left"):
        convert_model(folder, tmp_path / "converted")
    assert [each.name for each in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("to", ["native", "official", "huggingface", "ggml"])
def test_it_tells_how_far_it_is(to, folder, tmp_path):
    told: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        told.append((done, total))

    convert_model(folder, tmp_path / "converted", to=to, progress=progress)

    n_bytes = sum(each.nbytes for each in load_checkpoint(folder).model.state_dict().values())
    assert [total for _, total in told] == [n_bytes] * len(told)
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert 0 < told[0][0] < n_bytes
    assert told[-1] == (n_bytes, n_bytes)


@pytest.mark.parametrize("to", ["official", "huggingface", "ggml"])
def test_a_normalised_embedding_fits_no_foreign_format(to, model, tmp_path):
    torch.save(
        {n: w for n, w in model.state_dict().items() if ".ln0." not in n}, tmp_path / "f.pth"
    )

    with pytest.raises((CheckpointError, ValueError), match="folded"):
        convert_model(tmp_path / "f.pth", tmp_path / "converted", to=to)
    assert [each.name for each in tmp_path.iterdir()] == ["f.pth"]
    convert_model(tmp_path / "f.pth", tmp_path / "native")
    assert load_checkpoint(tmp_path / "native").model.config.ln0 is False


def test_a_number_that_float16_lacks_is_not_written_in_it(model, tmp_path):
    weights = model.state_dict()
    weights["blocks.1.ffn.key.weight"][2, 3] = 70_000.0
    torch.save(weights, tmp_path / "f.pth")

    with pytest.raises(CheckpointError, match=r"'blocks.1.ffn.key.weight' in .* must lie within"):
        convert_model(tmp_path / "f.pth", tmp_path / "half", to="huggingface", dtype="float16")
    with pytest.raises(CheckpointError, match=r"'blocks.1.ffn.key.weight'"):
        convert_model(tmp_path / "f.pth", tmp_path / "half", to="ggml", dtype="float16")
    assert [each.name for each in tmp_path.iterdir()] == ["f.pth"]


def test_a_folder_that_holds_the_source_is_not_replaced_by_it(folder, pth, tmp_path):
    (tmp_path / "config.json").write_text("{}")

    for source in (folder, pth):
        for to in ("native", "huggingface"):
            with pytest.raises(ValueError, match="must not hold the source"):
                convert_model(source, tmp_path, to=to, replace=True)
    assert folder.exists()
    assert pth.exists()


def test_what_lies_beside_the_target_ends_no_conversion(folder, pth, tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "config.json").write_text("{}")

    convert_model(folder, tmp_path / "first", to="official")
    convert_model(pth, tmp_path / "second.bin", to="ggml", tokenizer="bytes")

    assert (tmp_path / "first").is_file()
    assert (tmp_path / "second.bin").is_file()


def test_a_conversion_in_place_says_that_the_initial_state_is_lost(folder, caplog):
    load(folder).prefill("abc").save(folder / "initial_state.safetensors")

    convert_model(folder, folder, to="huggingface", replace=True)

    assert "has an initial state, which only a model folder can hold" in caplog.text


def test_a_folder_made_half_as_wide_is_halved_for_transformers(folder, tmp_path):
    convert_model(folder, tmp_path / "hf", to="huggingface")
    convert_model(tmp_path / "hf", tmp_path / "half", to="huggingface", dtype="float16")

    told = [json.loads((tmp_path / n / "config.json").read_text()) for n in ("hf", "half")]
    assert [each["rescale_every"] for each in told] == [0, 6]
    assert [each["dtype"] for each in told] == ["float32", "float16"]


def test_matrices_of_several_dtypes_stay_exact(tmp_path):
    """In a file of blocks, the embedding and the head are float16 and the rest is float32."""
    model = random_rwkv4(n_layer=1, n_embd=32, vocab_size=64)
    save_model(model, None, tmp_path / "model")
    convert_model(tmp_path / "model", tmp_path / "q8.bin", to="ggml", quantize="q8_0")
    expected = load_checkpoint(tmp_path / "q8.bin").model.state_dict()

    convert_model(tmp_path / "q8.bin", tmp_path / "plain.bin", to="ggml")
    convert_model(tmp_path / "q8.bin", tmp_path / "hf", to="huggingface")

    assert find_model(tmp_path / "plain.bin").details["data_type"] == "FP32"
    assert find_model(tmp_path / "hf").details["rescale_every"] == 0
    for name in ("plain.bin", "hf"):
        for key, weight in load_checkpoint(tmp_path / name).model.state_dict().items():
            tolerance = 1e-6 if key.endswith("time_decay") else 0.0
            torch.testing.assert_close(weight, expected[key], rtol=0, atol=tolerance)


def test_the_room_for_what_becomes_wider_is_looked_for(tmp_path, monkeypatch):
    model = random_rwkv4(n_layer=1, n_embd=32, vocab_size=64)
    save_model(model, None, tmp_path / "model")
    convert_model(tmp_path / "model", tmp_path / "half", dtype="bfloat16")
    size = (tmp_path / "half" / "model.safetensors").stat().st_size
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=int(1.5 * size)))

    with pytest.raises(OSError, match="bytes are to be written, and its disk has"):
        convert_model(tmp_path / "half", tmp_path / "m.bin", to="ggml")


def test_a_number_that_bfloat16_lacks_is_not_written_in_it(model, tmp_path):
    weights = model.state_dict()
    weights["blocks.1.ffn.key.weight"][2, 3] = 3.4e38
    torch.save(weights, tmp_path / "f.pth")

    for to in ("native", "official"):
        with pytest.raises(
            CheckpointError, match=r"'blocks.1.ffn.key.weight' in .* must lie within"
        ):
            convert_model(tmp_path / "f.pth", tmp_path / "half", to=to, dtype="bfloat16")
    assert [each.name for each in tmp_path.iterdir()] == ["f.pth"]


def test_a_decay_stored_by_rwkv_cpp_is_that_of_its_own_converter_whatever_its_way(model, tmp_path):
    torch.save(model.state_dict(), tmp_path / "m.pth")
    convert_model(tmp_path / "m.pth", tmp_path / "hf", to="huggingface")
    convert_model(tmp_path / "m.pth", tmp_path / "one.bin", to="ggml")
    convert_model(tmp_path / "hf", tmp_path / "other.bin", to="ggml")

    content = (tmp_path / "one.bin").read_bytes()
    assert content == (tmp_path / "other.bin").read_bytes()
    for layer in range(2):
        decay = model.state_dict()[f"blocks.{layer}.att.time_decay"]
        assert (-torch.exp(decay)).numpy().tobytes() in content
