"""A path is enough to find a model and its tokenizer; a wrong path is met with near names."""

import pytest
import torch

from receptance.checkpoint import load_checkpoint, save_model
from receptance.checkpoint.formats import ggml, huggingface
from receptance.checkpoint.load import find_model
from receptance.errors import CheckpointError
from receptance.models import RWKV4, RWKV4Config
from receptance.tensor_file import Entry
from receptance.tokenizer import load_tokenizer
from tests.local_hub import MAIN


def sized(vocab_size: int) -> RWKV4:
    other = RWKV4(RWKV4Config(n_layer=1, n_embd=8, vocab_size=vocab_size))
    other.init_weights()
    return other


def entries_of(model: RWKV4) -> dict[str, Entry]:
    """The weights of a model as a file describes them."""
    weights = model.state_dict().items()
    return {name: Entry(each.dtype, tuple(each.shape), each.clone) for name, each in weights}


def test_a_path_may_be_text(pth):
    assert load_checkpoint(str(pth)).path == pth


def test_the_tokenizer_of_a_folder_is_the_one_saved_with_it(bpe, tmp_path):
    save_model(sized(270), bpe, tmp_path / "model")

    loaded = load_checkpoint(tmp_path / "model")

    assert loaded.tokenizer is not None
    assert loaded.tokenizer.sha256 == bpe.sha256


def test_a_model_saved_without_a_tokenizer_has_none(tmp_path):
    save_model(sized(300), None, tmp_path / "model")

    assert load_checkpoint(tmp_path / "model").tokenizer is None


def test_a_tokenizer_with_more_ids_than_the_model_is_refused(model, bpe, tmp_path):
    with pytest.raises(CheckpointError, match=r"at most the 256 ids .* but 'bpe' has 270"):
        save_model(model, bpe, tmp_path / "model")
    save_model(model, None, tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"at most the 256 ids .* but 'bpe' has 270"):
        load_checkpoint(tmp_path / "model", tokenizer=bpe)


def test_the_tokenizer_that_is_given_goes_before_the_one_that_is_found(bpe, tmp_path):
    save_model(sized(300), bpe, tmp_path / "model")

    loaded = load_checkpoint(tmp_path / "model", tokenizer="bytes")

    assert loaded.tokenizer is not None
    assert loaded.tokenizer.name == "bytes"


def test_a_pth_takes_the_tokenizer_beside_it_if_that_fits(pth, bpe):
    bpe.save(pth.parent)

    assert load_checkpoint(pth).tokenizer is None  # 270 ids are more than the model's 256

    torch.save(sized(280).state_dict(), pth)
    loaded = load_checkpoint(pth).tokenizer
    assert loaded is not None
    assert loaded.sha256 == bpe.sha256


def test_a_pth_takes_the_tokenizer_that_is_given(pth):
    loaded = load_checkpoint(pth, tokenizer=load_tokenizer("bytes"))

    assert loaded.tokenizer is not None
    assert loaded.tokenizer.name == "bytes"


def test_the_file_of_an_initial_state_is_found(model, tmp_path):
    save_model(model, None, tmp_path / "model")
    file = tmp_path / "model" / "initial_state.safetensors"
    model.zero_state(1).save(file, model.fingerprint())

    assert load_checkpoint(tmp_path / "model").initial_state == file


def test_an_unknown_dtype_is_a_wrong_argument(pth):
    with pytest.raises(
        ValueError, match=r"one of \['float32', 'bfloat16', 'float16'\] or None, got 'int8'"
    ):
        load_checkpoint(pth, dtype="int8")


def test_a_path_where_nothing_is_names_what_is_near(pth, tmp_path):
    (tmp_path / "Demo").mkdir()

    with pytest.raises(CheckpointError) as raised:
        load_checkpoint(tmp_path / "rwkv-4-tiny")
    assert str(raised.value) == (
        f"no checkpoint at {str(tmp_path / 'rwkv-4-tiny')!r}: it does not exist. Found in "
        f"{str(tmp_path)!r}: ['Demo', 'RWKV-4-tiny.pth']. Did you mean {str(pth)!r}?"
    )
    with pytest.raises(CheckpointError, match=r"Did you mean '.*/Demo'\?"):
        load_checkpoint(tmp_path / "demo")
    with pytest.raises(CheckpointError, match=r"it does not exist, nor does '.*/nowhere'"):
        load_checkpoint(tmp_path / "nowhere" / "model")


def test_a_folder_that_is_not_a_model_says_what_it_holds(model, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match=r"'.*/empty' is empty"):
        load_checkpoint(tmp_path / "empty")

    (tmp_path / "run").mkdir()
    save_model(model, None, tmp_path / "run" / "model")
    with pytest.raises(CheckpointError, match=r"holds \['model'\]; did you mean '.*/run/model'\?"):
        load_checkpoint(tmp_path / "run")


def test_a_file_of_another_kind_is_refused(folder, tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")

    with pytest.raises(
        CheckpointError, match=r"must be a file of rwkv\.cpp, but it is a GGUF file"
    ):
        load_checkpoint(path)
    path.write_bytes(b"some text")
    with pytest.raises(CheckpointError, match=r"authors' .pth file or an rwkv.cpp .bin file, got"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match=r"did you mean its folder, '.*/model'\?"):
        load_checkpoint(folder / "model.safetensors")


def test_a_part_of_a_folder_is_met_with_the_folder(folder, pth):
    pth.rename(folder / "pytorch_model.bin")

    with pytest.raises(CheckpointError, match=r"did you mean its folder, '.*/model'\?"):
        load_checkpoint(folder / "pytorch_model.bin")


def test_a_format_is_told_by_its_content(model, pth, folder, tmp_path):
    config, entries = model.config, entries_of(model)
    (tmp_path / "hf").mkdir()
    huggingface.write_folder(tmp_path / "hf", config, entries, None)
    ggml.write_bin(tmp_path / "named.anything", config, entries, "FP32")
    pth.rename(tmp_path / "renamed")

    formats = {
        path.name: load_checkpoint(path).format
        for path in (folder, tmp_path / "hf", tmp_path / "named.anything", tmp_path / "renamed")
    }

    assert formats == {
        "model": "native",
        "hf": "huggingface",
        "named.anything": "ggml",
        "renamed": "official",
    }


def test_a_model_folder_may_hold_a_tokenizer_under_its_authors_name(bpe, tmp_path):
    save_model(sized(270), None, tmp_path / "model")
    bpe.save(tmp_path)
    (tmp_path / "tokenizer.json").rename(tmp_path / "model" / "20B_tokenizer.json")

    tokenizer = load_checkpoint(tmp_path / "model").tokenizer

    assert tokenizer is not None
    assert tokenizer.sha256 == bpe.sha256


def test_a_name_on_the_hub_is_a_model_with_its_tokenizer(hub, pth, bpe, tmp_path):
    torch.save(sized(280).state_dict(), pth)
    bpe.save(tmp_path)
    tokenizer = (tmp_path / "tokenizer.json").read_bytes()
    hub.add("o/n", {"RWKV-4.pth": pth.read_bytes(), "tokenizer.json": tokenizer})

    loaded = load_checkpoint("o/n")

    assert loaded.tokenizer is not None
    assert loaded.tokenizer.sha256 == bpe.sha256
    assert loaded.path.name == "RWKV-4.pth"
    assert find_model("o/n").details["hub"] == f"o/n@{MAIN}"


def test_a_model_folder_of_the_hub_is_read_as_one(hub, folder):
    hub.add("o/n", {each.name: each.read_bytes() for each in folder.iterdir()})

    assert load_checkpoint("o/n").format == "native"


def test_a_folder_of_hugging_face_on_the_hub_is_read_as_one(hub, model, tmp_path):
    (tmp_path / "hf").mkdir()
    huggingface.write_folder(tmp_path / "hf", model.config, entries_of(model), None)
    hub.add("o/n", {each.name: each.read_bytes() for each in (tmp_path / "hf").iterdir()})

    loaded = load_checkpoint("o/n")

    assert loaded.format == "huggingface"
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], weight)


def test_a_path_goes_before_a_name(hub, folder, tmp_path, monkeypatch):
    hub.add("here/modle", {"RWKV-4.pth": b""})
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    folder.rename(tmp_path / "here" / "modle")

    assert load_checkpoint("here/modle").format == "native"
    with pytest.raises(CheckpointError, match=r"Did you mean 'here/modle'\?"):
        load_checkpoint("here/model")
    assert hub.requests == []


def test_a_name_that_the_hub_does_not_know_may_have_been_a_path(hub, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    folder.rename(tmp_path / "runs" / "model")

    with pytest.raises(CheckpointError, match=r"Did you mean the path 'runs/model'\?"):
        load_checkpoint("run/model")
    assert len(hub.requests) == 1
