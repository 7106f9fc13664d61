"""The model traces whole: no part of it falls back to Python."""

import pytest
import torch

from tests.random_models import random_rwkv4


@pytest.mark.unhooked
# PyTorch's own tracer looks at the gradient of the state that the first call gave.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_the_model_traces_whole_with_its_state_and_its_gradients():
    model = random_rwkv4(n_layer=2, n_embd=16, vocab_size=32)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    tokens = torch.randint(32, (2, 9), generator=torch.Generator().manual_seed(1))
    resets = tokens == 3

    logits, state = compiled(tokens, resets=resets)
    again, _ = compiled(tokens, state, resets=resets)
    (logits.square().mean() + again.square().mean()).backward()
    traced = {name: weight.grad for name, weight in model.named_parameters()}
    model.zero_grad()
    expected, expected_state = model(tokens, resets=resets)
    expected_again, _ = model(tokens, expected_state, resets=resets)
    (expected.square().mean() + expected_again.square().mean()).backward()

    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(again, expected_again)
    torch.testing.assert_close(state.tensors, expected_state.tensors)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(traced[name], weight.grad)
