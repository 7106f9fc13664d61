"""Logits that the authors' package gave once: this test reads a file and needs no oracle."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torch.testing import assert_close

from receptance.models import RWKV4, RWKV4Config
from tests.tolerances import FLOAT32, FLOAT32_LOGITS

GOLDEN = Path(__file__).parents[1] / "assets" / "rwkv4-golden.safetensors"


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with safe_open(GOLDEN, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@pytest.fixture(scope="module")
def model(golden: dict[str, Tensor]) -> RWKV4:
    model = RWKV4(RWKV4Config(n_layer=3, n_embd=48, vocab_size=97))
    prefix = "weights."
    weights = {k.removeprefix(prefix): v for k, v in golden.items() if k.startswith(prefix)}
    model.load_state_dict(weights, strict=True)
    return model


def test_the_file_is_small_enough_to_live_in_the_repository():
    assert GOLDEN.stat().st_size < 1_000_000


def test_the_file_says_with_what_it_was_made():
    with safe_open(GOLDEN, framework="pt") as file:
        made_with = file.metadata()["made_with"].split(", ")[0]
    name, version = made_with.split()
    readme = GOLDEN.with_name("README.md").read_text(encoding="utf-8")
    assert f"`{name}` {version}" in readme


@pytest.mark.parametrize("chunk", [1, 7, 80])
@torch.no_grad()
def test_logits_and_state_are_those_of_the_authors(golden, model, chunk):
    logits, state = [], None
    for tokens in golden["tokens"].split(chunk):
        piece, state = model(tokens[None], state)
        logits.append(piece[0])
    assert_close(torch.cat(logits), golden["logits"], rtol=0, atol=FLOAT32_LOGITS)

    assert state is not None
    for name in ("time_mix_x", "channel_mix_x"):
        assert_close(state.tensors[name][:, 0], golden[f"state.{name}"], **FLOAT32)
    num, den, log_scale = (golden[f"state.{name}"] for name in ("num", "den", "log_scale"))
    assert_close((state.num / state.den)[:, 0], num / den, **FLOAT32)
    assert_close((state.den.log() + state.log_scale)[:, 0], den.log() + log_scale, **FLOAT32)
