"""Tokens chosen on the device where the logits are, of all sequences together."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from receptance.inference.sampler import Sampler, choose_tokens, refused
from receptance.inference.sampling import (
    Logits,
    SamplingParams,
    as_tensors,
    drawn_at,
    keep_from,
    keep_top_p,
    keep_typical,
    uniform,
    with_temperature,
)
from receptance.ops.device import upload


class TokenChooser:
    """Chooses the next token of many sequences, step after step.

    On the CPU it is `choose_tokens`. On another device all rows go through each step at once, with
    settings of their own, and nothing is read back but, at the end, three numbers a row: the same
    logits give the tokens that they give on the CPU (see `sampling` for when an exp may differ).
    Beside the logits it takes some six times their number in float64, for as long as it chooses.
    """

    def __init__(self) -> None:
        """Begin without settings on any device."""
        self._plan: _Plan | None = None

    def choose(
        self, samplers: Sequence[Sampler], logits: Float[Tensor, "B V"]
    ) -> list[int | Exception]:
        """Return the next token of every sequence, or what `Sampler.choose` would raise for it.

        Args:
            samplers: Those of the sequences, all for the same number of tokens.
            logits: Of their next tokens, as for `Sampler.choose`.
        """
        if logits.is_cpu:
            return choose_tokens(samplers, logits)
        return self._choose_there(samplers, logits)

    def _choose_there(
        self, samplers: Sequence[Sampler], logits: Float[Tensor, "B V"]
    ) -> list[int | Exception]:
        if self._plan is None or not self._plan.is_of(samplers, logits.device):
            self._plan = _Plan(samplers, logits.device)
        allowed, failed = _allowed(samplers)
        numbers = [
            torch.zeros(1, dtype=torch.float64)
            if row in failed or sampler.params.is_greedy
            else uniform(sampler.generator)
            for row, sampler in enumerate(samplers)
        ]
        found: Any = self._plan.choose(logits, allowed, torch.stack(numbers))
        return [
            failed.get(row) or refused(sampler, largest, before) or int(token)
            for row, (sampler, (token, largest, before)) in enumerate(
                zip(samplers, found.tolist(), strict=True)
            )
        ]


def _allowed(
    samplers: Sequence[Sampler],
) -> tuple[dict[int, Bool[Tensor, " V"]], dict[int, Exception]]:
    """Return which tokens constraints allow, by row, and which of these failed."""
    allowed, failed = dict[int, Tensor](), dict[int, Exception]()
    for row, sampler in enumerate(samplers):
        if sampler.constraint is not None:
            try:
                allowed[row] = sampler.constraint.allowed()
            except Exception as error:  # noqa: BLE001 (it ends this text alone)
                failed[row] = error
    return allowed, failed


@dataclass(frozen=True, eq=False)
class _Part:
    """The rows that go through a step, and a setting of each."""

    rows: Int[Tensor, " n"] | None
    """Rising; None is all of them."""
    values: Float64[Tensor, "n 1"]

    def through(self, step: Callable[[Logits, Tensor], Logits], logits: Logits) -> Logits:
        """Return the logits of all rows, after a step of these."""
        if self.rows is None:
            return step(logits, self.values)
        return logits.index_copy(0, self.rows, step(logits[self.rows], self.values))


class _Plan:
    """The settings of a batch on a device, for as long as the batch is the same."""

    def __init__(self, samplers: Sequence[Sampler], device: torch.device) -> None:
        self._samplers = list(samplers)
        self._device = device
        self._vocab_size = samplers[0].vocab_size
        self._by_chance = self._part(lambda params: params.temperature, lambda _: True)
        self._temperature = self._part(lambda params: params.temperature, _differs("temperature"))
        self._top_k = self._part(lambda params: params.top_k, _differs("top_k"))
        self._top_p = self._part(lambda params: params.top_p, _differs("top_p"))
        # As the step of one row has it, where a logarithm of the device may be another.
        self._min_p = self._part(lambda params: math.log(params.min_p), _differs("min_p"))
        self._typical = self._part(lambda params: params.typical_p, _differs("typical_p"))
        self._largest_k = max(each.params.top_k for each in samplers)
        self._bias = self._biases()
        self._penalties = _Penalties.of(samplers, device)

    def is_of(self, samplers: Sequence[Sampler], device: torch.device) -> bool:
        """Whether this is the plan of a batch."""
        same = len(samplers) == len(self._samplers) and all(map(_is, samplers, self._samplers))
        return same and device == self._device

    def choose(
        self,
        logits: Float[Tensor, "B V_model"],
        allowed: dict[int, Bool[Tensor, " V"]],
        numbers: Float64[Tensor, "B 1"],
    ) -> Float64[Tensor, "B 3"]:
        """Return of each row the token, the largest logit that it was chosen by, and the model's.

        Nothing waits for the device here.

        Args:
            logits: Of the next tokens.
            allowed: Of rows with a constraint.
            numbers: For the draws.
        """
        logits = logits[:, : self._vocab_size].to(torch.float64)
        if allowed:
            rows = self._upload(torch.tensor(list(allowed)))
            forbidden = ~self._upload(torch.stack(list(allowed.values())))
            logits = logits.index_copy(0, rows, logits[rows].masked_fill(forbidden, -math.inf))
        before = logits.amax(-1)
        if self._bias is not None:
            rows, tokens, biases = self._bias
            logits = logits.index_put((rows, tokens), logits[rows, tokens] + biases)
        if self._penalties is not None:
            logits = self._penalties.applied(logits)
        if self._by_chance is not None:
            logits = self._with_chance(logits)
        largest, chosen = logits.max(-1)
        if self._by_chance is not None:
            numbers = self._upload(numbers)
            if self._by_chance.rows is None:
                chosen = drawn_at(logits, numbers)
            else:
                rows = self._by_chance.rows
                chosen = chosen.index_copy(0, rows, drawn_at(logits[rows], numbers[rows]))
            # Where logits are no numbers, neither is what was found; such a token is not used.
            chosen = chosen.clamp(0, self._vocab_size - 1)
        if self._penalties is not None:
            self._penalties.count_(chosen)
        return torch.stack([chosen.to(torch.float64), largest, before], dim=1)

    def _with_chance(self, logits: Logits) -> Logits:
        if self._temperature is not None:
            logits = self._temperature.through(with_temperature, logits)
        if self._top_k is not None:
            logits = self._top_k.through(self._keep_top_k, logits)
        if self._top_p is not None:
            logits = self._top_p.through(keep_top_p, logits)
        if self._min_p is not None:
            logits = self._min_p.through(_keep_min_p, logits)
        if self._typical is not None:
            logits = self._typical.through(keep_typical, logits)
        return logits

    def _keep_top_k(self, logits: Logits, k: Float64[Tensor, "n 1"]) -> Logits:
        n = min(self._largest_k, self._vocab_size)
        last = k.clamp(max=n).long() - 1
        return keep_from(logits, logits.topk(n).values.gather(-1, last))

    def _part(
        self, value: Callable[[SamplingParams], float], is_wanted: Callable[[SamplingParams], bool]
    ) -> _Part | None:
        """Return those rows that go through a step of chance."""
        params = [each.params for each in self._samplers]
        rows = [row for row, p in enumerate(params) if not p.is_greedy and is_wanted(p)]
        if not rows:
            return None
        values = torch.tensor([[float(value(params[row]))] for row in rows], dtype=torch.float64)
        index = None if len(rows) == len(params) else self._upload(torch.tensor(rows))
        return _Part(index, self._upload(values))

    def _biases(self) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return the rows and tokens that have a bias, each pair once, and the biases."""
        parts = [
            (row, *as_tensors(sampler.params.logit_bias))
            for row, sampler in enumerate(self._samplers)
            if sampler.params.logit_bias
        ]
        if not parts:
            return None
        rows = torch.cat([torch.full_like(tokens, row) for row, tokens, _ in parts])
        tokens = torch.cat([tokens for _, tokens, _ in parts])
        biases = torch.cat([each for _, _, each in parts])
        return self._upload(rows), self._upload(tokens), self._upload(biases)

    def _upload(self, tensor: Tensor) -> Tensor:
        return upload(tensor, self._device)


class _Penalties:
    """What came before in the rows that look at it, in three blocks of memory on the device.

    The samplers' histories are rows of these, so they are right whoever chooses next.
    """

    def __init__(self, samplers: Sequence[Sampler], rows: Sequence[int], device: torch.device):
        theirs = [samplers[row] for row in rows]
        params = [each.params for each in theirs]
        histories = [each.history for each in theirs]
        self._rows = upload(torch.tensor(rows), device)
        self._prompt = _stacked([each.prompt for each in histories], device)
        self._generated = _stacked([each.generated for each in histories], device)
        # With a decay of 1, what fades is what was generated.
        fading = [each.generated if each.faded is None else each.faded for each in histories]
        self._counts = _stacked(fading, device)
        for i, sampler in enumerate(theirs):
            faded = None if sampler.history.faded is None else self._counts[i]
            sampler.history = replace(
                sampler.history, prompt=self._prompt[i], generated=self._generated[i], faded=faded
            )
        decays = [
            1.0 if each.history.faded is None else each.params.penalty_decay for each in theirs
        ]
        columns = (
            [each.repetition_penalty for each in params],
            [each.presence_penalty for each in params],
            [each.frequency_penalty for each in params],
            decays,
        )
        settings = upload(torch.tensor(columns, dtype=torch.float64)[..., None], device)
        self._repetition, self._presence, self._frequency, self._decay = settings

    @classmethod
    def of(cls, samplers: Sequence[Sampler], device: torch.device) -> "_Penalties | None":
        """Return those of a batch, if it has some."""
        rows = [row for row, each in enumerate(samplers) if each.params.is_penalising]
        return cls(samplers, rows, device) if rows else None

    def applied(self, logits: Logits) -> Logits:
        """Return the logits of all rows with the penalties, as the steps of `sampling` have them.

        A penalty that changes nothing leaves the same bits: 1 as a factor, 0 as what is taken.
        """
        theirs = logits[self._rows]
        lessened = torch.where(theirs > 0, theirs / self._repetition, theirs * self._repetition)
        theirs = torch.where(self._prompt + self._generated > 0, lessened, theirs)
        lessened = theirs - (self._presence + self._frequency * self._counts)
        theirs = torch.where(self._generated > 0, lessened, theirs)
        return logits.index_copy(0, self._rows, theirs)

    def count_(self, chosen: Int[Tensor, " B"]) -> None:
        """Count the tokens that were chosen, those of all rows."""
        tokens = chosen[self._rows][:, None]
        one = torch.ones_like(tokens, dtype=torch.float64)
        self._generated.scatter_add_(1, tokens, one)
        self._counts.mul_(self._decay).scatter_add_(1, tokens, one)


def _stacked(rows: Sequence[Float64[Tensor, " V"]], device: torch.device) -> Tensor:
    return torch.stack([upload(row, device) if row.is_cpu else row for row in rows])


def _differs(name: str) -> Callable[[SamplingParams], bool]:
    """Return whether a setting is not the one that changes nothing."""
    return lambda params: getattr(params, name) != getattr(_PLAIN, name)


def _keep_min_p(logits: Logits, log_p: Float64[Tensor, "n 1"]) -> Logits:
    return keep_from(logits, logits.amax(-1, keepdim=True) + log_p)


def _is(one: object, other: object) -> bool:
    return one is other


_PLAIN = SamplingParams()
