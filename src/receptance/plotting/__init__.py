"""Plotting: curves in, a picture or a drawing of characters out. It knows nothing of runs."""

from receptance.plotting.chart import Chart, Curve, smoothed
from receptance.plotting.drawing import draw
from receptance.plotting.picture import PICTURE_FORMATS, require_matplotlib, save_picture

__all__ = [
    "PICTURE_FORMATS",
    "Chart",
    "Curve",
    "draw",
    "require_matplotlib",
    "save_picture",
    "smoothed",
]
