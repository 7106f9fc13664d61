"""However the work is shared, the numbers are those of one rank."""

import math
import sys
from typing import get_args

import pytest
import torch
from safetensors.torch import load_file

from receptance.errors import ConfigError
from receptance.models import RWKV4, RWKV4Config
from receptance.training.optimization import Objective
from receptance.training.processes.parallel import (
    Parallel,
    distribute,
    gradient_norms,
    gradient_sync,
    whole_model,
)
from receptance.training.processes.ranks import ALONE, Ranks
from tests.tolerances import ALGEBRA, FLOAT32, FLOAT32_LOSS
from tests.training import scenarios
from tests.training.on_ranks import RankProcesses


@pytest.fixture(scope="module")
def trained(two_ranks, tmp_path_factory):
    """Return what one rank, and two ranks in both ways, see and make of the same steps."""
    folder = str(tmp_path_factory.mktemp("trained"))
    results = {"none": [scenarios.training(ALONE, parallel="none", folder=folder)]}
    for parallel in ("ddp", "fsdp2"):
        results[parallel] = two_ranks.run("training", parallel=parallel, folder=folder)
    weights = {
        (parallel, when): load_file(f"{folder}/{parallel}-{when}.safetensors")
        for parallel in get_args(Parallel)
        for when in ("first", "last")
    }
    return results, weights


@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_the_first_weights_are_those_of_one_rank_bit_for_bit(trained, parallel):
    _, weights = trained
    assert weights[parallel, "first"].keys() == weights["none", "first"].keys()
    for name, value in weights["none", "first"].items():
        assert torch.equal(weights[parallel, "first"][name], value), name


@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_two_ranks_train_as_one_does(trained, parallel):
    results, weights = trained
    (one,) = results["none"]
    for seen in results[parallel]:
        torch.testing.assert_close(seen["losses"], one["losses"], **ALGEBRA)
        torch.testing.assert_close(seen["evaluated"], one["evaluated"], **ALGEBRA)
    for name, value in weights["none", "last"].items():
        torch.testing.assert_close(weights[parallel, "last"][name], value, **ALGEBRA)


@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_every_rank_sees_the_same_numbers_bit_for_bit(trained, parallel):
    results, _ = trained
    first, second = results[parallel]
    assert first == second


@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_a_number_that_is_none_on_one_rank_is_seen_on_both(trained, two_ranks, parallel):
    results, _ = trained
    (one,) = results["none"]
    for loss, norm, is_unchanged, next_norm in two_ranks.run("poisoned", parallel=parallel):
        torch.testing.assert_close(loss, one["losses"][0][0], **ALGEBRA)
        assert norm == "nan"
        assert is_unchanged
        assert next_norm < float("inf")


def test_what_does_not_divide_equally_is_cut_all_the_same(three_ranks, tmp_path):
    # 3 ranks divide neither the vectors of 16 nor the vocabulary of 41.
    one = scenarios.training(ALONE, parallel="none", folder=str(tmp_path), n_rows=9)
    given = {"parallel": "fsdp2", "folder": str(tmp_path), "n_rows": 9}
    for seen in three_ranks.run("training", **given):
        torch.testing.assert_close(seen["losses"], one["losses"], **ALGEBRA)
    last = load_file(tmp_path / "fsdp2-last.safetensors")
    for name, value in load_file(tmp_path / "none-last.safetensors").items():
        torch.testing.assert_close(last[name], value, **ALGEBRA)


def test_both_ways_agree_in_bfloat16(two_ranks, tmp_path):
    given = {"folder": str(tmp_path), "precision": "bfloat16", "micro": 4}
    ddp, fsdp2 = (
        two_ranks.run("training", parallel=each, **given)[0]["losses"] for each in ("ddp", "fsdp2")
    )
    assert ddp[0][0] == fsdp2[0][0]
    # Norms are summed in other orders; that moves a weight by a unit in its last place.
    torch.testing.assert_close(ddp, fsdp2, rtol=1e-6, atol=0)


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("parallel", ["ddp", "fsdp2"])
def test_tritons_kernels_see_whole_weights_on_several_ranks(two_ranks, parallel):
    """What FSDP2 has cut is put together before an op sees it, on a GPU as here."""
    first, second = two_ranks.run("by_tritons_kernels", parallel=parallel)
    assert first == second
    for one, two in zip(first["triton"], first["reference"], strict=True):
        assert one == pytest.approx(two, rel=FLOAT32_LOSS)


@pytest.mark.slow
def test_a_layer_of_the_14b_model_takes_a_step_in_two_parts(nursery):
    processes = RankProcesses(nursery, 2)
    try:
        parts = processes.run("large_block", parallel="fsdp2")
    finally:
        processes.end()
    one = scenarios.large_block(ALONE, parallel="none")
    n_parameters = RWKV4Config(n_layer=1, n_embd=5120, vocab_size=4096).n_parameters

    assert [part["n_parameters"] for part in parts] == [n_parameters / 2] * 2
    for part in parts:
        torch.testing.assert_close(part["seen"], one["seen"], **FLOAT32)
        torch.testing.assert_close(part["sums"], one["sums"], **FLOAT32)
    peaks = [f"{part['peak_memory_bytes'] / 1e9:.1f} GB" for part in parts]
    sys.stdout.write(f"\n{n_parameters:,} parameters, at most {' and '.join(peaks)} on the ranks\n")


def module_with_gradients(n_rows: int) -> tuple[torch.nn.Module, list[torch.Tensor]]:
    """Return what has an embedding and something else, and the gradients of the two."""
    generator = torch.Generator().manual_seed(0)
    module = torch.nn.ModuleDict({"emb": torch.nn.Embedding(n_rows, n_rows)})
    module["norm"] = torch.nn.LayerNorm(7, bias=False)
    gradients = [torch.randn(each.shape, generator=generator) for each in module.parameters()]
    for parameter, gradient in zip(module.parameters(), gradients, strict=True):
        parameter.grad = gradient
    return module, gradients


def test_the_norm_of_a_large_gradient_is_not_rounded_away():
    module, gradients = module_with_gradients(4096)
    norms = gradient_norms(module, ALONE)
    embedding, rest = (each.double().norm().item() for each in gradients)
    assert norms.embedding == pytest.approx(embedding, rel=1e-6)
    assert norms.rest == pytest.approx(rest, rel=1e-6)
    assert norms.whole == pytest.approx(math.hypot(embedding, rest), rel=1e-6)


@pytest.mark.parametrize("number", [math.nan, math.inf])
@pytest.mark.parametrize("which", [0, 1])
def test_a_number_that_is_not_finite_is_seen_wherever_it_is(number, which):
    module, gradients = module_with_gradients(4)
    gradients[which].view(-1)[3] = number
    assert not math.isfinite(gradient_norms(module, ALONE).whole)


def test_several_ranks_must_share_the_work():
    with torch.device("meta"):
        model = RWKV4(scenarios.SMALL)
    with pytest.raises(ConfigError, match="must be 'ddp' or 'fsdp2' for 2 processes, got 'none'"):
        distribute(model, "none", Ranks(rank=0, world_size=2))


def test_one_rank_needs_nothing_around_its_model():
    trained = scenarios.Trained(ALONE, "fsdp2", precision="float32")
    assert type(trained.model) is RWKV4
    assert type(trained.objective) is Objective
    assert whole_model(trained.model, ALONE) is trained.model
    with gradient_sync(trained.objective, enabled=False):
        pass
