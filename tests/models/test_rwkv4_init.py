"""The values that the authors' code starts from, and what they make of a new model."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from receptance.models import RWKV4, RWKV4Config
from tests.random_models import random_tokens

L, C, V = 3, 16, 40


def initialised(n_layer: int = L, n_embd: int = C, vocab_size: int = V, seed: int = 0) -> RWKV4:
    """Return a new model in which everything was NaN before it was initialised."""
    model = RWKV4(RWKV4Config(n_layer=n_layer, n_embd=n_embd, vocab_size=vocab_size))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    torch.manual_seed(seed)
    model.init_weights()
    return model


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return dict(initialised().named_parameters())


def close(found: Tensor, expected: list[float]) -> None:
    assert_close(found.detach().flatten(), torch.tensor(expected), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("layer", range(L))
def test_the_vectors_are_those_of_the_authors_table(weights, layer):
    r0, r1 = layer / (L - 1), 1 - layer / L
    att, ffn = f"blocks.{layer}.att", f"blocks.{layer}.ffn"
    channels = range(C)
    decay = [-5 + 8 * (i / (C - 1)) ** (0.7 + 1.3 * r0) for i in channels]
    close(weights[f"{att}.time_decay"], decay)
    zigzag = [math.log(0.3) + 0.5 * ((i + 1) % 3 - 1) for i in channels]
    close(weights[f"{att}.time_first"], zigzag)
    close(weights[f"{att}.time_mix_k"], [(i / C) ** r1 for i in channels])
    close(weights[f"{att}.time_mix_v"], [(i / C) ** r1 + 0.3 * r0 for i in channels])
    close(weights[f"{att}.time_mix_r"], [(i / C) ** (0.5 * r1) for i in channels])
    close(weights[f"{ffn}.time_mix_k"], [(i / C) ** r1 for i in channels])
    close(weights[f"{ffn}.time_mix_r"], [(i / C) ** r1 for i in channels])


@pytest.mark.parametrize("layer", range(L))
def test_decays_go_from_slow_to_instant(weights, layer):
    decay = torch.exp(-torch.exp(weights[f"blocks.{layer}.att.time_decay"].detach().double()))
    assert decay[0].item() == pytest.approx(0.99328, abs=5e-6)
    assert decay[-1].item() == pytest.approx(1.9e-9, rel=0.02)
    assert (decay[1:] < decay[:-1]).all()


def test_the_bonus_zigzags_around_the_log_of_three_tenths(weights):
    first = weights["blocks.0.att.time_first"].detach()
    close(first[:4] - math.log(0.3), [0.0, 0.5, -0.5, 0.0])


@pytest.mark.parametrize("layer", range(L))
@pytest.mark.parametrize(
    "matrix", ["att.key", "att.receptance", "att.output", "ffn.value", "ffn.receptance"]
)
def test_the_matrices_of_the_authors_list_are_zero(weights, layer, matrix):
    weight = weights[f"blocks.{layer}.{matrix}.weight"]
    assert torch.equal(weight, torch.zeros_like(weight))


def test_norms_change_nothing(weights):
    norms = {name: each for name, each in weights.items() if ".ln" in name or "ln_out" in name}
    assert len(norms) == 2 + 2 * 2 * L + 2
    for name, norm in norms.items():
        assert torch.equal(norm, torch.full([C], 1.0 if name.endswith("weight") else 0.0))


@pytest.mark.parametrize("layer", range(L))
def test_the_other_matrices_are_orthogonal_with_the_gain_of_the_table(weights, layer):
    value = weights[f"blocks.{layer}.att.value.weight"].detach()
    key = weights[f"blocks.{layer}.ffn.key.weight"].detach()
    assert_close(value @ value.T, torch.eye(C), rtol=0, atol=1e-5)
    assert_close(key.T @ key, 4 * torch.eye(C), rtol=0, atol=1e-5)


@pytest.mark.parametrize("vocab_size", [4, C, V])
def test_the_head_is_orthogonal_with_half_the_gain_of_its_shape(vocab_size):
    head = initialised(vocab_size=vocab_size).head.weight.detach()
    if vocab_size > C:
        found, gain = head.T @ head, 0.5 * math.sqrt(vocab_size / C)
    else:
        found, gain = head @ head.T, 0.5
    assert_close(found, gain**2 * torch.eye(len(found)), rtol=0, atol=1e-5)


def test_the_embedding_is_uniform_and_tiny():
    emb = initialised(vocab_size=4000).emb.weight.detach()
    assert emb.abs().max() <= 1e-4
    assert emb.mean().abs() < 1e-6
    assert emb.std().item() == pytest.approx(1e-4 / math.sqrt(3), rel=0.02)


def test_matrices_of_different_layers_differ(weights):
    assert not torch.equal(
        weights["blocks.0.att.value.weight"], weights["blocks.1.att.value.weight"]
    )


def test_every_block_begins_as_the_identity():
    model, tokens = initialised(), random_tokens(2, 9, V)
    first_norm = model.get_submodule("blocks.0.ln0")
    assert_close(model(tokens)[0], model.head(model.ln_out(first_norm(model.emb(tokens)))))


def test_every_parameter_is_reached_by_the_gradient_after_a_few_steps():
    """Zero matrices must not be zero for ever, as those of the paper's printed list would be."""
    model, tokens = initialised(), random_tokens(2, 12, V)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(3):
        optimizer.zero_grad()
        logits, _ = model(tokens[:, :-1])
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()
        optimizer.step()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_the_seed_decides_everything():
    first, again, other = (dict(initialised(seed=seed).state_dict()) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.weight"], other["head.weight"])


@pytest.mark.parametrize(
    ("n_layer", "n_embd", "vocab_size"), [(1, 1, 1), (1, 8, 11), (2, 1, 5), (1, 2, 1)]
)
def test_the_smallest_models_have_values_too(n_layer, n_embd, vocab_size):
    """One layer takes r0 = 0, and one channel the first value of the decay."""
    model = initialised(n_layer, n_embd, vocab_size)
    for name, parameter in model.named_parameters():
        assert torch.isfinite(parameter).all(), name
    assert model.get_parameter("blocks.0.att.time_decay")[0].item() == -5
    if n_embd > 1:
        mix = model.get_parameter("blocks.0.att.time_mix_v")
        close(mix, [i / n_embd for i in range(n_embd)])
    assert torch.isfinite(model(random_tokens(1, 3, vocab_size))[0]).all()


def test_a_model_from_the_meta_device_can_be_initialised():
    with torch.device("meta"):
        model = RWKV4(RWKV4Config(n_layer=L, n_embd=C, vocab_size=V))
    model.to_empty(device="cpu")
    torch.manual_seed(0)
    model.init_weights()
    for name, expected in initialised().state_dict().items():
        assert torch.equal(model.state_dict()[name], expected), name
