"""The states of all sequences that are being written, in slots of one block of memory."""

import math

import torch

from receptance.inference.impossible import ImpossibleRequestError
from receptance.models import State

_NO_SLOT = "a slot must be free to be acquired, but all are taken; release one first"


class StatePool:
    """A fixed number of slots, each with room for the state of one sequence.

    Whoever acquires a slot finds the zero state there and has it until it is released. Memory is
    taken once, when the pool is made.
    """

    def __init__(self, zero_state: State, n_slots: int, *, poison: bool = False) -> None:
        """Take the memory.

        Args:
            zero_state: Of one sequence: what an acquired slot holds. States that are read out
                carry its fingerprint.
            n_slots: At least 1.
            poison: Whether free slots hold NaN, so that a use of one is seen.

        Raises:
            ValueError: If there is no slot, or `zero_state` is of several sequences.
        """
        if n_slots < 1:
            raise ValueError(f"`n_slots` must be at least 1, got {n_slots}")
        if zero_state.batch_size != 1:
            raise ValueError(
                f"`zero_state` must be of one sequence, got one of {zero_state.batch_size}"
            )
        self._zero_state = zero_state
        self._state = zero_state.select([0] * n_slots)
        self._poison = poison
        self._free = list(range(n_slots))
        if poison:
            for slot in self._free:
                self._fill_with_nan(slot)

    @property
    def state(self) -> State:
        """The states of all slots as one, whose row i is slot i: what a step changes in place."""
        return self._state

    @property
    def n_slots(self) -> int:
        """How many slots there are."""
        return self._state.batch_size

    @property
    def n_free(self) -> int:
        """How many of them can be acquired."""
        return len(self._free)

    @property
    def memory_bytes(self) -> int:
        """How much memory the slots take, free or not."""
        return sum(tensor.nbytes for tensor in self._state.tensors.values())

    def acquire(self) -> int:
        """Return a slot that was free and now holds the zero state.

        Raises:
            RuntimeError: If none is free.
        """
        if not self._free:
            raise RuntimeError(_NO_SLOT)
        slot = self._free.pop()
        self.write(slot, self._zero_state)
        return slot

    def release(self, slot: int) -> None:
        """Make a slot free. Its state is lost.

        Raises:
            ValueError: If it is not taken.
        """
        self._check_taken(slot)
        self._free.append(slot)
        if self._poison:
            self._fill_with_nan(slot)

    def read(self, slot: int) -> State:
        """Return a copy of the state in a slot, of batch size 1.

        Raises:
            ValueError: If the slot is not taken.
        """
        self._check_taken(slot)
        return self._state.select([slot])

    def write(self, slot: int, state: State) -> None:
        """Put a state of one sequence into a slot.

        Args:
            slot: One that is taken.
            state: Of the same model. Not modified.

        Raises:
            ValueError: If the slot is not taken, or as `check`.
        """
        self._check_taken(slot)
        self.check(state)
        for name, tensor in self._state.tensors.items():
            tensor[:, slot] = state.tensors[name][:, 0].to(tensor)

    def check(self, state: State) -> None:
        """Refuse a state that fits into no slot.

        Raises:
            ImpossibleRequestError: If `state` is of several sequences, or of another shape.
        """
        expected = {name: tensor.shape for name, tensor in self._zero_state.tensors.items()}
        found = {name: tensor.shape for name, tensor in state.tensors.items()}
        if found != expected:
            raise ImpossibleRequestError(
                f"`state` must be of one sequence and of this model, {_in_words(expected)}, got "
                f"{_in_words(found)}"
            )

    def copy(self, source: int, target: int) -> None:
        """Put the state in one slot into another as well.

        Raises:
            ValueError: If one of them is not taken.
        """
        self._check_taken(source)
        self._check_taken(target)
        for tensor in self._state.tensors.values():
            tensor[:, target] = tensor[:, source]

    def _check_taken(self, slot: int) -> None:
        if not 0 <= slot < self.n_slots or slot in self._free:
            raise ValueError(
                f"`slot` must be one of {self.n_slots} and taken, got {slot}; acquire it first"
            )

    def _fill_with_nan(self, slot: int) -> None:
        for tensor in self._state.tensors.values():
            tensor[:, slot] = math.nan


def _in_words(shapes: dict[str, torch.Size]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
