"""Layers that compute their inner tensors again give the same bits and need less memory."""

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from receptance.models import RWKV4
from receptance.training import language_model_loss
from receptance.training.optimization.activation_checkpointing import checkpoint_layers
from tests.random_models import random_rwkv4, random_tokens
from tests.tolerances import EXACT


def gradients(model: RWKV4, *, seed: int = 0) -> dict[str, Tensor]:
    """Return the loss and the gradients of a batch with resets and a state, in bfloat16."""
    tokens, targets = random_tokens(2, 20, seed=3), random_tokens(2, 20, seed=4)
    torch.manual_seed(seed)
    with torch.autocast("cpu", torch.bfloat16):
        _, state = model.features(tokens)
        x, state = model.features(tokens, state, resets=tokens == 7)
        loss = language_model_loss(x, model.head.weight, targets, auxiliary=1e-4)
    (loss.total + state.num.square().sum()).backward()
    found = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    assert len(found) == len(list(model.parameters()))
    return {"loss": loss.total.detach(), **found}


def test_loss_and_gradients_are_the_same_bit_for_bit():
    plain, recomputed = random_rwkv4(), random_rwkv4()
    checkpoint_layers(recomputed)
    torch.testing.assert_close(gradients(recomputed), gradients(plain), **EXACT)


class NoisyBlock(nn.Module):
    """A block that drops some of what it is given, as dropout does."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor, *args: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self.block(nn.functional.dropout(x, 0.3), *args)


def test_what_is_drawn_at_random_is_drawn_the_same_again():
    found = []
    for is_recomputed in (False, True):
        model = random_rwkv4()
        model.blocks = nn.ModuleList(NoisyBlock(each) for each in model.blocks)
        if is_recomputed:
            checkpoint_layers(model)
        found.append(gradients(model, seed=5))
        found.append(torch.get_rng_state())
    torch.testing.assert_close(found[2], found[0], **EXACT)
    assert torch.equal(found[1], found[3])


def test_names_and_weights_stay_as_they_are():
    model = random_rwkv4()
    before = model.state_dict()
    checkpoint_layers(model)
    checkpoint_layers(model)
    assert model.state_dict().keys() == before.keys()
    assert [name for name, _ in model.named_parameters()] == list(before)


def test_every_layer_is_computed_twice_where_gradients_are_wanted_and_else_once():
    model = random_rwkv4(n_layer=3)
    calls = []
    for name, module in model.named_modules():
        if name.endswith(".att"):
            module.register_forward_hook(lambda *_: calls.append(1))
    checkpoint_layers(model)
    gradients(model)
    assert len(calls) == 2 * 2 * 3  # two forwards, each computed again
    calls.clear()
    with torch.no_grad():
        model(random_tokens(1, 4))
    assert len(calls) == 3


@pytest.mark.unhooked
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_it_traces_whole_under_torch_compile():
    plain, recomputed = random_rwkv4(n_layer=2), random_rwkv4(n_layer=2)
    checkpoint_layers(recomputed)
    tokens = random_tokens(2, 9)
    traced = torch.compile(recomputed, fullgraph=True, backend="aot_eager")
    for run, model in ((plain, plain), (traced, recomputed)):
        logits, _ = run(tokens)
        logits.square().mean().backward()
        assert model.head.weight.grad is not None
    for (name, one), other in zip(plain.named_parameters(), recomputed.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, msg=lambda text, n=name: n + text)


# Prints by how many bytes a forward and backward raise the most that the process ever held.
# (What getrusage tells begins with the most that the process had which started this one.)
PROGRAM = """
import re, sys
from pathlib import Path
import torch
from receptance.training.optimization.activation_checkpointing import checkpoint_layers
from tests.random_models import random_rwkv4, random_tokens

model = random_rwkv4(n_layer=24, n_embd=64)
if sys.argv[1] == "recomputed":
    checkpoint_layers(model)
tokens = random_tokens(4, 1024)
model(tokens[:, :2])[0].sum().backward()
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
before = peak()
x, _ = model.features(tokens)
x.sum().backward()
print((peak() - before) * 1024)
"""


def peak_bytes(mode: str) -> int:
    # Each tensor from the system and back to it: what the process holds is then what is in use,
    # without the holes of glibc's heap.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, mode],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts as Linux does")
def test_24_layers_need_less_than_a_quarter_of_the_memory():
    assert peak_bytes("recomputed") < peak_bytes("plain") / 4
