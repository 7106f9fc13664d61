"""What the bits of a run depend on is told, and nothing else."""

import torch

from receptance.training.checkpoints.environment import changes, environment


def test_it_names_the_versions_the_threads_and_the_processor():
    here = environment(world_size=3)

    assert here["torch"] == torch.__version__
    assert here["threads"] == torch.get_num_threads()
    assert here["ranks"] == 3
    assert here["instruction set of the kernels"] in (
        *("none", "portable", "avx2", "avx512", "avx512_bf16", "neon"),
    )


def test_nothing_changes_from_one_moment_to_the_next():
    assert changes(environment(), environment()) == []


def test_what_changed_is_told_before_and_after():
    before = environment() | {"threads": 64, "python": "2.7"}
    del before["device"]

    assert changes(before, environment()) == ["threads: 64, now 1", "device: None, now cpu"]
