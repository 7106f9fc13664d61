"""Every number of every request: within its range, just beyond it, and beyond all sense."""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from receptance.inference import LanguageModel
from receptance.serving import Settings
from receptance.serving.app import create_app
from receptance.tokenizer import BytesTokenizer
from tests.random_models import random_rwkv4
from tests.serving.event_streams import refused
from tests.serving.live import live

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

CHAT, COMPLETION, EMBEDDING = "/v1/chat/completions", "/v1/completions", "/v1/embeddings"
_TINY = {"model": "tiny", "max_tokens": 2, "seed": 1}
_BODIES: dict[str, dict[str, Any]] = {
    CHAT: {**_TINY, "messages": [{"role": "user", "content": "a"}], "logprobs": True},
    COMPLETION: {**_TINY, "prompt": "a"},
    EMBEDDING: {"model": "tiny", "input": "a"},
    "/detokenize": {"model": "tiny"},
    "/tokenize": {"model": "tiny", "prompt": "a"},
}
N_EMBD, MOST_TOKENS, MOST_CHOICES, MOST_TOP = 8, 50, 4, 3


@dataclass(frozen=True)
class Field:
    """A number of a request."""

    path: str
    name: str
    least: float
    most: float
    is_whole: bool = True
    within: str = "{}"
    """What stands around the number, as JSON."""

    @property
    def wrong(self) -> Iterator[str]:
        """Values that it must not have, as JSON; some are none."""
        for number in (-1, 0, 2**31, 2**63, 2**64, 10**400, self.least - 1, self.most + 1):
            if not self.least <= number <= self.most:
                yield str(int(number)) if self.is_whole else json.dumps(number)
        yield from ("NaN", "Infinity", "-Infinity", "1e999", "-1e308", "true", '"1"', "[]", "{}")
        if self.is_whole:
            yield from ("1.5", "1.0", "1e308", "1e2")


_CHOICES = [
    ("n", 1, MOST_CHOICES, True),
    ("top_k", 0, math.inf, True),
    ("seed", -1, 2**63 - 1, True),
    ("temperature", 0, 2, False),
    ("presence_penalty", -2, 2, False),
    ("frequency_penalty", -2, 2, False),
]
_OPEN = ("top_p", "typical_p", "penalty_decay")  # from above 0 to 1
FIELDS = [
    *(Field(path, *each) for path in (CHAT, COMPLETION) for each in _CHOICES),
    *(Field(path, name, 1e-9, 1, False) for path in (CHAT, COMPLETION) for name in _OPEN),
    *(Field(path, "min_p", 0, 1 - 1e-9, False) for path in (CHAT, COMPLETION)),
    *(Field(path, "repetition_penalty", 1e-9, 100, False) for path in (CHAT, COMPLETION)),
    *(
        Field(path, "logit_bias", -100, 100, False, '{{"1": {}}}')
        for path in (CHAT, COMPLETION)
    ),
    Field(COMPLETION, "max_tokens", 0, MOST_TOKENS),
    Field(CHAT, "max_tokens", 1, MOST_TOKENS),
    Field(CHAT, "max_completion_tokens", 1, MOST_TOKENS),
    Field(CHAT, "top_logprobs", 0, MOST_TOP),
    Field(COMPLETION, "logprobs", 0, MOST_TOP),
    Field(COMPLETION, "best_of", 1, MOST_CHOICES),
    Field(COMPLETION, "prompt", 0, 255, within="[1, {}]"),
    Field(EMBEDDING, "dimensions", 1, N_EMBD),
    Field(EMBEDDING, "input", 0, 255, within="[[1], [{}]]"),
    Field("/detokenize", "tokens", 0, 255, within="[{}]"),
]  # fmt: skip


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    tokenizer = BytesTokenizer()
    lm = LanguageModel(random_rwkv4(1, N_EMBD, tokenizer.vocab_size), tokenizer)
    settings = Settings(
        port=0,
        max_tokens=MOST_TOKENS,
        max_choices=MOST_CHOICES,
        max_top_logprobs=MOST_TOP,
        max_logprobs=300,
        max_sequences=8,
    )
    app = create_app(lm, settings, model_name="tiny")
    with live(app, settings, app.room) as server, httpx.Client(base_url=server.address) as client:
        yield client
        assert app.service.metrics.value("engine_errors_total") == 0


def sent(client: httpx.Client, field: Field, value: str) -> httpx.Response:
    """Return the answer to a request with a field of this value, written as it is."""
    body = {name: each for name, each in _BODIES[field.path].items() if name != field.name}
    rest = json.dumps(body).removesuffix("}")
    content = f'{rest}, "{field.name}": {field.within.format(value)}}}'
    headers = {"content-type": "application/json"}
    return client.post(field.path, content=content, headers=headers)


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: f"{field.path} {field.name}")
def test_a_number_beyond_its_range_is_refused_by_its_name(client: httpx.Client, field: Field):
    for value in field.wrong:
        if field.name == "prompt" and value == "[]":
            continue
        error = refused(sent(client, field, value), 400)
        # What is no JSON at all is nobody's field.
        no_json = value in ("NaN", "Infinity", "-Infinity", "1e999")
        named = (error["param"] or "").startswith(field.name)
        assert named or (no_json and error["param"] is None), (value, error)


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: f"{field.path} {field.name}")
def test_a_number_at_the_end_of_its_range_is_taken(client: httpx.Client, field: Field):
    for number in (field.least, min(field.most, 2**62) if field.most == math.inf else field.most):
        value = str(int(number)) if field.is_whole else repr(float(number))
        answer = sent(client, field, value)
        assert answer.status_code == 200, (value, answer.text)


def test_numbers_that_are_large_together_are_refused(client: httpx.Client):
    echo = {**_BODIES[COMPLETION], "logprobs": 3, "echo": True, "prompt": "a" * 80}
    chat = {**_BODIES[CHAT], "top_logprobs": 3, "n": 4}
    assert client.post(COMPLETION, json={**echo, "prompt": "a" * 70}).status_code == 200
    assert client.post(CHAT, json=chat).status_code == 200
    for path, body in ((COMPLETION, echo), (CHAT, {**chat, "max_tokens": 20})):
        assert refused(client.post(path, json=body), 400)["param"] == "logprobs"


def test_what_is_refused_takes_no_memory(client: httpx.Client):
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    def siege() -> None:
        for field in FIELDS:
            for value in field.wrong:
                sent(client, field, value)

    siege()
    before = resident()
    siege()
    assert resident() - before < 5 * 2**20
