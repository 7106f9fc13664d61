"""On a device, all rows at once get the tokens that each would get on the CPU, and nothing waits.

The choice of a device runs on the CPU as well, where it is beside its definition. The device
`meta`, whose tensors hold nothing, shows that it reads nothing back: whatever did so would raise.
"""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from receptance.inference.impossible import ImpossibleRequestError
from receptance.inference.sampler import DivergedError, Sampler, choose_tokens
from receptance.inference.sampling import SamplingParams
from receptance.inference.token_chooser import TokenChooser

V = 211


class OnDevice(TokenChooser):
    """Chooses on the CPU as it would on any other device."""

    choose = TokenChooser._choose_there


class Allowed:
    """Allows some tokens, always."""

    is_over = False

    def __init__(self, mask: torch.Tensor | None) -> None:
        self.mask = mask

    def allowed(self) -> torch.Tensor:
        if self.mask is None:
            raise RuntimeError("the grammar broke")
        return self.mask

    def accept(self, token: int) -> None:
        raise AssertionError(token)


KINDS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.sampled_from([0.0, 1e-300, 0.3, 1.0, 1.7]) | st.floats(0.01, 5),
        "top_k": st.integers(0, V + 9),
        "top_p": st.floats(0.01, 1.0),
        "min_p": st.floats(0.0, 0.9),
        "typical_p": st.floats(0.01, 1.0),
        "repetition_penalty": st.sampled_from([1.0, 1.3, 0.7]),
        "presence_penalty": st.sampled_from([0.0, 0.6, -2.0]),
        "frequency_penalty": st.sampled_from([0.0, 0.25, -1.0]),
        "penalty_decay": st.sampled_from([0.0, 0.9, 0.996, 1.0]),
        "seed": st.integers(0, 2**63 - 1),
        "logit_bias": st.dictionaries(
            st.integers(0, V - 1), st.floats(-9, 9) | st.just(-math.inf), max_size=5
        ),
    },
)


def logits_of(n: int, *, seed: int, step: float = 0.0) -> torch.Tensor:
    """Return logits [n, V + 3], in steps of `step`, as those of bfloat16 are, if it is not 0."""
    logits = 4 * torch.randn(n, V + 3, generator=torch.Generator().manual_seed(seed))
    return (logits / step).round() * step if step else logits


def twins(kinds: list[dict], mask: torch.Tensor | None = None) -> tuple[list[Sampler], ...]:
    """Return the samplers of some kinds twice; the last one has a constraint if there is a mask."""
    both: tuple[list[Sampler], ...] = ([], [])
    for row, kind in enumerate(kinds):
        constraint = Allowed(mask) if mask is not None and row == len(kinds) - 1 else None
        for samplers in both:
            sampler = Sampler(SamplingParams(**{"seed": row, **kind}), V, constraint)
            sampler.add_prompt([3, 5, 5, row])
            samplers.append(sampler)
    return both


def test_on_the_cpu_the_choice_is_that_of_choose_tokens():
    here, there = twins([{"top_p": 0.9}, {"frequency_penalty": 1.0}, {"temperature": 0.0}])
    logits = logits_of(3, seed=0)

    assert TokenChooser().choose(here, logits) == choose_tokens(there, logits)


@settings(max_examples=60)
@given(
    kinds=st.lists(KINDS, min_size=1, max_size=7),
    step=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 1000),
    is_constrained=st.booleans(),
)
def test_all_rows_at_once_get_what_each_gets_by_its_definition(kinds, step, seed, is_constrained):
    """Of any settings, with companions that come and go; or the same error."""
    mask = torch.arange(V) % 3 == 0
    here, there = twins(kinds, mask if is_constrained else None)
    chooser = OnDevice()
    for token in range(5):
        logits = logits_of(len(kinds), seed=10 * seed + token, step=step)
        # The same batch twice and then another.
        rows = [row for row in range(len(kinds)) if (row + token // 2) % 3] or [0]

        found = chooser.choose([here[row] for row in rows], logits[rows])

        expected = choose_tokens([there[row] for row in rows], logits[rows])
        assert [str(each) for each in found] == [str(each) for each in expected]
        assert [type(each) for each in found] == [type(each) for each in expected]


def test_a_row_that_cannot_choose_fails_alone_and_as_it_would_by_its_definition():
    mute = {"logit_bias": dict.fromkeys(range(V), -math.inf)}
    kinds = [{}, mute, {"top_p": 0.5, "top_k": 3}, {"temperature": 0.0}, {}]
    here, there = twins(kinds, torch.zeros(V, dtype=torch.bool))
    logits = logits_of(5, seed=1)
    logits[2] = math.nan
    logits[3, 7] = math.inf

    found = OnDevice().choose(here, logits)

    expected = choose_tokens(there, logits)
    assert [str(each) for each in found] == [str(each) for each in expected]
    kinds_of_error = [
        int,
        ImpossibleRequestError,
        DivergedError,
        DivergedError,
        ImpossibleRequestError,
    ]
    assert [type(each) for each in found] == kinds_of_error


def test_a_constraint_that_breaks_ends_its_own_text_and_draws_no_number():
    here, there = twins([{}, {}, {}])
    here[1].constraint = Allowed(None)
    logits = logits_of(3, seed=2)

    first, broken, last = OnDevice().choose(here, logits)

    assert str(broken) == "the grammar broke"
    assert [first, last] == choose_tokens([there[0], there[2]], logits[[0, 2]])
    assert torch.equal(here[1].generator.get_state(), there[1].generator.get_state())


def test_what_came_before_is_remembered_when_the_batch_changes():
    kind = {"frequency_penalty": 3.0, "penalty_decay": 0.9, "repetition_penalty": 1.4}
    here, there = twins([{"temperature": 0.0, **kind}] * 2)
    chooser, logits = OnDevice(), logits_of(1, seed=3).repeat(2, 1)

    found = [chooser.choose(here[:n], logits[:n])[0] for n in (1, 2, 2, 1, 2, 1)]

    assert found == [choose_tokens(there[:1], logits[:1])[0] for _ in range(6)]
    assert torch.equal(here[0].history.generated, there[0].history.generated)
    assert len(set(found)) > 1


@pytest.mark.parametrize("n_alike", [1, 2])
def test_nothing_is_read_back_but_the_last_three_numbers_of_a_row(n_alike, monkeypatch):
    every_step = {
        "top_k": 7, "top_p": 0.9, "min_p": 0.01, "typical_p": 0.9, "temperature": 0.8,
        "frequency_penalty": 0.5, "penalty_decay": 0.9, "logit_bias": {3: 1.0},
    }  # fmt: skip
    kinds = [every_step] * n_alike + [{"temperature": 0.0}] * (n_alike - 1)
    samplers, _ = twins(kinds, torch.ones(V, dtype=torch.bool))
    logits = logits_of(len(kinds), seed=4).to("meta")

    read: list[torch.Tensor] = []

    def tolist(tensor: torch.Tensor) -> list[list[float]]:
        read.append(tensor)
        return [[5.0, 0.0, 0.0]] * len(tensor)

    monkeypatch.setattr(torch.Tensor, "tolist", tolist)

    assert TokenChooser().choose(samplers, logits) == [5] * len(kinds)
    assert [list(each.shape) for each in read] == [[len(kinds), 3]]
