"""Random numbers go on after a checkpoint as if there had been none."""

import json
import random

import numpy as np
import pytest
import torch

from receptance.training.checkpoints.random_states import (
    random_states,
    seed_random_states,
    set_random_states,
)


def draw() -> list[float]:
    """Return some numbers of each generator, normal ones too, of which two are made at once."""
    return [
        random.random(),
        random.gauss(),
        float(np.random.rand()),
        float(np.random.randn()),
        torch.rand(1).item(),
        torch.randn(3)[2].item(),
    ]


# The hook that checks shapes draws from Python's generator itself.
@pytest.mark.unhooked
def test_all_generators_go_on_where_they_were():
    draw()
    states = json.loads(json.dumps(random_states()))
    expected = draw()
    draw()

    set_random_states(states)

    assert draw() == expected


@pytest.mark.unhooked
def test_taking_the_states_draws_nothing():
    first = random_states()

    assert random_states() == first


@pytest.mark.parametrize("change", [{"torch": "00"}, {"python": [3, [1, 2], None]}, {"numpy": {}}])
def test_what_is_not_a_state_is_refused(change):
    with pytest.raises((KeyError, TypeError, ValueError, RuntimeError)):
        set_random_states(random_states() | change)


def test_states_of_devices_that_are_not_here_are_passed_over():
    n_devices = torch.cuda.device_count()

    set_random_states(random_states() | {"cuda": ["00"] * (n_devices + 1) if not n_devices else []})


@pytest.mark.unhooked
def test_a_seed_is_a_place_to_begin():
    drawn = []
    for seed in (2**63 - 1, 2**63 - 1, 0):
        seed_random_states(seed)
        drawn.append(draw())

    assert drawn[0] == drawn[1]
    assert all(a != b for a, b in zip(drawn[0], drawn[2], strict=True))
