"""Schemas and expressions that take more than they should, or look as if they did."""

from collections.abc import Callable
from typing import Any


def chain(n: int, wrap: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """Definitions that refer to one another, the last one to nothing."""
    definitions = {f"a{k}": wrap({"$ref": f"#/$defs/a{k + 1}"}) for k in range(n)}
    return {"$defs": {**definitions, f"a{n}": {"type": "string"}}, "$ref": "#/$defs/a0"}


def deep(n: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(n):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def bombs() -> dict[str, str | dict[str, Any]]:
    found: dict[str, str | dict[str, Any]] = {}
    for n in (1, 2, 5, 10, 100, 1000, 10_000, 100_000, 10**6):
        found[f"parentheses {n}"] = "(" * n + "a" + ")" * n
        found[f"stars {n}"] = "(" * n + "a" + ")*" * n
        found[f"alternatives {n}"] = "|".join(f"w{k}" for k in range(n))
        found[f"count {n}"] = f"a{{{n * 1000}}}"
        found[f"counts in counts {n}"] = f"((a{{{n}}}){{{n}}}){{{n}}}"
        found[f"optional {n}"] = "a?" * n
        found[f"optional then all {n}"] = "a?" * n + "a" * n
        found[f"classes {n}"] = r"\p{L}{1,50}\w+" * n
        found[f"anything {n}"] = ".*x" * n
        found[f"enum {n}"] = {"enum": [f"v{k}" for k in range(n)]}
        found[f"length {n}"] = {"type": "string", "minLength": n, "maxLength": 2 * n}
        found[f"items {n}"] = {"type": "array", "minItems": n, "items": {"type": "string"}}
    for n in (1, 2, 5, 10, 30, 100, 300, 1000, 2000, 10_000):
        found[f"chain of any {n}"] = chain(n, lambda ref: {"anyOf": [{"type": "null"}, ref]})
        found[f"chain of all {n}"] = chain(n, lambda ref: {"allOf": [{"minLength": 1}, ref]})
        found[f"chain of lists {n}"] = chain(n, lambda ref: {"type": "array", "items": ref})
        found[f"chain {n}"] = chain(n, lambda ref: ref)
        found[f"doubling all {n}"] = chain(n, lambda ref: {"allOf": [ref, ref]})
        found[f"doubling one {n}"] = chain(n, lambda ref: {"oneOf": [ref, ref]})
        found[f"products {n}"] = chain(
            n, lambda ref: {"allOf": [{"anyOf": [ref, {"minLength": 2}]}, ref]}
        )
        found[f"properties {n}"] = {"properties": {f"p{k}": {} for k in range(n)}}
        found[f"deep {n}"] = deep(n)
    for n in (1, 3, 97, 10_007, 999_999_937, 2**61 - 1):
        found[f"multiple {n}"] = {"type": "integer", "multipleOf": n}
    found["itself"] = {"$ref": "#"}
    found["itself, twice"] = {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}
    found["each other"] = {
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
        "$ref": "#/$defs/a",
    }
    for text in ("(a+)+", "(a+)+$", "(a|a)*b", "(a|aa)+$", "(.*)*x", "(a*)*b", ".*a.{500}"):
        found[text] = text
        found[f"{text} in a schema"] = {"type": "string", "pattern": text}
    return found


BOMBS = bombs()
"""By what they are: a text is an expression, an object a schema."""
