"""What a text must be like: JSON, JSON of a schema, or a regular expression."""

from receptance.serving.grammar.compiler import Grammar, GrammarCompiler
from receptance.serving.grammar.matching import Matching

__all__ = ["Grammar", "GrammarCompiler", "Matching"]
