"""The interpreter rounds and multiplies bfloat16 as PyTorch does."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

pytestmark = pytest.mark.usefixtures("interpreted")


@pytest.fixture
def language() -> Any:
    return pytest.importorskip("triton.language", reason="needs triton: pip install triton")


def handle(tensor: Tensor, kind: Any) -> Any:
    from triton.runtime.interpreter import TensorHandle

    narrow = tensor.dtype == torch.bfloat16
    return TensorHandle((tensor.view(torch.uint16) if narrow else tensor).numpy(), kind)


def test_float32_becomes_the_nearest_bfloat16_of_two_the_even_one(language):
    from triton.runtime.interpreter import interpreter_builder

    ulp = 2.0**-7
    special = [1 + ulp / 2, 1 + 3 * ulp / 2, 1 + ulp, -1 - 0.6 * ulp, 0.0, -0.0, 3.4e38, 1e-40]
    values = torch.tensor([*special, float("inf"), float("-inf"), float("nan")])
    values = torch.cat([values, torch.randn(1000) * torch.logspace(-30, 30, 1000)])
    found = interpreter_builder.cast_impl(handle(values, language.float32), language.bfloat16)
    narrow = torch.from_numpy(found.data.view(np.int16)).view(torch.bfloat16)
    assert torch.equal(narrow.nan_to_num(7.0), values.bfloat16().nan_to_num(7.0))
    assert narrow.isnan().sum() == 1
    wide = interpreter_builder.cast_impl(handle(narrow, language.bfloat16), language.float32)
    assert torch.equal(torch.from_numpy(wide.data).nan_to_num(7.0), narrow.float().nan_to_num(7.0))


def test_matrices_of_bfloat16_are_multiplied_as_numbers(language):
    from triton.runtime.interpreter import interpreter_builder

    a, b = torch.randn(16, 32).bfloat16(), torch.randn(32, 16).bfloat16()
    zeros = handle(torch.zeros(16, 16), language.float32)
    pair = handle(a, language.bfloat16), handle(b, language.bfloat16)
    found = interpreter_builder.create_dot(*pair, zeros, None, 0)
    expected = a.double() @ b.double()
    torch.testing.assert_close(torch.from_numpy(found.data).double(), expected, rtol=0, atol=1e-5)
