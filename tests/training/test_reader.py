"""Batches are read ahead, and none is mistaken for another."""

import threading

import pytest
import torch

from receptance.data import Batch
from receptance.training.reader import BatchReader, Place


def batch_at(first: int, n_rows: int, segment: int) -> Batch:
    tokens = torch.full((n_rows, 3), 10 * first + segment)
    return Batch(tokens, tokens + 1, tokens == 0)


def test_what_was_read_ahead_is_what_is_asked_for():
    asked: list[tuple[int, int, int]] = []

    def batch_of(first: int, n_rows: int, segment: int) -> Batch:
        asked.append((first, n_rows, segment))
        return batch_at(first, n_rows, segment)

    places = [Place(4 * step, 4, 0) for step in range(4)]
    with BatchReader(batch_of) as reader:
        for place, following in zip(places, [*places[1:], None], strict=True):
            assert torch.equal(reader.read(place, following).tokens, batch_at(*place).tokens)

    assert asked == [tuple(place) for place in places]


def test_the_next_batch_is_read_while_this_one_is_used():
    begun = threading.Event()

    def batch_of(first: int, n_rows: int, segment: int) -> Batch:
        if first == 4:
            begun.set()
        return batch_at(first, n_rows, segment)

    with BatchReader(batch_of) as reader:
        reader.read(Place(0, 4, 0), Place(4, 4, 0))
        assert begun.wait(timeout=10)


def test_a_batch_that_was_read_ahead_in_vain_is_thrown_away():
    with BatchReader(batch_at) as reader:
        reader.read(Place(0, 2, 0), Place(2, 2, 0))
        found = reader.read(Place(8, 2, 1))

    assert torch.equal(found.tokens, batch_at(8, 2, 1).tokens)


def test_another_place_may_be_read_between_without_losing_what_is_ahead():
    asked: list[int] = []

    def batch_of(first: int, n_rows: int, segment: int) -> Batch:
        asked.append(first)
        return batch_at(first, n_rows, segment)

    with BatchReader(batch_of) as reader:
        reader.read(Place(0, 2, 0), Place(2, 2, 0))
        reader.read(Place(2, 1, 0))
        reader.read(Place(2, 2, 0))

    assert sorted(asked) == [0, 2, 2]


def test_an_error_of_reading_ahead_comes_with_its_batch():
    def batch_of(first: int, n_rows: int, segment: int) -> Batch:
        if first == 2:
            raise OSError("the disk is gone")
        return batch_at(first, n_rows, segment)

    with BatchReader(batch_of) as reader:
        reader.read(Place(0, 2, 0), Place(2, 2, 0))
        with pytest.raises(OSError, match="the disk is gone"):
            reader.read(Place(2, 2, 0))


@pytest.mark.gpu
def test_batches_for_a_gpu_can_be_copied_by_it():
    places = [Place(0, 4, 0), Place(4, 4, 0)]
    with BatchReader(batch_at, for_gpu=True) as reader:
        for place, following in ((places[0], places[1]), (places[1], None)):
            batch = reader.read(place, following)
            assert batch.tokens.is_pinned()
            assert batch.counted is None
            on_device = batch.to(torch.device("cuda"))
            assert torch.equal(on_device.targets.cpu(), batch_at(*place).targets)
