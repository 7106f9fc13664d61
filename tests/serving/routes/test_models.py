"""`/v1/models` over HTTP."""

import httpx

from receptance.inference import LanguageModel
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
    assert meta["fingerprint"] == lm.model.fingerprint()
    text = {"model": "tiny", "prompt": "a", "max_tokens": 1}
    written = client.post("/v1/completions", json=text).json()
    assert meta["system_fingerprint"] == written["system_fingerprint"]
    assert meta["dtype"] == "float32"
    tensors = lm.zero_state().tensors.values()
    assert meta["state_bytes"] == sum(each.nbytes for each in tensors)


def test_the_model_is_described_by_its_name(client: httpx.Client):
    assert client.get("/v1/models/tiny").json() == client.get("/v1/models").json()["data"][0]


def test_another_model_is_not_found_whatever_its_name_looks_like(client: httpx.Client):
    for name in ("gpt-5", "org/model", "%2e%2e/%2e%2e/etc/passwd", "x" * 5000):
        assert client.get(f"/v1/models/{name}").status_code == 404
    assert refused(client.get("/v1/models/org/model"), 404)["code"] == "model_not_found"
