"""Models that generate are of the sizes that are said, and are timed where it is said."""

import pytest

from paper.figure_7_13_14_generation import bend, carried_bytes
from paper.harness.generation import Shape, generator_of

SHAPE = Shape(n_layer=1, n_embd=16, n_heads=2, vocab_size=32)


@pytest.mark.parametrize(("power", "expected"), [(1, 1.0), (2, 2.0)])
def test_the_bend_is_one_of_a_line_and_two_of_a_parabola(power, expected):
    tokens = [16, 32, 48, 64]
    assert bend(tokens, [0.5 * each**power for each in tokens]) == pytest.approx(expected)


def test_seconds_are_told_after_each_of_the_numbers_of_tokens():
    seconds = generator_of("rwkv", SHAPE, 8).run([2, 4, 8])
    assert len(seconds) == 3
    assert seconds == sorted(seconds)


def test_a_transformer_generates_with_its_cache_and_without():
    pytest.importorskip("transformers")
    for kind in ("neox", "neox cache"):
        generator = generator_of(kind, SHAPE, 4)
        # 2VC for the embedding and the head, 12C² + 13C a layer, and the last norm.
        assert generator.n_parameters == 2 * 32 * 16 + 12 * 256 + 13 * 16 + 2 * 16
        assert len(generator.run([1, 4])) == 2


def test_the_state_does_not_grow_and_the_cache_does():
    point = {"n_layer": 2, "n_embd": 8}
    assert carried_bytes({**point, "kind": "rwkv"}, 100) == 4 * 5 * 2 * 8
    assert carried_bytes({**point, "kind": "opt cache"}, 100) == 4 * 2 * 2 * 8 * 100
    assert carried_bytes({**point, "kind": "opt"}, 100) == 0
