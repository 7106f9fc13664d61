"""A process without others is the ranks of a run, too."""

from receptance.training.ranks import ALONE


def test_a_process_alone_hears_itself():
    assert (ALONE.rank, ALONE.world_size, ALONE.is_first) == (0, 1, True)
    assert ALONE.gather_objects([1, "a"]) == [[1, "a"]]
    assert ALONE.for_saving().gather_objects(None) == [None]
