"""What a run will cost is known before it is begun, exactly where it can be."""

from typing import Any

import pytest
import torch

from receptance.errors import ConfigError
from receptance.models import RWKV4Config, build
from receptance.quantization import FORMATS, build_quantized
from receptance.training import RunConfig, build_optimizer
from receptance.training.optimization import OptimizerConfig
from receptance.training.planning.estimate import (
    groups_sha256,
    parameter_groups,
    parameters_by_part,
    rank_memory,
    trace_step,
    trained_parameters,
    training_flops_per_token,
)
from tests.training.tiny_run import tiny_config

SHAPE = RWKV4Config(n_layer=5, n_embd=32, vocab_size=300)
BFLOAT16 = {"training_precision": "bfloat16"}


def config_of(**changed: Any) -> RunConfig:
    return tiny_config(**{"data_ctx_len": 48, **changed})


def test_the_parts_of_a_model_are_all_of_it():
    parts = parameters_by_part(RWKV4Config.preset("14b"))

    V, C, L = 50277, 5120, 40
    assert parts == {
        "embedding": V * C,
        "norms": (4 * L + 4) * C,
        "time mix, vectors": 5 * L * C,
        "time mix, matrices": 4 * L * C * C,
        "channel mix, vectors": 2 * L * C,
        "channel mix, matrices": 9 * L * C * C,
        "head": V * C,
    }
    assert sum(parts.values()) == RWKV4Config.preset("14b").n_parameters


def test_a_training_step_has_three_forwards_and_one_more_of_layers_that_are_computed_again():
    V, C, L = SHAPE.vocab_size, SHAPE.n_embd, SHAPE.n_layer

    assert training_flops_per_token(config_of(), SHAPE) == 6 * (V * C + 13 * C * C * L)
    again = config_of(training_checkpoint_layers=True)
    assert training_flops_per_token(again, SHAPE) == 6 * V * C + 8 * 13 * C * C * L


def test_the_groups_are_those_of_the_optimizer():
    config = OptimizerConfig(
        weight_decay=0.1, time_decay_lr_multiplier=2.0, time_first_lr_multiplier=3.0
    )
    groups = parameter_groups(SHAPE, config)

    assert sum(group.n_parameters for group in groups) == SHAPE.n_parameters
    found = {
        (group.lr_multiplier, group.weight_decay): (group.n_tensors, group.patterns)
        for group in groups
    }
    assert found[2.0, 0.0] == (5, ("blocks.*.att.time_decay",))
    assert found[3.0, 0.0] == (5, ("blocks.*.att.time_first",))
    n_matrices, matrices = found[1.0, 0.1]
    assert n_matrices == 7 * 5 + 1
    assert {"blocks.*.att.key.weight", "head.weight"} <= set(matrices)
    assert "emb.weight" in found[1.0, 0.0][1]
    assert len(build_optimizer(build(SHAPE), config).param_groups) == len(groups)


def test_the_hash_of_the_groups_is_that_of_what_they_do():
    config = OptimizerConfig(weight_decay=0.1)
    other = OptimizerConfig(weight_decay=0.2)
    larger = RWKV4Config(n_layer=9, n_embd=64, vocab_size=300)

    found = groups_sha256(parameter_groups(SHAPE, config))

    assert found == groups_sha256(parameter_groups(larger, config))
    assert found == groups_sha256(parameter_groups(SHAPE, config)[::-1])
    assert found != groups_sha256(parameter_groups(SHAPE, other))


@pytest.mark.parametrize(
    "settings", [BFLOAT16, {"data_reset_at_documents": True, "training_dropout": 0.1}]
)
def test_what_is_kept_grows_by_the_same_with_each_layer_and_sequence(settings):
    config = config_of(data_batch_size=3, **settings)

    memory = rank_memory(config, SHAPE)

    # Found from one and two layers and sequences; here five layers and three sequences at once.
    kept = memory.get("copies of weights", 0) + memory["activations"]
    assert kept == trace_step(config, SHAPE, 3).kept_bytes


def test_weights_moments_and_gradients_are_float32():
    memory = rank_memory(config_of(), SHAPE)

    n_bytes = 4 * SHAPE.n_parameters
    found = (memory["weights"], memory["moments"], memory["gradients"])
    assert found == (n_bytes, 2 * n_bytes, n_bytes)
    assert "layers put together" not in memory
    assert "copy that is saved" not in memory
    copied = rank_memory(config_of(every_save_asynchronously=True), SHAPE)
    assert copied["copy that is saved"] == 3 * n_bytes


def test_dropout_keeps_what_it_threw_away():
    without, with_dropout = (config_of(training_dropout=share) for share in (0.0, 0.1))

    kept = [rank_memory(each, SHAPE)["activations"] for each in (without, with_dropout)]
    assert kept[1] - kept[0] >= (1 + 2 * 5) * 4 * 48 * 32


def test_a_micro_batch_and_more_ranks_need_less_for_activations():
    whole = rank_memory(config_of(data_batch_size=8), SHAPE)["activations"]
    micro = config_of(data_batch_size=8, data_micro_batch_size=2)
    later = config_of(data_batch_size=8, data_later_batch_size=16, data_later_batch_step=3)

    assert rank_memory(micro, SHAPE)["activations"] * 4 == whole
    assert rank_memory(config_of(data_batch_size=8), SHAPE, 4)["activations"] * 4 == whole
    assert rank_memory(later, SHAPE)["activations"] == 2 * whole
    with pytest.raises(ConfigError, match="must be multiples of 3, the number of ranks, got 8"):
        rank_memory(config_of(data_batch_size=8), SHAPE, 3)


def test_layers_that_are_computed_again_keep_their_inputs_and_the_inside_of_one():
    whole = rank_memory(config_of(**BFLOAT16), SHAPE)
    again = rank_memory(config_of(**BFLOAT16, training_checkpoint_layers=True), SHAPE)

    one_layer = (whole["activations"] - again["activations"] + 5 * 4 * 4 * 48 * 32) / 4
    assert one_layer > 20 * 4 * 48 * 32
    copies = [each["copies of weights"] for each in (whole, again)]
    # Four layers fewer, their matrices in bfloat16, and what is made of their vectors.
    assert 4 * 2 * 13 * 32 * 32 <= copies[0] - copies[1] <= 4 * (2 * 13 * 32 * 32 + 16 * 32)


def test_what_comes_and_goes_is_a_layer_s_or_the_loss_s():
    wide = RWKV4Config(n_layer=2, n_embd=32, vocab_size=5000)
    config = config_of(data_batch_size=8)

    # 4 · 384 logits for each of 5000 ids, and twice the head.
    assert rank_memory(config, wide)["logits of a chunk"] == 4 * 5000 * (8 * 48 + 2 * 32)
    narrow = rank_memory(config, RWKV4Config(n_layer=2, n_embd=32, vocab_size=20))
    assert narrow["inside a layer"] > 4 * 8 * 48 * 2 * 32
    assert "logits of a chunk" not in narrow


@pytest.mark.parametrize("has_gpu", [False, True])
def test_a_chunk_is_that_of_the_device_which_auto_means(monkeypatch, has_gpu):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    wide = RWKV4Config(n_layer=2, n_embd=32, vocab_size=50000)
    auto, named = (
        rank_memory(config_of(data_batch_size=8, training_device=device), wide)
        for device in ("auto", "cuda" if has_gpu else "cpu")
    )
    assert auto == named
    # 32 MiB have 167 rows of logits, and 512 MiB all of the batch.
    n_tokens = 8 * 48 if has_gpu else 167
    assert auto["logits of a chunk"] == 4 * 50000 * (n_tokens + 2 * 32)


def test_sharded_ranks_have_a_part_of_every_parameter_and_put_layers_together():
    sharded = config_of(training_parallel="fsdp2", data_batch_size=8)

    alone, two = rank_memory(sharded, SHAPE, 1), rank_memory(sharded, SHAPE, 2)

    assert alone == rank_memory(config_of(data_batch_size=8), SHAPE)
    for part in ("weights", "moments", "gradients"):
        assert 2 * two[part] == alone[part]
    V, C, L = SHAPE.vocab_size, SHAPE.n_embd, SHAPE.n_layer
    root = 2 * V * C + 2 * C
    layer = -(-(SHAPE.n_parameters - root) // L)
    assert two["layers put together"] == 4 * (2 * root + 3 * layer)


@pytest.mark.parametrize(("n_embd", "n_own"), [(32, 8), (30, 30)])
def test_a_vector_with_axes_of_one_is_cut_only_into_equal_parts(n_embd, n_own):
    shape = RWKV4Config(n_layer=1, n_embd=n_embd, vocab_size=4)
    config = config_of(training_parallel="fsdp2")

    C, part = n_embd, -(-n_embd // 4)
    found = rank_memory(config, shape, 4)["weights"] // 4
    # Two mixes more in the time mix than in the channel mix; matrices are cut along their rows.
    assert found == 5 * n_own + 2 * C + 10 * part + 8 * part * C + C * C * 4 // 4 + part * C


def test_the_largest_model_is_estimated_without_its_memory():
    shape = RWKV4Config.preset("14b")
    config = config_of(
        data_batch_size=128,
        data_ctx_len=1024,
        training_parallel="fsdp2",
        training_checkpoint_layers=True,
        **BFLOAT16,
    )

    memory = rank_memory(config, shape, 64)

    assert sum(memory.values()) < 24e9
    assert memory["weights"] == pytest.approx(4 * shape.n_parameters / 64, rel=1e-3)


def test_of_a_frozen_model_only_what_is_trained_has_moments_and_gradients():
    config = config_of(finetune_method="state", training_init_from="there")
    n_trained = 4 * SHAPE.n_layer * SHAPE.n_embd

    assert trained_parameters(SHAPE, config.finetune) == n_trained
    assert trained_parameters(SHAPE, config_of().finetune) == SHAPE.n_parameters
    memory, whole = rank_memory(config, SHAPE), rank_memory(config_of(), SHAPE)
    assert memory["weights"] == 4 * (SHAPE.n_parameters + n_trained)
    assert memory["moments"] == 2 * memory["gradients"] == 8 * n_trained
    assert memory["activations"] < whole["activations"]
    (group,) = parameter_groups(SHAPE, config.optimizer, config.finetune)
    assert group.n_parameters == n_trained
    forward = SHAPE.flops_per_token
    assert training_flops_per_token(config, SHAPE) == 2 * forward


def test_rounded_weights_are_there_once_as_the_bytes_that_they_are():
    config = config_of(finetune_method="lora", finetune_rank=2, training_init_from="there")
    int4 = FORMATS["int4"]

    memory = rank_memory(config, SHAPE, frozen=int4)

    plain, trained = rank_memory(config, SHAPE), trained_parameters(SHAPE, config.finetune)
    weights = build_quantized(SHAPE, int4).state_dict().values()
    assert memory["weights"] == sum(each.nbytes for each in weights) + 4 * trained
    assert memory["moments"] == plain["moments"]
    # Neither copies of them nor what enters them are kept, for a gradient that is not wanted.
    assert memory["activations"] + memory.get("copies of weights", 0) <= plain["activations"]
    assert trace_step(config, SHAPE, 1, int4).peak_bytes < 32 << 20
