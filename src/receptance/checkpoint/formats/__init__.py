"""One format of checkpoints a file: what is particular to it on disk, and nothing else."""
