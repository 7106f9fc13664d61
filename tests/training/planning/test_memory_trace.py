"""What is traced without memory is what a real step keeps."""

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from receptance.models import RWKV4, build
from receptance.training import autocast, language_model_loss
from receptance.training.planning.memory_trace import trace_memory
from tests.training.tiny_run import tiny_config


class Squares(nn.Module):
    """(a x)², summed; x and a have n numbers."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.empty(n))

    def forward(self, x: Tensor) -> Tensor:
        return (self.a * x).square().sum()


def test_of_two_products_their_inputs_are_kept_and_their_gradients_come_and_go():
    n = 1000

    trace = trace_memory(lambda: Squares(n), lambda module: module(torch.empty(n)))

    # x and a x, but not the parameter.
    assert trace.kept_bytes == 2 * 4 * n
    # Backward makes 2 a x and its product with the gradient, then a's gradient: of each at most
    # three are there with the two that are kept, and the loss and its gradient.
    assert 4 * 4 * n <= trace.peak_bytes <= 5 * 4 * n + 100


def test_a_parameter_and_its_gradient_are_not_counted():
    def build() -> nn.Module:
        return nn.Linear(1000, 1, bias=False)

    trace = trace_memory(build, lambda module: module(torch.empty(1, 1000)).sum())

    assert trace.kept_bytes == 4 * 1000
    # The gradient is there for the moment before it is taken away.
    assert trace.peak_bytes < 2 * 4 * 1000 + 100


def test_a_buffer_and_what_was_there_only_to_build_are_not_counted():
    def build() -> nn.Module:
        torch.empty(10_000)
        module = Squares(10)
        module.register_buffer("frozen", torch.empty(1000))
        return module

    def loss_of(module: nn.Module) -> Tensor:
        return module(module.get_buffer("frozen")[:10])

    trace = trace_memory(build, loss_of)

    assert trace.kept_bytes == 4 * 10
    assert trace.peak_bytes < 5 * 4 * 10 + 100


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_model_keeps_as_much_without_memory_as_with_it(precision, resets):
    shape = tiny_config().model.build(256)

    def loss_of(model: RWKV4) -> Tensor:
        tokens = torch.zeros(3, 40, dtype=torch.long)
        with autocast(precision):
            x, _ = model.features(tokens, resets=tokens == 0 if resets else None)
            loss = language_model_loss(x, model.head.weight, tokens, auxiliary=1e-4)
        return loss.total

    storages = []

    def note(tensor: Tensor) -> Tensor:
        storages.append(tensor.untyped_storage())
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        model = build(shape)
        loss_of(model)
    parameters = {each.data_ptr() for each in model.parameters()}
    real = {each.data_ptr(): each.nbytes() for each in storages}

    found = trace_memory(lambda: build(shape), loss_of)

    assert found.kept_bytes == sum(real[key] for key in real.keys() - parameters)
    assert found.peak_bytes > found.kept_bytes
