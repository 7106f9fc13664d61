"""What is wanted of a format is something that the format has."""

import pytest
import torch

from receptance.checkpoint.targets import TARGETS, Wanted


@pytest.mark.parametrize("to", TARGETS)
def test_every_precision_of_a_target_may_be_wanted(to):
    for dtype in TARGETS[to].dtypes:
        assert Wanted(to, dtype, None, None).torch_dtype == getattr(torch, dtype)
    for quantize in TARGETS[to].quantized:
        assert Wanted(to, None, quantize, None).torch_dtype is None
    assert Wanted(to, None, None, None).torch_dtype is None


def test_what_it_has_not_is_a_wrong_argument():
    with pytest.raises(ValueError, match="`quantize` must be None for 'official', got 'int8'"):
        Wanted("official", None, "int8", None)
    with pytest.raises(
        ValueError, match=r"`dtype` must be one of \['float32', 'float16'\] or None"
    ):
        Wanted("ggml", "bfloat16", None, None)
    with pytest.raises(ValueError, match="`dtype` must be None with `quantize`"):
        Wanted("native", "float32", "int8", None)
    with pytest.raises(ValueError, match="a calibration text is for rounding a model folder"):
        Wanted("huggingface", None, None, "text")
