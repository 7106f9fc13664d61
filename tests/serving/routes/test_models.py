"""`/v1/models` over HTTP."""

from pathlib import Path

import httpx
import pytest

from receptance.inference import LanguageModel
from receptance.quantization import FORMATS, quantize_model
from receptance.serving.app import create_app
from receptance.serving.routes.models import model_object, trained_context
from receptance.serving.settings import Settings
from receptance.tokenizer import BytesTokenizer
from tests.random_models import random_rwkv4
from tests.serving.event_streams import refused


def test_the_model_is_listed_with_what_it_is(client: httpx.Client, lm: LanguageModel):
    answer = client.get("/v1/models").json()
    assert answer["object"] == "list"
    (model,) = answer["data"]
    assert (model["id"], model["object"], model["owned_by"]) == ("tiny", "model", "receptance")
    assert type(model["created"]) is int
    meta = model["meta"]
    assert meta["n_params"] == sum(each.numel() for each in lm.model.parameters())
    assert (meta["n_vocab"], meta["vocab_size"], meta["tokenizer"]) == (256, 256, "bytes")
    assert (meta["quantization"], meta["n_ctx_train"]) == (None, None)
    assert meta["fingerprint"] == lm.model.fingerprint()
    text = {"model": "tiny", "prompt": "what are you", "max_tokens": 1}
    written = client.post("/v1/completions", json=text).json()
    assert meta["system_fingerprint"] == written["system_fingerprint"]
    assert meta["dtype"] == "float32"
    tensors = lm.zero_state().tensors.values()
    assert meta["state_bytes"] == sum(each.nbytes for each in tensors)


@pytest.mark.parametrize(
    ("name", "n"),
    [
        ("RWKV-4-World-0.1B-v1-20230803-ctx4096.pth", 4096),
        ("RWKV-4-Pile-169M-20220807-8023-ctx1024", 1024),
        ("model", None),
        ("ctx", None),
        ("distinctx4096", None),
        ("ctx" + "9" * 5000, None),
    ],
)
def test_the_context_of_the_training_is_what_the_authors_name_says(name: str, n: int | None):
    assert trained_context(Path("folder-ctx8") / name) == n
    assert trained_context(None) is None


def test_a_quantized_model_says_so():
    rounded = quantize_model(random_rwkv4(2, 64, 256), FORMATS["int8"])
    lm = LanguageModel(rounded, BytesTokenizer(), path=Path("a-ctx512.pth"))
    meta = model_object(create_app(lm, Settings()).service)["meta"]
    assert (meta["quantization"], meta["n_ctx_train"]) == ("int8", 512)
    plain = random_rwkv4(2, 64, 256)
    assert meta["n_params"] == sum(each.numel() for each in plain.parameters())


def test_the_model_is_described_by_its_name(client: httpx.Client):
    assert client.get("/v1/models/tiny").json() == client.get("/v1/models").json()["data"][0]


def test_another_model_is_not_found_whatever_its_name_looks_like(client: httpx.Client):
    for name in ("gpt-5", "org/model", "%2e%2e/%2e%2e/etc/passwd", "x" * 5000):
        assert client.get(f"/v1/models/{name}").status_code == 404
    assert refused(client.get("/v1/models/org/model"), 404)["code"] == "model_not_found"
