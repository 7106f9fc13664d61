"""Many texts at once: requests come and go at any time, and share each reading of the weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

import torch
from jaxtyping import Float
from torch import Tensor

from receptance.inference.generation import Draft, Generation
from receptance.inference.language_model import LanguageModel
from receptance.inference.prefix_cache import PrefixCache, model_key
from receptance.inference.prompt import Prompt
from receptance.inference.prompt_reader import Memory, PromptReader
from receptance.inference.request import Output, Request
from receptance.inference.runner import Runner
from receptance.inference.sampler import Sampler
from receptance.inference.sampling import SamplingParams
from receptance.inference.scheduler import Scheduler
from receptance.inference.state_pool import StatePool
from receptance.inference.token_chooser import TokenChooser
from receptance.inference.writer import Writer, bring_what_is_told
from receptance.models import State

_BUSY = "the engine must have no requests of its own while it generates; step until they are done"


@dataclass(eq=False)
class _Prompt:
    """What a family reads, and then goes on from."""

    reader: PromptReader
    lm: LanguageModel
    """What reads it: the engine's, perhaps with an adapter."""
    logprobs: int | None
    """How many likeliest tokens the members are to be told beside each one that is generated."""
    samplers: dict[int, Sampler]
    """Of the members that are still wanted, by id."""
    slot: int | None = None
    """Where the state is once the family was admitted; the other members get theirs at the end."""


class Engine:
    """Writes texts for many requests with one model, a token of each a step.

    A step reads one chunk of one prompt, and then every sequence whose prompt was read gets its
    next token, all through one call of the model: `Scheduler` says who goes when. A request that
    begins or ends changes nothing for the others: each gets the text that it would get alone.
    Requests with adapters and states of their own mix freely; the weights are there once. What
    memory the sequences take is fixed when the engine is made. It belongs to one thread.

    On a GPU the last digits of logits may be others beside others where an adapter writes, where
    no kernel of ours serves the model, or where over 32 sequences are written
    (docs/decisions/0045-the-step-on-a-gpu.md).
    """

    def __init__(
        self,
        lm: LanguageModel,
        *,
        max_sequences: int = 16,
        chunk_tokens: int | None = None,
        poison: bool = False,
        prefix_cache: PrefixCache | None = None,
    ) -> None:
        """Take the memory for the states.

        Args:
            lm: The model, with a tokenizer.
            max_sequences: How many are read or written at once; others wait.
            chunk_tokens: How many tokens of a prompt go through the model in a step; None is as
                `lm` does. Fewer delay the other sequences less, more read the prompt faster.
            poison: Whether slots that are free hold NaN, to show a mistake of the engine.
            prefix_cache: Remembers the states of prompts for requests that have a `cache_scope`;
                they change no text, by no bit. It may outlive this engine.

        Raises:
            ValueError: If one of the numbers is not positive.
            TokenizerError: If the model has no tokenizer.
        """
        if chunk_tokens is not None and chunk_tokens < 1:
            raise ValueError(f"`chunk_tokens` must be at least 1, got {chunk_tokens}")
        self._lm = lm
        self._tokenizer = lm.tokenizer
        self._chunk_tokens = chunk_tokens
        self._pool = StatePool(lm.zero_state(), max_sequences, poison=poison)
        self._runner = Runner(lm.packed, self._pool)
        self._prefix_cache = prefix_cache
        self._model_key = "" if prefix_cache is None else model_key(lm)
        self._chooser = TokenChooser()
        self._scheduler = Scheduler()
        self._ids = count()
        self._prompts: dict[int, _Prompt] = {}
        self._sequences: dict[int, Writer] = {}

    @property
    def n_waiting(self) -> int:
        """How many requests have nowhere to be yet."""
        return self._scheduler.n_waiting

    @property
    def n_running(self) -> int:
        """How many requests are being read or written."""
        return len(self._prompts) + len(self._sequences) - self.n_waiting

    @property
    def memory_bytes(self) -> int:
        """How much memory the states of all sequences take, however many there are."""
        return self._pool.memory_bytes

    def add(self, request: Request) -> int:
        """Take a request, and return the id under which its outputs come.

        Args:
            request: What is to be written. A prompt that is a stream is read as it is needed.

        Raises:
            ImpossibleRequestError: If the prompt is empty and there is a state, a token at its
                beginning is not in the vocabulary, or the state is not of one sequence of it.
            ValueError: If the adapter is of another model.
            TokenizerError: If the prompt is a text that cannot be tokenized.
            Exception: What `request.constraint` raises.
        """
        return self.fork(request, 1)[0]

    def fork(self, request: Request, n: int) -> list[int]:
        """Take a request for `n` texts that go on from one prompt, which is read once.

        Args:
            request: What is to be written. Its seed is that of the first text, and each further
                one has the next.
            n: How many texts, at most as many as the engine has room for.

        Returns:
            Their ids.

        Raises:
            ValueError: If `n` is out of its range, or as `add`.
            TokenizerError: As `add`.
            Exception: What `request.constraint` raises.
        """
        if not 1 <= n <= self._pool.n_slots:
            raise ValueError(f"`n` must be from 1 to {self._pool.n_slots}, got {n}")
        lm = self._lm if request.adapter is None else self._lm.with_adapter(request.adapter)
        memory = self._memory(request)
        reader = PromptReader(request, lm, chunk_tokens=self._chunk_tokens, memory=memory)
        self._pool.check(reader.state)
        samplers = {next(self._ids): each for each in self._samplers(request, n)}
        prompt = _Prompt(reader, lm, request.logprobs, samplers)
        self._prompts |= dict.fromkeys(samplers, prompt)
        self._scheduler.add(list(samplers))
        return list(samplers)

    def _memory(self, request: Request) -> Memory | None:
        """Return where states of a request's prompt may be remembered."""
        if self._prefix_cache is None or request.cache_scope is None:
            return None
        adapter = "" if request.adapter is None else request.adapter.fingerprint
        return Memory(self._prefix_cache, (self._model_key, adapter, request.cache_scope))

    def _samplers(self, request: Request, n: int) -> list[Sampler]:
        """Return a sampler for each text of a family."""
        first = Sampler(request.params, self._tokenizer.vocab_size)
        params = [replace(request.params, seed=(first.seed + i) % 2**63) for i in range(n)]
        begin = request.constraint
        constraints = [None if begin is None else begin() for _ in range(n)]
        return [
            Sampler(each, first.vocab_size, constraint)
            for each, constraint in zip(params, constraints, strict=True)
        ]

    def step(self, tell: Callable[[list[Output]], object] | None = None) -> list[Output]:
        """Read one chunk, write a token of each sequence, and return what came of it.

        A request has an output in every step in which it got a token; the last one has the whole
        text and the state after it, or the error that ended it. No output means that there is
        nothing to be done but to go on with prompts.

        Args:
            tell: Given the outputs of requests that go on, which are then not returned, before the
                model is fed, which takes long. If it raises, the engine is of no more use.
        """
        outputs: list[Output] = []
        for family in self._scheduler.admit(self._pool.n_free):
            outputs += self._begin_to_read(family)
        return [*outputs, *self._read(), *self._write(tell)]

    def cancel(self, request_id: int) -> bool:
        """Forget a request; it has no further output.

        Args:
            request_id: The one that `add` gave.

        Returns:
            Whether it was still waiting or running.
        """
        if sequence := self._sequences.pop(request_id, None):
            self._pool.release(sequence.slot)
            return True
        if prompt := self._prompts.pop(request_id, None):
            self._scheduler.remove(request_id)
            del prompt.samplers[request_id]
            if prompt.slot is not None and not prompt.samplers:
                self._pool.release(prompt.slot)
            return True
        return False

    def cancel_all(self) -> list[int]:
        """Forget all requests, and return their ids; none has a further output."""
        ids = [*self._prompts, *self._sequences]
        self._forget(ids)
        return ids

    def generate(
        self, prompts: Sequence[Prompt], params: SamplingParams | None = None
    ) -> list[Generation]:
        """Return the texts that go on from several prompts, in their order.

        Args:
            prompts: Texts or tokens, any number of them.
            params: How to choose tokens, and when to end, for each text as if it were the only one.

        Raises:
            RuntimeError: If there are requests that were added and have not ended: their outputs
                would be lost.
            ValueError: If a prompt is wrong, or no token can be chosen; then none is finished.
            TokenizerError: As `add`.
        """
        if self._prompts or self._sequences:
            raise RuntimeError(_BUSY)
        params = params or SamplingParams()
        ids: list[int] = []
        texts: dict[int, Generation] = {}
        try:
            for prompt in prompts:
                ids.append(self.add(Request(prompt, params)))
            while len(texts) < len(ids):
                for output in self.step():
                    if output.error is not None:
                        raise output.error
                    if output.generation is not None:
                        texts[output.id] = output.generation
        finally:
            for each in ids:
                self.cancel(each)
        return [texts[each] for each in ids]

    def _begin_to_read(self, family: Sequence[int]) -> list[Output]:
        """Give a family its slot, with the state that its prompt is fed to.

        Returns:
            Nothing, unless that failed.
        """
        prompt = self._prompts[family[0]]
        try:
            remembered = prompt.reader.remember()
            for sampler in prompt.samplers.values():
                sampler.add_prompt(remembered)
            prompt.slot = self._pool.acquire()
            self._pool.write(prompt.slot, prompt.reader.state)
        except Exception as error:  # noqa: BLE001 (it ends this family alone)
            return self._failed(family, error)
        return []

    def _read(self) -> list[Output]:
        """Read a chunk of the prompt whose turn it is."""
        family = self._scheduler.next_to_read()
        if not family:
            return []
        prompt = self._prompts[family[0]]
        slot = prompt.slot
        assert slot is not None
        try:
            chunk, tokens = prompt.reader.next_chunk()
        except (TypeError, ValueError) as error:
            return self._failed(family, error)
        except BaseException:
            # A stream that broke can not be gone on with, and why is for its owner to know.
            self._forget(family)
            raise
        try:
            logits = prompt.reader.feed(self._runner, slot, chunk)
            for sampler in prompt.samplers.values():
                sampler.add_prompt(tokens)
        except Exception as error:  # noqa: BLE001 (what was read was nobody else's)
            return self._failed(family, error)
        except BaseException:
            self._forget(family)
            raise
        return self._begin_to_write(prompt, slot, logits) if prompt.reader.is_over else []

    def _failed(self, family: Sequence[int], error: Exception) -> list[Output]:
        self._forget(family)
        return [Output(id=each, error=error) for each in family]

    def _forget(self, ids: Sequence[int]) -> None:
        for each in ids:
            self.cancel(each)

    def _begin_to_write(
        self, prompt: _Prompt, read: int, logits: Float[Tensor, " V"]
    ) -> list[Output]:
        """Give each member of a family its own copy of the state in the slot `read`.

        Returns:
            Of members that want no token.
        """
        told = prompt.reader.told()
        slots = [read, *(self._pool.acquire() for _ in range(len(prompt.samplers) - 1))]
        for slot in slots[1:]:
            self._pool.copy(read, slot)
        outputs: list[Output] = []
        for (id_, sampler), slot in zip(prompt.samplers.items(), slots, strict=True):
            self._scheduler.remove(id_)
            del self._prompts[id_]
            read_state = partial(self._state_at, slot, prompt.lm)
            try:
                draft = Draft(self._tokenizer, sampler, told.n_tokens, read_state)
            except Exception as error:  # noqa: BLE001 (it ends this text alone)
                self._pool.release(slot)
                outputs.append(Output(id=id_, prompt=told, error=error))
                continue
            sequence = Writer(slot, prompt.lm, draft, logits, prompt.logprobs, told)
            self._sequences[id_] = sequence
            if sequence.is_over:
                outputs.append(self._finished(Output(id=id_, prompt=told)))
        return outputs

    def _state_at(self, slot: int, lm: LanguageModel) -> State:
        return lm.signed(self._pool.read(slot))

    def _write(self, tell: Callable[[list[Output]], object] | None) -> list[Output]:
        """Choose a token of every sequence, and feed it."""
        if not self._sequences:
            return []
        writers = list(self._sequences.values())
        logits = torch.stack([each.logits for each in writers])
        tokens = self._chooser.choose([each.draft.sampler for each in writers], logits)
        bring_what_is_told(writers, logits)
        chosen = zip(list(self._sequences), tokens, strict=True)
        outputs = [self._sequences[id_].push(id_, token) for id_, token in chosen]
        self._forget([each.id for each in outputs if each.error is not None])
        if tell is not None:
            tell([each for each in outputs if each.error is None and not self._is_over(each)])
        self._feed({each.id: each.token for each in outputs if each.token is not None})
        outputs = [self._finished(each) if self._is_over(each) else each for each in outputs]
        return [each for each in outputs if tell is None or each.is_last]

    def _feed(self, tokens: dict[int, int]) -> None:
        """Feed the tokens that are awaited, all in one call."""
        awaited = {
            id_: each for id_, each in self._sequences.items() if each.draft.awaits_its_token
        }
        if awaited:
            slots = [each.slot for each in awaited.values()]
            changes = [each.lm.changes for each in awaited.values()]
            try:
                logits = self._runner.decode(slots, [tokens[id_] for id_ in awaited], changes)
            except BaseException:
                # Their states may be those of half a step.
                self._forget(list(self._sequences))
                raise
            for row, sequence in enumerate(awaited.values()):
                sequence.logits = logits[row]

    def _is_over(self, output: Output) -> bool:
        return output.error is None and self._sequences[output.id].is_over

    def _finished(self, output: Output) -> Output:
        """Return the last output of a sequence whose text is over, and forget it."""
        output = self._sequences[output.id].finish(output)
        self.cancel(output.id)
        return output
