"""What stands in the way of the step on a GPU, and how kernels read weights."""

from functools import partial

import pytest
import torch

from receptance.ops.linear import by_columns
from receptance.ops.quantized_linear import QuantizedFormat
from receptance.ops.rwkv4_step import RWKV4Weights, triton_step_obstacle
from receptance.ops.rwkv4_step.triton.plan import Matrix, make_plan, make_workspace
from tests.step_weights import INT4, KINDS, C, V, make_weights

INT8_OF_64 = QuantizedFormat(bits=8, group_size=64)


def with_value(weights: RWKV4Weights, value: torch.Tensor) -> RWKV4Weights:
    """Return weights with another value matrix in the second layer."""
    first, second = weights.layers
    return weights._replace(layers=[first, second._replace(channel_value=value)])


def test_on_the_cpu_it_is_the_device_that_stands_in_the_way():
    assert "it runs on a GPU" in str(triton_step_obstacle(make_weights(torch.float32)))


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("kind", [*KINDS, torch.float16], ids=str)
def test_nothing_stands_in_the_way_of_one_kind_of_matrices(kind):
    weights = make_weights(kind)
    assert triton_step_obstacle(weights) is None
    assert triton_step_obstacle(weights._replace(ln0_weight=None, ln0_bias=None)) is None
    if isinstance(kind, torch.dtype):
        wide = weights._replace(embedding=weights.embedding.float())
        assert triton_step_obstacle(wide) is None


@pytest.mark.usefixtures("interpreted")
def test_obstacles_say_what_stands_in_the_way():
    weights = make_weights(torch.float32)
    value = weights.layers[1].channel_value

    def obstacle(**changed: torch.Tensor) -> str:
        return str(triton_step_obstacle(weights._replace(**changed)))  # pyright: ignore[reportArgumentType]

    assert "one is on meta" in obstacle(embedding=weights.embedding.to("meta"))
    assert "one has the strides (1, 19)" in obstacle(head=weights.head.T.contiguous().T)
    assert "one is torch.bfloat16" in obstacle(ln_out_weight=weights.ln_out_weight.bfloat16())
    assert "and a tensor is torch.float64" in obstacle(embedding=weights.embedding.double())
    mixed = with_value(weights, value.bfloat16())
    assert "be of one dtype, and one is torch.bfloat16" in str(triton_step_obstacle(mixed))
    columns = with_value(weights, by_columns(value))
    assert "must lie by rows" in str(triton_step_obstacle(columns))


def test_a_plan_refuses_weights_that_do_not_fit():
    weights = make_weights(torch.float32)
    plan = partial(make_plan, vocab_size=V, eps=1e-5, format=None)
    with pytest.raises(ValueError, match=r"`head` must have the shape \[7, 48\]"):
        plan(weights, vocab_size=7)
    with pytest.raises(ValueError, match=r"`embedding` must have the shape \[19, 48\]"):
        plan(weights._replace(embedding=torch.zeros(3, C)))
    with pytest.raises(ValueError, match=r"`channel_value` must have the shape \[48, 192\]"):
        plan(with_value(weights, torch.zeros(C, C)))
    packed = make_weights(INT4)
    with pytest.raises(ValueError, match=r"`key` must have the shape \[2, 1, 2112\]"):
        plan(packed, format=INT8_OF_64)


def test_weights_are_read_where_they_lie():
    weights = make_weights(INT4).layers[0].key
    matrix = Matrix.of(weights)
    assert (matrix.data.dtype, matrix.numbers.dtype) == (torch.int32, torch.bfloat16)
    assert {each.data_ptr() for each in matrix} == {weights.data_ptr()}


def test_what_pads_levels_to_whole_groups_is_0():
    plan = make_plan(make_weights(INT4), vocab_size=V, eps=1e-5, format=INT4)
    work = make_workspace(plan, 4)
    assert work.mixed.shape == (3, 4, 64)
    assert not work.mixed.any()
    assert work.mixed_scales.shape == (3, 4, 2)
    assert work.squared.shape == (4, 192)
