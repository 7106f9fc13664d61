"""AdamW moves every weight by the written formula, each at its group's rate."""

import pytest
import torch

from receptance.errors import ConfigError
from receptance.training import build_optimizer
from receptance.training.optimization.optimizer import (
    OptimizerConfig,
    clip_gradient,
    set_learning_rate,
)
from tests.random_models import random_rwkv4, random_tokens

LAYERED = OptimizerConfig(
    lr=1e-2, weight_decay=0.1, time_decay_lr_multiplier=2.0, time_first_lr_multiplier=3.0
)


def expected_group(name: str, parameter: torch.Tensor) -> tuple[float, float]:
    multiplier = {"time_decay": 2.0, "time_first": 3.0}.get(name.split(".")[-1], 1.0)
    is_matrix = parameter.ndim == 2 and not name.startswith("emb.")
    return multiplier, 0.1 if is_matrix else 0.0


def test_every_weight_is_in_the_group_of_its_kind_and_in_one_only():
    model = random_rwkv4(n_layer=2, n_embd=8)
    names = {id(parameter): name for name, parameter in model.named_parameters()}

    groups = build_optimizer(model, LAYERED).param_groups

    found = {
        names[id(parameter)]: (group["lr_multiplier"], group["weight_decay"])
        for group in groups
        for parameter in group["params"]
    }
    assert sum(len(group["params"]) for group in groups) == len(names)
    assert found == {name: expected_group(name, each) for name, each in model.named_parameters()}


def test_by_default_all_weights_move_at_one_rate_and_none_decays():
    (group,) = build_optimizer(random_rwkv4(n_layer=1, n_embd=8), OptimizerConfig()).param_groups

    assert (group["lr_multiplier"], group["weight_decay"]) == (1.0, 0.0)
    assert (group["lr"], group["betas"], group["eps"]) == (6e-4, (0.9, 0.99), 1e-8)


@pytest.mark.parametrize(
    ("dtype", "rtol"),
    [(torch.float64, 1e-12), (torch.float32, 1e-5)],  # float32: the rounding of a dozen operations
)
def test_steps_are_those_of_the_written_formula(dtype, rtol):
    model = random_rwkv4(n_layer=1, n_embd=8, vocab_size=11, dtype=dtype)
    before = {name: each.detach().double().clone() for name, each in model.named_parameters()}
    moments = {name: [torch.zeros_like(each)] * 2 for name, each in before.items()}
    optimizer = build_optimizer(model, LAYERED)
    set_learning_rate(optimizer, 3e-3)
    beta1, beta2 = LAYERED.betas

    for t in (1, 2, 3):
        model(random_tokens(2, 5, 11, seed=t))[0].square().mean().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            g = parameter.grad.double()
            m, v = moments[name]
            m = beta1 * m + (1 - beta1) * g
            v = beta2 * v + (1 - beta2) * g * g
            moments[name] = [m, v]
            multiplier, weight_decay = expected_group(name, parameter)
            lr = 3e-3 * multiplier
            adam = (m / (1 - beta1**t)) / ((v / (1 - beta2**t)).sqrt() + LAYERED.eps)
            before[name] = before[name] * (1 - lr * weight_decay) - lr * adam
        optimizer.step()
        optimizer.zero_grad()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.double(), before[name], rtol=rtol, atol=rtol)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lr": 0.0}, "`optimizer.lr` must be above 0, got 0.0"),
        ({"eps": -1.0}, "`optimizer.eps` must be above 0, got -1.0"),
        ({"grad_clip": 0.0}, "`optimizer.grad_clip` must be above 0"),
        ({"time_first_lr_multiplier": 0.0}, "`optimizer.time_first_lr_multiplier` must be above"),
        ({"weight_decay": -0.1}, "`optimizer.weight_decay` must not be negative, got -0.1"),
        ({"betas": (0.9, 1.0)}, "`optimizer.betas` must lie in [0, 1), got (0.9, 1.0)"),
    ],
)
def test_an_impossible_setting_is_named(settings, words):
    with pytest.raises(ConfigError) as caught:
        OptimizerConfig(**settings)
    assert words in str(caught.value)


def parameters_with_gradients() -> list[torch.nn.Parameter]:
    """Return three parameters, the second one without a gradient."""
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((3, 4), (2,), (5,))]
    for each in parameters[::2]:
        each.grad = torch.randn(each.shape, generator=generator)
    return parameters


def test_a_longer_gradient_is_scaled_down_to_the_longest_norm():
    clipped, expected = parameters_with_gradients(), parameters_with_gradients()
    norm = torch.nn.utils.clip_grad_norm_(expected, 0.5).item()
    clip_gradient(clipped, norm, 0.5)
    for one, other in zip(clipped, expected, strict=True):
        # PyTorch divides by the norm + 1e-6.
        torch.testing.assert_close(one.grad, other.grad, rtol=2e-6, atol=0.0)


def test_a_shorter_gradient_is_not_even_touched():
    parameters = parameters_with_gradients()
    versions = [each.grad._version for each in parameters if each.grad is not None]
    clip_gradient(parameters, 1.0, 1.0)
    assert [each.grad._version for each in parameters if each.grad is not None] == versions
