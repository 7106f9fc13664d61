"""How good a model is, and how far others are from it."""

from receptance.evaluation.agreement import Agreement, agreement, probe_logits, probe_tokens
from receptance.evaluation.blocks import BlockSums
from receptance.evaluation.bootstrap import Estimate
from receptance.evaluation.comparison import Comparison, Distance, compare
from receptance.evaluation.continuations import Scored, score_continuations
from receptance.evaluation.documents import Document, held_out_documents, read_documents
from receptance.evaluation.measurement import Bin, Measurement, default_stride, measure
from receptance.evaluation.perplexity import Score, score_documents
from receptance.evaluation.provenance import (
    file_entry,
    model_entry,
    start_entry,
    tokenizer_entry,
    versions,
)
from receptance.evaluation.results import (
    FIGURES,
    FileEntry,
    FormatFigure,
    ModelEntry,
    PositionEntry,
    Result,
    TaskFigure,
    TokenizerEntry,
    position_entries,
    read_result,
    result_json,
    save_result,
    text_entries,
)
from receptance.evaluation.side_by_side import Cell, Difference, SideBySide, side_by_side

__all__ = [
    "FIGURES",
    "Agreement",
    "Bin",
    "BlockSums",
    "Cell",
    "Comparison",
    "Difference",
    "Distance",
    "Document",
    "Estimate",
    "FileEntry",
    "FormatFigure",
    "Measurement",
    "ModelEntry",
    "PositionEntry",
    "Result",
    "Score",
    "Scored",
    "SideBySide",
    "TaskFigure",
    "TokenizerEntry",
    "agreement",
    "compare",
    "default_stride",
    "file_entry",
    "held_out_documents",
    "measure",
    "model_entry",
    "position_entries",
    "probe_logits",
    "probe_tokens",
    "read_documents",
    "read_result",
    "result_json",
    "save_result",
    "score_continuations",
    "score_documents",
    "side_by_side",
    "start_entry",
    "text_entries",
    "tokenizer_entry",
    "versions",
]
