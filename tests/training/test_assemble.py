"""The parts of a run, put together as it says."""

import pytest
import torch

from receptance.checkpoint import save_model
from receptance.errors import ConfigError
from receptance.models import RWKV4Config, build
from receptance.quantization import FORMATS, quantize_model
from receptance.training import ALONE, Ranks, load_initial_weights_
from receptance.training.assemble import assemble, objective_of
from tests.training.tiny_run import tiny_batch, tiny_config

SHAPE = RWKV4Config(n_layer=2, n_embd=16, vocab_size=256)


def test_the_optimizer_is_over_the_parameters_of_the_model():
    model, optimizer = assemble(tiny_config(), SHAPE, ALONE)

    held = {id(each) for group in optimizer.param_groups for each in group["params"]}
    assert held == {id(each) for each in model.parameters()}
    assert {each.device.type for each in model.parameters()} == {"cpu"}


def test_dropout_is_that_of_the_run():
    model, _ = assemble(tiny_config(training_dropout=0.25), SHAPE, ALONE)

    assert {block.dropout for block in model.blocks} == {0.25}


def test_several_ranks_must_know_how_to_share_the_work():
    with pytest.raises(ConfigError, match="must be 'ddp' or 'fsdp2' for 2 processes"):
        assemble(tiny_config(), SHAPE, Ranks(rank=0, world_size=2))


@pytest.mark.unhooked
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch, by its own compiler
@pytest.mark.parametrize("checkpoint_layers", [False, True])
def test_a_compiled_objective_is_one_graph_with_the_same_gradient(checkpoint_layers):
    gradients = []
    for compiled in (False, True):
        torch._dynamo.reset()
        config = tiny_config(
            training_compile=compiled, training_checkpoint_layers=checkpoint_layers
        )
        model, _ = assemble(config, SHAPE, ALONE)
        torch.manual_seed(1)
        model.init_weights()
        batch = tiny_batch(0, 4)
        objective = objective_of(model, config, ALONE)
        loss, _ = objective(batch.tokens, batch.targets, None, batch.resets)
        loss.total.backward()
        gradients.append({name: each.grad for name, each in model.named_parameters()})

    eager, traced = gradients
    for name, gradient in eager.items():
        torch.testing.assert_close(traced[name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.unhooked
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch, by its own compiler
@pytest.mark.parametrize("method", ["lora", "state"])
@pytest.mark.parametrize("format", FORMATS)
def test_beside_rounded_weights_a_compiled_objective_has_the_same_loss(method, format, tmp_path):
    losses = []
    torch.manual_seed(1)
    plain = build(SHAPE)
    plain.init_weights()
    base = tmp_path / "base"
    save_model(quantize_model(plain, format), None, base)
    for compiled in (False, True):
        torch._dynamo.reset()
        config = tiny_config(
            finetune_method=method, training_init_from=str(base), training_compile=compiled
        )
        model, _ = assemble(config, SHAPE, ALONE, FORMATS[format])
        load_initial_weights_(model, config)
        batch = tiny_batch(0, 4)
        loss, _ = objective_of(model, config, ALONE)(batch.tokens, batch.targets, None, None)
        loss.total.backward()
        gradients = [each.grad for each in model.parameters() if each.requires_grad]
        losses.append((loss.total, gradients))
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-4, atol=1e-6)
