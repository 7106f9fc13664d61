"""Nobody is passed by, and nobody waits for the end of somebody else's prompt."""

from hypothesis import given
from hypothesis import strategies as st

from receptance.inference.scheduler import Scheduler


def test_families_begin_in_order_when_there_is_room_for_all_of_them():
    scheduler = Scheduler()
    for family in ([0], [1, 2, 3], [4]):
        scheduler.add(family)
    assert scheduler.n_waiting == 5

    assert scheduler.admit(3) == [[0]]
    assert scheduler.admit(2) == []  # and the last one does not pass the family before it
    assert scheduler.admit(4) == [[1, 2, 3], [4]]
    assert scheduler.n_waiting == 0
    assert scheduler.admit(9) == []


def test_slots_are_kept_for_the_members_of_a_family_that_reads():
    scheduler = Scheduler()
    scheduler.add([0, 1, 2])
    assert scheduler.admit(3) == [[0, 1, 2]]
    scheduler.add([3])

    assert scheduler.admit(2) == []  # two are free, and spoken for
    scheduler.remove(1)
    assert scheduler.admit(2) == [[3]]


def test_prompts_are_read_in_turn():
    scheduler = Scheduler()
    for family in ([0], [1, 2], [3]):
        scheduler.add(family)
    scheduler.admit(4)

    assert [scheduler.next_to_read() for _ in range(4)] == [[0], [1, 2], [3], [0]]
    scheduler.remove(3)
    assert [scheduler.next_to_read() for _ in range(3)] == [[1, 2], [0], [1, 2]]


def test_a_removed_request_is_forgotten_wherever_it_is():
    scheduler = Scheduler()
    scheduler.add([0, 1])
    scheduler.add([2])
    scheduler.remove(0)
    assert scheduler.n_waiting == 2

    assert scheduler.admit(1) == [[1]]
    scheduler.remove(1)
    scheduler.remove(2)
    scheduler.remove(99)

    assert scheduler.next_to_read() == []
    assert scheduler.n_waiting == 0
    assert scheduler.admit(9) == []


@given(sizes=st.lists(st.integers(1, 3), min_size=1, max_size=12), n_slots=st.integers(3, 5))
def test_all_begin_in_order_and_no_slot_is_promised_twice(sizes, n_slots):
    scheduler = Scheduler()
    waiting = [[100 * i + member for member in range(size)] for i, size in enumerate(sizes)]
    for family in waiting:
        scheduler.add(family)

    reading: list[list[int]] = []
    while waiting or reading:
        begun = scheduler.admit(n_slots - len(reading))  # who reads has one slot as yet
        assert begun == waiting[: len(begun)]
        waiting = waiting[len(begun) :]
        reading += begun
        assert sum(map(len, reading)) <= n_slots
        family = scheduler.next_to_read()  # and is done with its first chunk
        reading.remove(family)
        for member in family:
            scheduler.remove(member)
