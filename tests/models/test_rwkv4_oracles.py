"""RWKV-4 beside programs that are not ours: the paper's equations, `transformers`, `rwkv`."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from receptance.models import RWKV4
from tests.oracles import AuthorsOracle, TransformersOracle, plain_logits, transformers_model
from tests.random_models import random_rwkv4, random_tokens
from tests.tolerances import ALGEBRA, FLOAT32_LOGITS, FLOAT32_LOSS

SHAPES = {"L2-D128": (2, 128, 61), "L4-D256": (4, 256, 61), "169m": (12, 768, 50277)}


@pytest.fixture(
    scope="module", params=[*list(SHAPES)[:2], pytest.param("169m", marks=pytest.mark.slow)]
)
def random_model(request) -> RWKV4:
    return random_rwkv4(*SHAPES[request.param])


@pytest.mark.parametrize("n_layer", [1, 3])
def test_the_logits_are_those_of_the_papers_equations(n_layer):
    """In float64, against sums over all tokens: no recurrence, no state, no torch."""
    model = random_rwkv4(n_layer, 24, 40, dtype=torch.float64)
    tokens = random_tokens(2, 30)
    logits, _ = model(tokens)
    for row in range(2):
        expected = plain_logits(model.state_dict(), n_layer, tokens[row].tolist())
        assert_close(logits[row].detach(), torch.from_numpy(expected), **ALGEBRA)


@torch.no_grad()
def test_every_parameter_of_the_random_models_matters():
    """Otherwise agreement would prove nothing: noise of 1/20 in any parameter must be seen."""
    model = random_rwkv4(2, 128, 61)
    tokens = random_tokens(1, 60, 61)
    generator = torch.Generator().manual_seed(2)
    right, _ = model(tokens)
    for name, parameter in model.named_parameters():
        original = parameter.clone()
        parameter.mul_(1 + 0.05 * torch.randn(parameter.shape, generator=generator))
        wrong, _ = model(tokens)
        assert (wrong - right).abs().max() > 100 * FLOAT32_LOGITS, name
        parameter.copy_(original)


@pytest.mark.parametrize("program", ["transformers", "rwkv"])
@torch.no_grad()
def test_another_program_gives_the_same_logits(random_model, program):
    """For a text of 300 tokens in one call, and for 50 more, one at a time."""
    oracle = {"transformers": TransformersOracle, "rwkv": AuthorsOracle}[program](random_model)
    vocab_size = random_model.config.vocab_size
    text, more = random_tokens(1, 350, vocab_size).split([300, 50], dim=1)

    logits, state = random_model(text)
    expected, their_state = oracle(text)
    assert 1 < expected.std() < 10
    assert_close(logits[0], expected, rtol=0, atol=FLOAT32_LOGITS)
    for token in more.split(1, dim=1):
        logits, state = random_model(token, state)
        expected, their_state = oracle(token, their_state)
        assert_close(logits[0], expected, rtol=0, atol=FLOAT32_LOGITS)


@pytest.mark.parametrize("start", ["initialised", "random"])
def test_fifty_steps_of_training_have_the_loss_of_transformers(start):
    """From the same weights, on the same batches, by the same optimizer."""
    ours = random_rwkv4(2, 32, 61)
    if start == "initialised":
        torch.manual_seed(0)
        ours.init_weights()
    theirs = transformers_model(ours.state_dict(), ours.config).train()
    optimizers = [
        torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.01)
        for model in (ours, theirs)
    ]
    losses = []
    for step in range(50):
        inputs, targets = _progressions(step)
        pair = _loss(ours(inputs)[0], targets), _loss(theirs(inputs).logits, targets)
        for loss, optimizer in zip(pair, optimizers, strict=True):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append([loss.item() for loss in pair])
    assert losses[-1][0] < losses[0][0] - 1  # it learned something
    for mine, other in losses:
        assert mine == pytest.approx(other, rel=0, abs=FLOAT32_LOSS)


def _progressions(step: int) -> tuple[Tensor, Tensor]:
    """Return a batch that can be learned: each row counts up by a step of its own."""
    generator = torch.Generator().manual_seed(step)
    first, stride = torch.randint(1, 5, (2, 4, 1), generator=generator)
    tokens = (17 * first + stride * torch.arange(25)) % 61
    return tokens[:, :-1], tokens[:, 1:]


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten())
