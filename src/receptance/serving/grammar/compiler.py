"""From a schema or an expression to what the engine can keep a text to."""

from collections.abc import Mapping
from typing import Any

import llguidance

from receptance.errors import RequestError
from receptance.serving.grammar.matching import Matching
from receptance.serving.grammar.vocabulary import llguidance_tokenizer
from receptance.tokenizer import Tokenizer


class Grammar:
    """A form that any number of texts can be kept to."""

    def __init__(self, matcher: llguidance.LLMatcher, vocab_size: int) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size

    def start(self) -> Matching:
        """Return the beginning of one text."""
        return Matching(self._matcher.deep_copy(), self._vocab_size)


class GrammarCompiler:
    """Makes grammars for one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Take the tokenizer; what is made of it is made by the first grammar."""
        self._tokenizer = tokenizer
        self._vocabulary: llguidance.LLTokenizer | None = None

    def json_object(self) -> Grammar:
        """Return the grammar of any JSON object."""
        return self.json_schema({"type": "object"})

    def json_schema(self, schema: Mapping[str, Any]) -> Grammar:
        """Return the grammar of the JSON that a schema describes.

        Args:
            schema: A JSON schema.

        Raises:
            RequestError: If it is no schema, or too large.
        """
        return self._compiled(llguidance.LLMatcher.grammar_from_json_schema(dict(schema)))

    def regex(self, pattern: str) -> Grammar:
        """Return the grammar of the texts that a regular expression matches as a whole.

        Args:
            pattern: In the syntax of Rust's `regex`.

        Raises:
            RequestError: If it is no such expression, or too large.
        """
        return self._compiled(llguidance.LLMatcher.grammar_from_regex(pattern))

    def _compiled(self, grammar: str) -> Grammar:
        if self._vocabulary is None:
            self._vocabulary = llguidance_tokenizer(self._tokenizer)
        matcher = llguidance.LLMatcher(self._vocabulary, grammar, log_level=0)
        if matcher.is_error():
            raise RequestError(matcher.get_error(), param="response_format")
        return Grammar(matcher, self._tokenizer.vocab_size)
