"""From a schema or an expression to what the engine can keep a text to."""

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import llguidance

from receptance.errors import RequestError
from receptance.serving.confinement import Confined, ConfinedError
from receptance.serving.grammar.matching import Matching
from receptance.serving.grammar.pattern import check_pattern
from receptance.serving.grammar.schema import check_schema, subschemas
from receptance.serving.grammar.vocabulary import llguidance_tokenizer
from receptance.tokenizer import Tokenizer

SCHEMA_PARAM = "response_format.json_schema.schema"
PATTERN_PARAM = "response_format.pattern"

# Computing time and memory of the process that tries a grammar before the server makes it.
_SECONDS = 0.3
_MEGABYTES = 256
# What looks for the part of a schema that is to blame.
_SEARCH_SECONDS = 0.5
_MAX_GRAMMARS = 32
# JSON on one line, with a space after commas and colons or without. Other white space would let a
# model write nothing but that.
_JSON_OPTIONS: Any = {
    "whitespace_flexible": False,
    "item_separator": ", ?",
    "key_separator": ": ?",
}


class Grammar:
    """A form that any number of texts can be kept to."""

    def __init__(self, matcher: llguidance.LLMatcher, vocab_size: int) -> None:
        """Take what was compiled.

        Args:
            matcher: At its beginning.
            vocab_size: How many tokens the tokenizer has.
        """
        self._matcher = matcher
        self._vocab_size = vocab_size

    def start(self) -> Matching:
        """Return the beginning of one text."""
        return Matching(self._matcher.deep_copy(), self._vocab_size)


class GrammarCompiler:
    """Makes grammars for one tokenizer, and remembers the last ones.

    Each is tried in a confined process first: llguidance has limits of its own, but a schema of
    definitions that refer to each other in a chain overflows its stack, which ends the process.
    Any of the methods may take a second: call them where nobody waits, from any thread.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Take the tokenizer; what is made of it is made by the first grammar."""
        self._tokenizer = tokenizer
        self._vocabulary: llguidance.LLTokenizer | None = None
        self._confined = Confined("grammar", seconds=_SECONDS, megabytes=_MEGABYTES)
        self._grammars: OrderedDict[str, Grammar] = OrderedDict()
        self._lock = threading.Lock()

    def json_object(self) -> Grammar:
        """Return the grammar of any JSON object."""
        return self.json_schema({"type": "object"})

    def json_schema(self, schema: Mapping[str, Any], *, param: str = SCHEMA_PARAM) -> Grammar:
        """Return the grammar of the JSON that a schema describes.

        It is written on one line, its properties in the order of the schema.

        Args:
            schema: A JSON schema of the keywords of `schema.KEYWORDS`.
            param: Where it stands in the request.

        Raises:
            RequestError: If it is no such schema, nothing fits it, or it is too large; its `param`
                is the path to what is wrong.
        """
        try:
            grammar = _from_schema(check_schema(schema, param))
        except (RecursionError, ValueError) as error:  # deep lists in `default`, half characters
            message = f"`{param}` must be JSON that is not too deep, but it cannot be written"
            raise RequestError(message, param=param) from error
        remembered = self._remembered(grammar)
        if remembered is not None:
            return remembered
        problem = self._problem(grammar, param)
        if problem is not None:
            path, problem = self._blamed(schema, param, problem)
            raise RequestError(f"`{path}` cannot be kept to: {problem}", param=path)
        return self._compiled(grammar, param)

    def regex(self, pattern: str, *, param: str = PATTERN_PARAM) -> Grammar:
        """Return the grammar of the texts that a regular expression matches as a whole.

        Args:
            pattern: In the syntax of Rust's `regex`.
            param: Where it stands in the request.

        Raises:
            RequestError: If it is no such expression, nothing fits it, or it is too large.
        """
        check_pattern(pattern, param)
        grammar = llguidance.LLMatcher.grammar_from_regex(pattern)
        remembered = self._remembered(grammar)
        if remembered is not None:
            return remembered
        problem = self._problem(grammar, param)
        if problem is not None:
            raise RequestError(f"`{param}` cannot be kept to: {problem}", param=param)
        return self._compiled(grammar, param)

    def close(self) -> None:
        """End the confined process."""
        self._confined.close()

    def _problem(self, grammar: str, param: str) -> str | None:
        """Return why a grammar cannot be used, None if it can.

        Raises:
            RequestError: If it takes too much to say.
        """
        try:
            said = self._confined.ask(grammar=grammar)
        except ConfinedError as error:
            message = f"`{param}` cannot be kept to: {error}; make it simpler"
            raise RequestError(message, param=param) from error
        if said.startswith("NoExtension"):
            return "nothing fits it"
        # The state that llguidance adds is for who debugs it.
        return " ".join(said.partition("\n<state>")[0].split())[:300] or None

    def _blamed(self, schema: Mapping[str, Any], path: str, problem: str) -> tuple[str, str]:
        """Return the path to the deepest part of a schema that fails alone, and why it does."""
        until = time.monotonic() + _SEARCH_SECONDS
        definitions = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
        node = schema
        while True:
            for where, child in subschemas(node, path):
                if time.monotonic() > until:
                    return path, problem
                if not isinstance(child, Mapping):
                    continue
                alone = _from_schema(json.dumps({**definitions, **child}))
                found = self._problem(alone, where)
                if found is not None:
                    node, path, problem = child, where, found
                    break
            else:
                return path, problem

    def _remembered(self, grammar: str) -> Grammar | None:
        with self._lock:
            if grammar in self._grammars:
                self._grammars.move_to_end(grammar)
            return self._grammars.get(grammar)

    def _compiled(self, grammar: str, param: str) -> Grammar:
        """Return a grammar that was tried, made for the tokenizer, and remember it."""
        with self._lock:
            if self._vocabulary is None:
                self._vocabulary = llguidance_tokenizer(self._tokenizer)
        matcher = llguidance.LLMatcher(self._vocabulary, grammar, log_level=0)
        if matcher.is_error():
            raise RequestError(f"`{param}` cannot be kept to: make it simpler", param=param)
        made = Grammar(matcher, self._tokenizer.vocab_size)
        with self._lock:
            self._grammars[grammar] = made
            while len(self._grammars) > _MAX_GRAMMARS:
                self._grammars.popitem(last=False)
        return made


def _from_schema(written: str) -> str:
    return llguidance.LLMatcher.grammar_from_json_schema(written, overrides=_JSON_OPTIONS)
