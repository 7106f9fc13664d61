"""Texts for a file of prompts: many at once, written in order, gone on with after a kill."""

from receptance.inference.batch.batch import BatchReport, generate_file

__all__ = ["BatchReport", "generate_file"]
