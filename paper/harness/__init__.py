"""What the scripts share: their command line, their texts, their results and how they draw."""

from paper.harness.drawing import COLOURS, new_figure, save_figure
from paper.harness.experiment import Experiment, Options, Scale, main
from paper.harness.results import Result, read_result
from paper.harness.tables import markdown_table
from paper.harness.text import Text, text_of

__all__ = [
    "COLOURS",
    "Experiment",
    "Options",
    "Result",
    "Scale",
    "Text",
    "main",
    "markdown_table",
    "new_figure",
    "read_result",
    "save_figure",
    "text_of",
]
