"""How good a model is."""

from receptance.evaluation.perplexity import Score, score_documents

__all__ = ["Score", "score_documents"]
