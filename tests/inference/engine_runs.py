"""What tests of the engine do with one, and how they compare texts."""

import torch

from receptance.inference import Engine, Generation, Output
from receptance.models import State
from tests.tolerances import ALGEBRA


def run(engine: Engine) -> dict[int, list[Output]]:
    """Step until nothing is left to do; the outputs by request."""
    outputs: dict[int, list[Output]] = {}
    for _ in range(500):
        if not engine.n_running + engine.n_waiting:
            break
        for output in engine.step():
            outputs.setdefault(output.id, []).append(output)
    return outputs


def whole(outputs: list[Output]) -> Generation:
    generation = outputs[-1].generation
    assert generation is not None
    return generation


def assert_same(found: Generation, expected: Generation) -> None:
    assert without_state(found) == without_state(expected)
    assert_same_state(found.state, expected.state)


def without_state(generation: Generation) -> dict:
    return {name: value for name, value in vars(generation).items() if name != "state"}


def assert_same_state(found: State, expected: State) -> None:
    for name, tensor in found.tensors.items():
        torch.testing.assert_close(tensor, expected.tensors[name], **ALGEBRA)
