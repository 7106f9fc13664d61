"""The authors' .pth files load as they are; all else with that name is refused and never run."""

import os
import pickle
import random
import zipfile
from pathlib import Path

import pytest
import torch

from receptance.checkpoint import load_checkpoint, save_model
from receptance.errors import CheckpointError


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_state_dict_of_any_stored_dtype_loads(model, pth, dtype):
    stored = {name: weight.to(dtype) for name, weight in model.state_dict().items()}
    torch.save(stored, pth)

    loaded = load_checkpoint(pth)

    assert loaded.format == "official"
    assert loaded.model.config == model.config
    matrices = torch.float32 if dtype == torch.float16 else dtype
    for name, weight in loaded.model.state_dict().items():
        assert weight.dtype == (matrices if weight.ndim == 2 else torch.float32), name
        assert torch.equal(weight, stored[name].to(weight.dtype)), name


def test_it_gives_the_logits_of_the_model_that_wrote_it(model, pth):
    tokens = torch.tensor([[5, 0, 200, 17]])

    assert torch.equal(load_checkpoint(pth).model(tokens)[0], model(tokens)[0])


class Execute:
    """Unpickled by anything but a restricted unpickler, it writes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_acts_is_refused_and_does_not_act(pth, tmp_path, zipped):
    proof = tmp_path / "executed"
    if zipped:
        torch.save({"emb.weight": Execute(proof)}, pth)
    else:
        pth.write_bytes(pickle.dumps({"emb.weight": Execute(proof)}))

    with pytest.raises(CheckpointError, match=r"RWKV-4-tiny\.pth"):
        load_checkpoint(pth)

    assert not proof.exists()


def test_a_compressed_zip_is_refused(pth):
    with zipfile.ZipFile(pth) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    with zipfile.ZipFile(pth, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)

    with pytest.raises(CheckpointError, match="must be stored as it is, but it is compressed"):
        load_checkpoint(pth)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_file_cut_short_is_refused(pth, share):
    content = pth.read_bytes()
    pth.write_bytes(content[: int(share * len(content))])

    with pytest.raises(CheckpointError, match="must be a zip"):
        load_checkpoint(pth)


# PyTorch warns where the damage makes a pickle of another protocol.
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damage_to_the_pickle_is_refused_or_harmless(pth):
    content = pth.read_bytes()
    start = content.index(b"\x80\x02")  # the pickle's first bytes; it is the first part
    draw = random.Random(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(draw.randint(1, 3)):
            damaged[start + draw.randrange(2000)] = draw.randrange(256)
        pth.write_bytes(damaged)
        try:
            load_checkpoint(pth)
        except CheckpointError:
            refused += 1

    assert refused > 75


def test_strides_cannot_claim_more_than_the_file_holds(model, pth):
    torch.save({**model.state_dict(), "head.weight": torch.zeros(1, 1).expand(10**9, 10**9)}, pth)

    with pytest.raises(CheckpointError, match=r"'head.weight' in .* must be contiguous"):
        load_checkpoint(pth)


def test_tensors_that_share_one_storage_cannot_claim_more_than_the_file_holds(pth):
    shared = torch.zeros(200_000)
    torch.save({f"blocks.{i}.ln1.weight": shared for i in range(40)}, pth)

    with pytest.raises(
        CheckpointError, match=r"must fit in its \d+ bytes, but they claim 32000000"
    ):
        load_checkpoint(pth)


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        ({"blocks.0.att.r_k": 1, "blocks.0.att.ln_x.weight": 1}, "an RWKV-7"),
        ({"blocks.0.att.time_maa_w1": 1, "blocks.0.att.ln_x.weight": 1}, "an RWKV-6"),
        ({"blocks.0.att.gate.weight": 1, "blocks.0.att.ln_x.weight": 1}, "an RWKV-5"),
        ({"blocks.1.tiny_q.weight": 1}, "an RWKV-4a"),
        ({"blocks.1.att.qq.weight": 1}, "an RWKV-4b"),
        ({"transformer.h.0.attn.weight": 1}, "something else"),
    ],
)
def test_a_relative_of_rwkv4_is_recognised(model, pth, extra, what):
    torch.save({**model.state_dict(), **{name: torch.zeros(8) for name in extra}}, pth)

    with pytest.raises(CheckpointError) as raised:
        load_checkpoint(pth)

    assert f"must be an RWKV-4, but it is {what}" in str(raised.value)
    assert str(raised.value).endswith(f": RWKV-4 has no {list(extra)}")


def test_an_embedding_with_ln0_folded_in_is_the_same_model(model, pth, tmp_path):
    weights = {n: w for n, w in model.state_dict().items() if ".ln0." not in n}
    weights["emb.weight"] = model.blocks[0].ln0(weights["emb.weight"])
    torch.save(weights, pth)
    tokens = torch.tensor([[5, 0, 200, 17]])

    loaded = load_checkpoint(pth).model

    assert loaded.config.ln0 is False
    assert torch.equal(loaded(tokens)[0], model(tokens)[0])
    save_model(loaded, None, tmp_path / "model")
    again = load_checkpoint(tmp_path / "model").model
    assert again.config.ln0 is False
    assert again.fingerprint() == loaded.fingerprint() != model.fingerprint()
    assert torch.equal(again(tokens)[0], model(tokens)[0])


def test_half_a_norm_is_refused(model, pth):
    torch.save({n: w for n, w in model.state_dict().items() if n != "blocks.0.ln0.bias"}, pth)

    with pytest.raises(CheckpointError, match=r"missing \['blocks.0.ln0.bias'\]"):
        load_checkpoint(pth)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1, 2], "must hold tensors by name, but it holds 'list'"),
        ({"model": {"emb.weight": torch.zeros(2, 2)}}, "'model' in .* must be a tensor"),
        ({1: torch.zeros(2)}, "1 in .* must be a tensor"),
        ({}, "has no matrix 'emb.weight'; it holds \\[\\]"),
        ({"emb.weight": torch.zeros(5)}, "has no matrix 'emb.weight'"),
        ({"emb.weight": torch.zeros(5, 4)}, "must hold layers and a vocabulary"),
        ({"emb.weight": torch.zeros(0, 4)}, "must hold layers and a vocabulary"),
        ({"emb.weight": torch.zeros(2, 2).to_sparse()}, "it asks for .*_rebuild_sparse_tensor"),
    ],
)
def test_what_is_not_a_state_dict_is_refused(pth, content, words):
    torch.save(content, pth)

    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(pth)


def test_a_layer_that_is_missing_is_named(model, pth):
    renamed = {n.replace("blocks.1.", "blocks.2."): w for n, w in model.state_dict().items()}
    torch.save(renamed, pth)

    with pytest.raises(CheckpointError, match=r"missing \['blocks.1.ln1.weight'"):
        load_checkpoint(pth)


@pytest.mark.parametrize(
    ("hostile", "name"),
    [(Path, "pathlib.Path"), (os.system, "posix.system"), (print, "__builtin__.print")],
)
def test_no_message_helps_a_hostile_file(pth, hostile, name):
    torch.save({"emb.weight": hostile}, pth)

    with pytest.raises(
        CheckpointError, match="must hold tensors by name and nothing else"
    ) as raised:
        load_checkpoint(pth)

    assert f"nothing else, whole, but it asks for {name!r}" in str(raised.value)
    assert "weights_only" not in str(raised.value)
    assert "trust" not in str(raised.value)


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")

    with pytest.raises(CheckpointError, match=r"got the file '.*pipe.pth'"):
        load_checkpoint(tmp_path / "pipe.pth")
