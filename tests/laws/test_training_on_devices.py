"""A step of training is the same by the kernels for GPUs as by the definition of each op.

Where there is no GPU the kernels are interpreted. What surrounds them is what runs on one:
autocast, layers that are computed again, and the graph that `torch.compile` makes.
"""

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from receptance.checkpoint import save_model
from receptance.data import Batch
from receptance.quantization import quantize_model
from receptance.training import (
    Ranks,
    RunConfig,
    StepResult,
    frozen_quantization,
    load_initial_weights_,
    training_step,
)
from receptance.training.assemble import assemble, objective_of
from tests.one_implementation import only
from tests.random_models import random_rwkv4
from tests.tolerances import FLOAT32_LOSS
from tests.training.tiny_run import tiny_batch, tiny_config

STEPS = 3
CTX_LEN = 4
RELATIVE_GRADIENT = {"float32": 1e-4, "bfloat16": 2e-2}
"""Of a parameter's gradient, by the norm of it. In float32 sums are in another order; in bfloat16
a number next to the border of two is rounded to the other one, 2^-8 = 0.4 % away, and that adds up
over a layer and its backward."""


def config_of(**settings: Any) -> RunConfig:
    return tiny_config(
        **{
            "model_n_layer": 2,
            "data_ctx_len": CTX_LEN,
            "data_batch_size": 2,
            "training_steps": STEPS,
            **settings,
        }
    )


class Steps(NamedTuple):
    """What came of the first steps of a run."""

    results: list[StepResult]
    gradients: dict[str, Tensor]
    """Of the first step, by the parameter's name."""
    weights: dict[str, Tensor]
    """What was trained, after the last step."""
    model: nn.Module


def steps(
    config: RunConfig, implementation: str, device: str, *, n_steps: int = STEPS, backend: str = ""
) -> Steps:
    """Take the first steps of a run by one implementation of each op."""
    ranks = Ranks(device=torch.device(device))
    with only(implementation):
        frozen = frozen_quantization(config)
        model, optimizer = assemble(config, config.model.build(256), ranks, frozen)
        whole = random_rwkv4(config.model.n_layer, config.model.n_embd, 256)
        if config.training.init_from:
            load_initial_weights_(model, config, ranks)
        else:
            model.load_state_dict(whole.state_dict())
        objective = objective_of(model, config, ranks)
        if backend:
            torch._dynamo.reset()
            objective.compile(fullgraph=True, dynamic=False, backend=backend)
        gradients = {}
        for name, each in model.named_parameters():
            if each.requires_grad:
                each.register_post_accumulate_grad_hook(_first_in(gradients, name))
        results, carried = [], None
        for step in range(n_steps):
            batch = _batch(step).to(ranks.device)
            result = training_step(config, objective, optimizer, batch, step=step, carried=carried)
            carried = result.carried
            results.append(result)
    trained = {
        name: each.detach().cpu() for name, each in model.named_parameters() if each.requires_grad
    }
    return Steps(results, gradients, trained, model)


def _first_in(gradients: dict[str, Tensor], name: str) -> Any:
    def keep(parameter: Tensor) -> None:
        assert parameter.grad is not None
        gradients.setdefault(name, parameter.grad.detach().cpu().clone())

    return keep


def _batch(step: int) -> Batch:
    """Return rows in which some token begins a document, and not every token counts."""
    whole = tiny_batch(2 * step, 2)
    tokens, targets, resets = (each[:, :CTX_LEN].contiguous() for each in whole[:3])
    resets[0, 2] = True
    return Batch(tokens, targets, resets, counted=torch.arange(CTX_LEN) != torch.tensor([[1], [3]]))


def assert_as_the_reference(config: RunConfig, device: str, n_steps: int = STEPS) -> Steps:
    """Compare losses, gradients and what is trained; return the steps by Triton's kernels."""
    expected = steps(config, "reference", device, n_steps=n_steps)
    found = steps(config, "triton", device, n_steps=n_steps)
    precision = config.training.precision
    # Weights that were rounded apart learn apart; the first loss has only the forward's rounding.
    tolerance = FLOAT32_LOSS if precision == "float32" else 1e-3
    for one, two in zip(found.results, expected.results, strict=True):
        assert one.loss == pytest.approx(two.loss, rel=tolerance)
        assert one.grad_norm == pytest.approx(two.grad_norm, rel=RELATIVE_GRADIENT[precision])
    assert found.gradients.keys() == expected.gradients.keys() == found.weights.keys()
    for name, gradient in expected.gradients.items():
        error = (found.gradients[name] - gradient).norm()
        assert error <= RELATIVE_GRADIENT[precision] * gradient.norm() + 1e-9, name
    return found


@pytest.mark.parametrize(
    "settings",
    [
        {"training_precision": "float32"},
        {
            "training_precision": "bfloat16",
            "data_segments": 2,
            "data_micro_batch_size": 1,
            "model_n_layer": 1,
        },
    ],
)
def test_steps_by_tritons_kernels_are_those_of_the_reference(settings, triton_device):
    found = assert_as_the_reference(config_of(**settings), triton_device)
    # Master weights: what moves is float32 whatever the products are in.
    held = [*found.weights.values(), *found.gradients.values()]
    assert {each.dtype for each in held} == {torch.float32}


def test_layers_that_are_computed_again_have_the_same_bits(triton_device):
    settings = {"training_precision": "bfloat16", "training_dropout": 0.25, "model_n_layer": 1}
    kept, again = (
        steps(
            config_of(training_checkpoint_layers=flag, **settings),
            "triton",
            triton_device,
            n_steps=1,
        )
        for flag in (False, True)
    )
    assert [each.loss for each in again.results] == [each.loss for each in kept.results]
    for name, weight in kept.weights.items():
        assert torch.equal(again.weights[name], weight), name


@pytest.mark.unhooked
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of PyTorch, by its own compiler
@pytest.mark.parametrize(
    ("backend", "checkpoint_layers"),
    [
        ("aot_eager", True),
        pytest.param("inductor", False, marks=pytest.mark.slow),
        pytest.param("inductor", True, marks=pytest.mark.slow),
    ],
)
def test_the_graph_of_a_step_is_one_and_has_the_same_numbers(
    backend, checkpoint_layers, triton_device
):
    """With "aot_eager" all is traced, made functional and parted, and nothing fused."""
    config = config_of(
        model_n_layer=1,
        training_precision="bfloat16",
        training_checkpoint_layers=checkpoint_layers,
    )
    eager = steps(config, "triton", triton_device, n_steps=1)
    traced = steps(config, "triton", triton_device, n_steps=1, backend=backend)
    (one,), (two,) = traced.results, eager.results
    assert one.loss == pytest.approx(two.loss, rel=1e-4)
    assert one.grad_norm == pytest.approx(two.grad_norm, rel=RELATIVE_GRADIENT["bfloat16"])
    for name, gradient in eager.gradients.items():
        error = (traced.gradients[name] - gradient).norm()
        assert error <= RELATIVE_GRADIENT["bfloat16"] * gradient.norm() + 1e-9, name


@pytest.mark.parametrize(("method", "format"), [("lora", ""), ("lora", "int4"), ("state", "int8")])
def test_beside_frozen_weights_the_same_is_trained(method, format, tmp_path, triton_device):
    base = random_rwkv4(1, 16, 256)
    save_model(quantize_model(base, format) if format else base, None, tmp_path / "base")
    config = config_of(
        model_n_layer=1,
        training_precision="bfloat16",
        training_init_from=str(tmp_path / "base"),
        training_device=triton_device,
        finetune_method=method,
    )
    found = assert_as_the_reference(config, triton_device, n_steps=1)
    parts = ("lora_a", "lora_b") if method == "lora" else ("initial_state.",)
    assert all(any(part in name for part in parts) for name in found.weights)
    # B is zero at first, so that A has no gradient.
    moved = [name for name, each in found.gradients.items() if each.any()]
    assert moved
