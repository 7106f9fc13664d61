"""How good a model is, and how far others are from it."""

from receptance.evaluation.agreement import Agreement, agreement, probe_logits, probe_tokens
from receptance.evaluation.bootstrap import Estimate
from receptance.evaluation.comparison import Comparison, Distance, compare
from receptance.evaluation.documents import Document, held_out_documents, read_documents
from receptance.evaluation.perplexity import Score, score_documents

__all__ = [
    "Agreement",
    "Comparison",
    "Distance",
    "Document",
    "Estimate",
    "Score",
    "agreement",
    "compare",
    "held_out_documents",
    "probe_logits",
    "probe_tokens",
    "read_documents",
    "score_documents",
]
