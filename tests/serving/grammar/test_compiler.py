"""Grammars: what texts they allow, what bombs they refuse, and how fast."""

import json
import random
import time
from typing import Any

import jsonschema_rs
import pytest
import torch

from receptance.errors import RequestError
from receptance.inference import LanguageModel
from receptance.serving.grammar.compiler import Grammar, GrammarCompiler
from receptance.tokenizer import BytesTokenizer, Tokenizer, train_bpe
from tests.hostile.grammars import BOMBS
from tests.random_models import random_rwkv4

BYTES = BytesTokenizer()
COMPILER = GrammarCompiler(BYTES)

SHORT = {"type": "string", "maxLength": 8}
SCHEMAS: dict[str, dict[str, Any]] = {
    "person": {
        "type": "object",
        "properties": {
            "name": SHORT,
            "age": {"type": "integer", "minimum": 0, "maximum": 150},
            "mail": {"type": ["string", "null"], "maxLength": 3},
        },
        "required": ["name", "age"],
        "additionalProperties": False,
    },
    "list": {"items": {"enum": ["a", 1, None]}, "type": "array", "minItems": 2, "maxItems": 5},
    "tree": {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "v": {"type": "boolean"},
                    "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                },
                "required": ["v", "next"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/node",
    },
    "pattern": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{1,3}$"},
    "tuple": {
        "type": "array",
        "prefixItems": [SHORT, {"const": {"k": [1, 2]}}],
        "items": False,
        "minItems": 2,
    },
    "either": {
        "oneOf": [
            {"type": "object", "properties": {"k": {"const": "a"}}, "required": ["k"],
             "additionalProperties": False},
            {"type": "object", "properties": {"k": {"const": "b"}, "n": {"type": "null"}},
             "required": ["k", "n"], "additionalProperties": False},
        ]
    },
    "date": {"type": "string", "format": "date"},
    "both": {"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 50, "multipleOf": 5}]},
}  # fmt: skip


def tokenizers() -> dict[str, Tokenizer]:
    text = 'ab {"name": "Ann", "age": 7, "v": true, "next": null} [1, 2] {"k": "b"} AB-12\n'
    return {"bytes": BYTES, "bpe": train_bpe([text * 20], vocab_size=330)}


@pytest.fixture(scope="module", params=["bytes", "bpe"])
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    tokenizer = tokenizers()[request.param]
    model = random_rwkv4(n_layer=1, n_embd=8, vocab_size=tokenizer.vocab_size)
    return LanguageModel(model, tokenizer)


def written(lm: LanguageModel, grammar: Grammar, seed: int, most: int = 400) -> tuple[str, bool]:
    """A text that the model writes by chance, and whether it is whole."""
    generator = torch.Generator().manual_seed(seed)
    matching, tokens = grammar.start(), list[int]()
    logits, state = lm.forward([1 + seed])
    while len(tokens) < most and not matching.is_over:
        masked = logits[: lm.tokenizer.vocab_size].masked_fill(~matching.allowed(), float("-inf"))
        token = int(torch.multinomial(masked.softmax(-1), 1, generator=generator))
        if token == lm.tokenizer.end_of_text:
            return lm.tokenizer.decode(tokens), True
        matching.accept(token)
        tokens.append(token)
        logits, state = lm.forward([token], state)
    return lm.tokenizer.decode(tokens), matching.is_over


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS.keys())
def test_every_whole_text_is_json_of_its_schema(lm: LanguageModel, schema: dict[str, Any]):
    grammar = GrammarCompiler(lm.tokenizer).json_schema(schema)
    texts = [written(lm, grammar, seed) for seed in range(4)]
    assert any(is_whole for _, is_whole in texts)
    for text, is_whole in texts:
        if is_whole:
            jsonschema_rs.validate(schema, json.loads(text))


def test_any_object_is_json(lm: LanguageModel):
    grammar = GrammarCompiler(lm.tokenizer).json_object()
    for seed in range(2):
        text, is_whole = written(lm, grammar, seed, most=50)
        assert text.startswith("{")
        assert not is_whole or isinstance(json.loads(text), dict)


def allowed(grammar: Grammar, text: str) -> bool:
    """Whether the grammar lets the text be written, and end."""
    matching = grammar.start()
    for token in BYTES.encode(text):
        if matching.is_over or not matching.allowed()[token]:
            return False
        matching.accept(token)
    return matching.is_over or bool(matching.allowed()[0])


def test_an_expression_matches_the_whole_text():
    grammar = COMPILER.regex("ab?|漢")
    assert [allowed(grammar, text) for text in ("a", "ab", "漢")] == [True] * 3
    assert [allowed(grammar, text) for text in ("", "b", "abb", "aab", "\0")] == [False] * 5


def test_json_is_on_one_line_with_a_space_after_commas_and_colons_or_none():
    grammar = COMPILER.json_schema(SCHEMAS["person"])
    assert allowed(grammar, '{"name": "A", "age": 7}')
    assert allowed(grammar, '{"name":"A","age":7}')
    assert not allowed(grammar, '{"name":  "A", "age": 7}')
    assert not allowed(grammar, '{"age": 7, "name": "A"}')


def test_each_text_has_its_own_place_in_a_grammar():
    grammar = COMPILER.regex("ab")
    first, second = grammar.start(), grammar.start()
    first.accept(ord("a"))
    assert second.allowed().nonzero()[:, 0].tolist() == [ord("a")]
    assert first.allowed().nonzero()[:, 0].tolist() == [ord("b")]


def test_a_grammar_is_compiled_once_and_not_all_are_remembered():
    compiler = GrammarCompiler(BYTES)
    first = compiler.regex("first")
    assert compiler.regex("first") is first
    for number in range(40):
        compiler.regex(f"other{number}")
    assert compiler.regex("first") is not first
    assert len(compiler._grammars) == 32


@pytest.mark.parametrize(
    ("schema", "path", "words"),
    [
        ({"properties": {"a": {"items": {"type": "foo"}}}}, ".properties.a.items", "foo"),
        ({"allOf": [{}, {"pattern": "(?=a)", "type": "string"}]}, ".allOf[1]", "look-around"),
        ({"$defs": {"d": {"type": "no"}}, "$ref": "#/$defs/d"}, ".$defs.d", "Invalid type: no"),
        ({"properties": {"a": {"$ref": "#/$defs/no"}}}, ".properties.a", "does not exist"),
        ({"type": "string", "minLength": 5, "maxLength": 2}, "", "greater than"),
        ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "", "oneOf"),
        ({"$ref": "#"}, "", "nothing fits"),
        ({"const": "\ud800"}, "", "JSON"),
    ],
)  # fmt: skip
def test_what_llguidance_refuses_is_refused_by_its_path(
    schema: dict[str, Any], path: str, words: str
):
    with pytest.raises(RequestError, match=words) as error:
        COMPILER.json_schema(schema)
    assert (error.value.status, error.value.param) == (
        400,
        f"response_format.json_schema.schema{path}",
    )
    assert "\n<state>" not in str(error.value)


@pytest.mark.parametrize("pattern", ["(", "a{2,1}", "(?=a)b", r"\p{Nothing}", "[z-a]"])
def test_what_is_no_expression_is_refused(pattern: str):
    with pytest.raises(RequestError, match="cannot be kept to") as error:
        COMPILER.regex(pattern, param="response_format.regex")
    assert error.value.param == "response_format.regex"


def test_every_bomb_is_refused_or_harmless_within_a_second():
    assert len(BOMBS) >= 200
    compiler = GrammarCompiler(BYTES)
    compiler.json_object()
    rng = random.Random(0)
    slow: dict[str, float] = {}
    refused: dict[str, RequestError] = {}
    for name, bomb in BOMBS.items():
        begin = time.process_time()
        try:
            grammar = compiler.regex(bomb) if isinstance(bomb, str) else compiler.json_schema(bomb)
            matching = grammar.start()
            for _ in range(50):
                if matching.is_over:
                    break
                choices = matching.allowed()[1:].nonzero()[:, 0].tolist()
                if not choices:
                    break
                matching.accept(1 + rng.choice(choices))
        except RequestError as error:
            refused[name] = error
        seconds = time.process_time() - begin
        if seconds > 0.7:  # and at most 0.3 in the confined process
            slow[name] = seconds
    assert slow == {}
    assert len(refused) > 50
    assert {error.status for error in refused.values()} == {400}
    assert all((error.param or "").startswith("response_format") for error in refused.values())
    assert allowed(compiler.regex("still here"), "still here")
