"""What a checkpoint is, and how it differs from another, found out one tensor at a time."""

from receptance.checkpoint.inspection.description import Description, describe
from receptance.checkpoint.inspection.difference import Difference, difference

__all__ = ["Description", "Difference", "describe", "difference"]
