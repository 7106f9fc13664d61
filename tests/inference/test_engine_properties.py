"""Whatever is asked of an engine in whatever order, each text is the one of pure states."""

import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
)
from jaxtyping import config as jaxtyping_config
from torch.testing import assert_close

from receptance.inference import (
    Engine,
    Generation,
    LanguageModel,
    Output,
    PrefixCache,
    Request,
    SamplingParams,
)
from receptance.inference.sampler import Sampler
from receptance.models import State
from receptance.tokenizer import load_tokenizer
from tests.random_models import random_rwkv4
from tests.tolerances import ALGEBRA

V = 256
LM = LanguageModel(random_rwkv4(2, 16, V, dtype=torch.float64), load_tokenizer("bytes"))
END_OF_TEXT = LM.tokenizer.end_of_text

tokens = st.lists(st.integers(0, V - 1), min_size=1, max_size=12).map(tuple)
params = st.builds(
    SamplingParams,
    seed=st.integers(0, 3),
    max_tokens=st.integers(1, 8),
    temperature=st.sampled_from([0.0, 0.8, 1.0]),
    top_k=st.sampled_from([0, 5]),
    top_p=st.sampled_from([1.0, 0.9]),
    frequency_penalty=st.sampled_from([0.0, 0.5]),
    logit_bias=st.sampled_from([{}, {END_OF_TEXT: 6.0}]),
)


@cache
@torch.no_grad()
def logits_after(seen: tuple[int, ...]) -> torch.Tensor:
    """Return what the model says of the next token when it reads all of a text at once."""
    return LM.model(torch.tensor([seen]))[0][0, -1]


@dataclass(frozen=True)
class Memory:
    """A state, and what it has seen according to us."""

    seen: tuple[int, ...]
    state: State


@dataclass
class Expected:
    """A request that is not over, as pure states say that it goes."""

    seen: tuple[int, ...]
    prompt_tokens: int
    sampler: Sampler
    n_chosen: int = 0

    def check(self, output: Output) -> None:
        """Compare what a step did with the next token of the pure text."""
        token = self.sampler.choose(logits_after(self.seen))
        assert output.token == token
        assert output.error is None
        self.n_chosen += 1
        if token != END_OF_TEXT:
            self.seen = (*self.seen, token)
        is_over = token == END_OF_TEXT or self.n_chosen == self.sampler.params.max_tokens
        assert output.is_last == is_over
        if is_over:
            self._check_whole(output.generation)

    def _check_whole(self, generation: Generation | None) -> None:
        assert generation is not None
        assert generation.tokens == self.seen[len(self.seen) - len(generation.tokens) :]
        assert generation.generated_tokens == self.n_chosen
        assert generation.prompt_tokens == self.prompt_tokens
        assert generation.seed == self.sampler.seed


class EngineMachine(RuleBasedStateMachine):
    """An engine with poisoned slots, beside a dictionary of what its requests have seen."""

    ids = Bundle("ids")
    memories = Bundle("memories")
    files = Bundle("files")

    @initialize(max_sequences=st.integers(1, 4), chunk_tokens=st.integers(1, 6))
    def begin(self, max_sequences: int, chunk_tokens: int) -> None:
        # As in the fixture `unchecked_shapes`, which Hypothesis would not take.
        jaxtyping_config.update("jaxtyping_disable", True)
        self.folder = tempfile.TemporaryDirectory()
        self.max_sequences = max_sequences
        self.engine = Engine(
            LM,
            max_sequences=max_sequences,
            chunk_tokens=chunk_tokens,
            poison=True,
            prefix_cache=PrefixCache(40_000),
        )
        self.live: dict[int, Expected] = {}
        self.finished: list[Memory] = []
        self.n_files = 0

    def _expect(self, id_: int, before: tuple, prompt: tuple, params: SamplingParams) -> int:
        self.live[id_] = Expected((*before, *prompt), len(prompt), Sampler(params, V))
        return id_

    def _step(self) -> None:
        for output in self.engine.step():
            expected = self.live[output.id]
            expected.check(output)
            if output.generation is not None:
                del self.live[output.id]
                self.finished.append(Memory(expected.seen, output.generation.state))

    @rule(target=ids, prompt=tokens, params=params)
    def add(self, prompt, params):
        return self._expect(self.engine.add(Request(iter(prompt), params)), (), prompt, params)

    @rule(target=ids, memory=memories, more=tokens, params=params, scope=st.sampled_from("ab"))
    def add_what_may_be_remembered(self, memory, more, params, scope):
        prompt = (*memory.seen, *more)
        id_ = self.engine.add(Request(prompt, params, cache_scope=scope))
        return self._expect(id_, (), prompt, params)

    @rule(target=ids, prompt=tokens, n=st.integers(1, 4), params=params)
    def fork_what_is_to_be_remembered(self, prompt, n, params):
        n = min(n, self.max_sequences)
        ids = self.engine.fork(Request(prompt, params, cache_scope="a"), n)
        for i, id_ in enumerate(ids):
            self._expect(id_, (), prompt, replace(params, seed=(params.seed or 0) + i))
        return multiple(*ids)

    @rule(target=ids, prompt=tokens, cut=st.integers(1, 11), params=params)
    def add_a_prompt_in_two(self, prompt, cut, params):
        before, rest = prompt[:cut], prompt[cut:] or (7,)
        id_ = self.engine.add(Request(rest, params, state=LM.prefill(before)))
        return self._expect(id_, before, rest, params)

    @rule(target=ids, prompt=tokens, n=st.integers(1, 4), params=params)
    def fork(self, prompt, n, params):
        n = min(n, self.max_sequences)
        ids = self.engine.fork(Request(prompt, params), n)
        for i, id_ in enumerate(ids):
            changed = {**vars(params), "seed": (params.seed or 0) + i}
            self._expect(id_, (), prompt, SamplingParams(**changed))
        return multiple(*ids)

    @rule()
    def step(self):
        self._step()

    @rule(id_=ids)
    def cancel(self, id_):
        assert self.engine.cancel(id_) == (self.live.pop(id_, None) is not None)

    @rule(id_=ids)
    def finish(self, id_):
        for _ in range(500):
            if id_ not in self.live:
                return
            self._step()
        raise AssertionError(f"{id_} starves")

    @rule(target=memories)
    def look_at_what_was_finished(self):
        """Each state has seen exactly its prompt and its tokens."""
        finished, self.finished = self.finished, []
        for memory in finished:
            after, _ = LM.forward([7], memory.state)
            assert_close(after, logits_after((*memory.seen, 7)), **ALGEBRA)
        return multiple(*finished)

    @rule(target=files, memory=memories)
    def save(self, memory):
        self.n_files += 1
        path = Path(self.folder.name) / f"{self.n_files}.safetensors"
        memory.state.save(path)
        return path, memory.seen

    @rule(target=ids, file=files, prompt=tokens, params=params)
    def restore(self, file, prompt, params):
        path, seen = file
        id_ = self.engine.add(Request(prompt, params, state=LM.load_state(path)))
        return self._expect(id_, seen, prompt, params)

    @rule(target=ids, memory=memories, prompt=tokens, params=params)
    def go_on_from(self, memory, prompt, params):
        id_ = self.engine.add(Request(prompt, params, state=memory.state))
        return self._expect(id_, memory.seen, prompt, params)

    @invariant()
    def requests_are_accounted_for(self):
        assert self.engine.n_running + self.engine.n_waiting == len(self.live)
        assert self.engine.n_running <= self.max_sequences

    def teardown(self) -> None:
        """End all that is left: nobody starves, and the engine is as new."""
        try:
            self._end()
        finally:
            jaxtyping_config.update("jaxtyping_disable", False)

    def _end(self) -> None:
        for id_ in list(self.live):
            self.finish(id_)
        self.look_at_what_was_finished()
        assert self.engine.n_running == self.engine.n_waiting == 0
        assert len(self.engine.fork(Request([1]), self.max_sequences)) == self.max_sequences
        self.engine.step()
        assert self.engine.n_running == self.max_sequences
        self.folder.cleanup()


TestEngine = EngineMachine.TestCase
TestEngine.settings = settings(
    max_examples=12, stateful_step_count=25, deadline=None, derandomize=True
)
