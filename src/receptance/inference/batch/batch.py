"""Texts for a file of prompts, each as if it were alone."""

import json
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from receptance.errors import DataError, TokenizerError
from receptance.inference.batch.answer_file import answer_file
from receptance.inference.batch.prompt_file import PromptLine, read_prompts
from receptance.inference.engine import Engine
from receptance.inference.language_model import LanguageModel
from receptance.inference.prefix_cache import model_key
from receptance.inference.request import Output, Request
from receptance.inference.sampling import SamplingParams
from receptance.models import State

_AHEAD = 64
"""For each text that is written at once: how many may wait for one before them to be over. They
are lost by a kill, and take memory."""


@dataclass(frozen=True, kw_only=True)
class BatchReport:
    """What was done for a file of prompts."""

    prompts: int
    """How many the file has."""
    resumed: int
    """Of these, how many were answered before."""
    prompt_tokens: int
    """How many tokens the others have."""
    generated_tokens: int
    """How many tokens were chosen for them."""


def generate_file(
    lm: LanguageModel,
    prompts: Path,
    answers: Path,
    params: SamplingParams | None = None,
    *,
    state: State | None = None,
    max_sequences: int = 16,
    on_progress: Callable[[int, int], None] | None = None,
) -> BatchReport:
    """Write a text for each line of a file of prompts, many at once, into a file of answers.

    The answers are in the order of the prompts, and each is the text that the prompt would get
    alone. If the file of answers is there, by the same model and settings, it is gone on with.
    All prompts are looked at before the first is answered.

    Args:
        lm: The model, with a tokenizer.
        prompts: JSONL, as `read_prompts` reads it.
        answers: JSONL: `line` and `request` name the prompt, and the other fields are those of
            `Generation`. Its folder must exist.
        params: What holds where a line does not say.
        state: What came before each prompt; None is the start of the model. Not modified.
        max_sequences: How many texts are written at once.
        on_progress: Called with the bytes of the prompts that are answered and those of all.

    Returns:
        How many they were.

    Raises:
        DataError: If a line of the prompts is wrong, or the file of answers is of others.
        TokenizerError: If the model has no tokenizer.
        ValueError: If `max_sequences` is not positive, or for a prompt no token can be chosen.
        OSError: If a file cannot be read or written.
    """
    engine = Engine(lm, max_sequences=max_sequences)
    batch = _Batch(lm, prompts, params or SamplingParams(), state)
    with answer_file(answers) as file:
        n_prompts = sum(1 for _ in batch.lines())
        n_there = file.go_on(batch.mark(line) for line in batch.lines())
        prompt_tokens = generated_tokens = 0
        for line, answer in batch.answers(engine, max_sequences, after=n_there):
            file.write(answer.document)
            prompt_tokens += answer.prompt_tokens
            generated_tokens += answer.generated_tokens
            if on_progress is not None:
                on_progress(line.end, batch.n_bytes)
    return BatchReport(
        prompts=n_prompts,
        resumed=n_there,
        prompt_tokens=prompt_tokens,
        generated_tokens=generated_tokens,
    )


class _Answer(NamedTuple):
    """What is kept of a text until its turn to be written; its state is not."""

    document: str
    prompt_tokens: int
    generated_tokens: int


class _Batch:
    """The prompts, and what their answers are called."""

    def __init__(
        self, lm: LanguageModel, path: Path, params: SamplingParams, state: State | None
    ) -> None:
        self.n_bytes = path.stat().st_size
        self._path = path
        self._params = params
        self._state = state
        self._vocab_sizes = lm.model.config.vocab_size, lm.tokenizer.vocab_size
        key = blake2b(model_key(lm).encode(), digest_size=32)
        for tensor in () if state is None else state.tensors.values():
            key.update(tensor.cpu().contiguous().numpy().tobytes())
        self._key = key.digest()

    def lines(self) -> Iterator[PromptLine]:
        """Yield what the file asks for, checked."""
        n_rows, n_tokens = self._vocab_sizes
        for line in read_prompts(self._path, self._params, may_be_empty=self._state is None):
            for what, tokens, size in (
                ("'prompt'", line.prompt if isinstance(line.prompt, list) else (), n_rows),
                ("'logit_bias'", line.params.logit_bias, n_tokens),
            ):
                wrong = [token for token in tokens if not 0 <= token < size]
                if wrong:
                    raise DataError(
                        f"{self._path}:{line.number}: {what} must have tokens from 0 to "
                        f"{size - 1}, but has {wrong[0]}"
                    )
            yield line

    def mark(self, line: PromptLine) -> str:
        """Return the beginning of an answer, by which it is known again."""
        request = repr((line.prompt, line.id, line.params)).encode()
        digest = blake2b(request, key=self._key, digest_size=8).hexdigest()
        return f'{{"line": {line.number}, "request": "{digest}", '

    def answers(
        self, engine: Engine, n: int, *, after: int
    ) -> Iterator[tuple[PromptLine, _Answer]]:
        """Yield lines with their answers, in order; `n` are written at once.

        Args:
            engine: What writes them.
            n: How many it has room for.
            after: How many lines need no answer.
        """
        lines = islice(self.lines(), after, None)
        begun: deque[PromptLine] = deque()
        running: dict[int, PromptLine] = {}
        over: dict[int, _Answer] = {}
        while True:
            while len(running) < n and len(begun) < n * _AHEAD:
                line = next(lines, None)
                if line is None:
                    break
                with self._errors_that_name(line):
                    request = Request(line.prompt, line.params, self._state)
                    running[engine.add(request)] = line
                begun.append(line)
            if not begun:
                return
            for output in engine.step():
                if output.is_last:
                    line = running.pop(output.id)
                    over[line.number] = self._answer(line, output)
            while begun and begun[0].number in over:
                line = begun.popleft()
                yield line, over.pop(line.number)

    @contextmanager
    def _errors_that_name(self, line: PromptLine) -> Generator[None]:
        try:
            yield
        except (ValueError, TokenizerError) as error:
            raise type(error)(f"{self._path}:{line.number}: {error}") from error

    def _answer(self, line: PromptLine, output: Output) -> _Answer:
        with self._errors_that_name(line):
            if output.error is not None:
                raise output.error
        answer = output.generation
        assert answer is not None
        fields: dict[str, object] = {} if line.id is None else {"id": line.id}
        fields |= {
            "text": answer.text,
            "tokens": list(answer.tokens),
            "finish_reason": answer.finish_reason,
            "prompt_tokens": answer.prompt_tokens,
            "generated_tokens": answer.generated_tokens,
            "seed": answer.seed,
        }
        document = self.mark(line) + json.dumps(fields, ensure_ascii=False)[1:]
        return _Answer(document, answer.prompt_tokens, answer.generated_tokens)
