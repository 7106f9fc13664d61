"""The paper, executable: a script for each table and figure (arXiv:2305.13048)."""
