"""How good a model is, and how far others are from it."""

from receptance.evaluation.comparison import Comparison, Distance, Estimate, compare
from receptance.evaluation.documents import Document, held_out_documents, read_documents
from receptance.evaluation.perplexity import Score, score_documents

__all__ = [
    "Comparison",
    "Distance",
    "Document",
    "Estimate",
    "Score",
    "compare",
    "held_out_documents",
    "read_documents",
    "score_documents",
]
