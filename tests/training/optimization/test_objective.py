"""One module from tokens to loss."""

import pytest
import torch

from receptance.models import RWKV4
from receptance.training.optimization.objective import Objective
from tests.random_models import random_rwkv4


def test_the_loss_is_that_of_the_models_logits():
    model = random_rwkv4(n_layer=2, n_embd=16, seed=1)
    tokens = torch.randint(40, (3, 9), generator=torch.Generator().manual_seed(2))
    resets = tokens == 7

    loss, state = Objective(model, auxiliary=0.1, precision="float32")(
        tokens[:, :-1], tokens[:, 1:], None, resets[:, :-1]
    )

    logits, expected = model(tokens[:, :-1], resets=resets[:, :-1])
    cross_entropy = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    auxiliary = 0.05 * logits.amax(-1).square().mean()
    torch.testing.assert_close(loss.cross_entropy, cross_entropy)
    torch.testing.assert_close(loss.total, cross_entropy + auxiliary)
    torch.testing.assert_close(state.num, expected.num)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_carried_state_is_what_the_tokens_before_left(precision):
    model: RWKV4 = random_rwkv4(n_layer=2, n_embd=16, seed=1)
    objective = Objective(model, auxiliary=0.0, precision=precision)
    tokens = torch.randint(40, (2, 17), generator=torch.Generator().manual_seed(2))
    inputs, targets = tokens[:, :-1], tokens[:, 1:]

    whole, _ = objective(inputs, targets, None, None)
    first, state = objective(inputs[:, :8], targets[:, :8], None, None)
    second, _ = objective(inputs[:, 8:], targets[:, 8:], state, None)

    both = (first.cross_entropy + second.cross_entropy) / 2
    torch.testing.assert_close(both, whole.cross_entropy, rtol=1e-4, atol=1e-4)
