"""A conversation with a model, remembered by its state alone.

How turns are written is `receptance.chat_format`'s to say.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from receptance.chat_format import ChatFormat
from receptance.inference.generation import Generation
from receptance.inference.language_model import LanguageModel
from receptance.inference.sampling import SamplingParams
from receptance.models import State

_N_TURNS_TO_UNDO = 16
_NO_TURN = "there must be a turn to take back, but there is none"
_NOTHING_SAID = "there must be something to save, but nothing was said yet"


@dataclass(frozen=True)
class _Turn:
    """A user's turn that was answered, and the memory before it."""

    text: str
    state: State | None


class Chat:
    """A conversation. What was said is in the state only, so memory does not grow with it."""

    def __init__(
        self,
        lm: LanguageModel,
        params: SamplingParams | None = None,
        *,
        system: str = "",
        chat_format: ChatFormat | None = None,
    ) -> None:
        """Begin a conversation.

        Args:
            lm: The model, with a tokenizer.
            params: How to choose tokens. With a seed, every answer has its own, seed + the number
                of answers asked for before it.
            system: Instructions that stand before the first turn.
            chat_format: How turns are written; None is the authors'.
        """
        self._lm = lm
        self._params = params or SamplingParams()
        self._format = chat_format or ChatFormat()
        self._system = self._format.opening(system)
        self._n_answers = 0
        self.reset()

    @property
    def state(self) -> State | None:
        """The memory of all that was said; None if nothing was."""
        return self._state

    @property
    def n_turns_to_undo(self) -> int:
        """How many of the last turns `undo` can take back."""
        return len(self._turns)

    def reset(self) -> None:
        """Forget all turns."""
        self._turns: deque[_Turn] = deque(maxlen=_N_TURNS_TO_UNDO)
        self._state = self._lm.prefill(self._system) if self._system else None

    def say(self, text: str) -> Iterator[str]:
        """Yield the model's answer in pieces; the turn counts once the last one was read.

        Args:
            text: What the user says.

        Raises:
            ValueError: If nothing is said.
        """
        if not self._format.clean(text):
            raise ValueError(f"`text` must say something, got {text!r}")
        return self._answer(text)

    def undo(self) -> str:
        """Forget the last turn and its answer, and return what the user said.

        Raises:
            ValueError: If there is no turn to take back.
        """
        if not self._turns:
            raise ValueError(_NO_TURN)
        turn = self._turns.pop()
        self._state = turn.state
        return turn.text

    def retry(self) -> Iterator[str]:
        """Yield another answer to the last turn, in place of the one it had.

        Raises:
            ValueError: If there is no turn.
        """
        return self.say(self.undo())

    def save(self, path: str | Path) -> None:
        """Write the memory to a file.

        Raises:
            ValueError: If nothing was said yet.
            OSError: If the file cannot be written.
        """
        if self._state is None:
            raise ValueError(_NOTHING_SAID)
        self._state.save(path)

    def load(self, path: str | Path) -> None:
        """Go on from a memory that was saved; the turns so far are forgotten.

        Raises:
            StateError: If the file is missing, damaged or of another model; nothing is forgotten.
        """
        self._state = self._lm.load_state(path)
        self._turns.clear()

    def _answer(self, text: str) -> Iterator[str]:
        params = self._params
        seed = None if params.seed is None else (params.seed + self._n_answers) % 2**63
        self._n_answers += 1
        params = replace(params, seed=seed, stop=(*params.stop, self._format.stop))
        before = self._state
        prompt = self._format.turn(text, is_first=before is None)
        stream = self._lm.stream(prompt, params, state=before)

        # The model's turn begins with the space that the prompt must not end with.
        has_begun = False
        for piece in stream:
            shown = piece if has_begun else piece.lstrip()
            has_begun = has_begun or bool(shown)
            if shown:
                yield shown
        generation: Generation = stream.generation
        self._state = generation.state
        self._turns.append(_Turn(text, before))
