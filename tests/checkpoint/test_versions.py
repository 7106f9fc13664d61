"""The names of parameters tell which RWKV a file is."""

from pathlib import Path

import pytest

from receptance.checkpoint.versions import check_is_rwkv4, layer_count, layer_of
from receptance.errors import CheckpointError

PATH = Path("somewhere/model.pth")


def test_the_names_of_an_rwkv4_pass(model):
    check_is_rwkv4(PATH, model.state_dict())


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        (["blocks.0.att.r_k", "blocks.0.att.ln_x.weight"], "an RWKV-7, which is not supported yet"),
        (["blocks.0.att.time_maa_w1", "blocks.0.att.ln_x.weight"], "an RWKV-6, which is not"),
        (["blocks.0.att.gate.weight", "blocks.0.att.ln_x.weight"], "an RWKV-5, which is not"),
        (["blocks.1.att.time_faaaa"], "an RWKV-5"),
        (["blocks.1.tiny_q.weight"], "an RWKV-4a (RWKV-4 with a tiny attention in one layer)"),
        (["blocks.1.att.qq.weight"], "an RWKV-4b (RWKV-4 with a tiny attention in every layer)"),
        (["head_q.weight"], "an RWKV-4 with the copy head of 2021"),
        (["transformer.h.0.attn.weight"], "something else: RWKV-4 has no"),
        (["blocks.01.ln1.weight"], "something else: RWKV-4 has no"),
    ],
)
def test_a_relative_is_called_by_its_name(model, extra, what):
    with pytest.raises(CheckpointError) as raised:
        check_is_rwkv4(PATH, [*model.state_dict(), *extra])

    assert f"{str(PATH)!r} must be an RWKV-4, but it is {what}" in str(raised.value)
    assert str(raised.value).endswith(f": RWKV-4 has no {extra}")


def test_layers_are_counted_by_the_greatest_number():
    assert layer_count(["emb.weight", "blocks.0.ln1.weight", "blocks.7.ln1.weight"]) == 8
    assert layer_count(["emb.weight"]) == 0
    assert layer_of("blocks.7.ln1.weight") == 7
    assert layer_of("emb.weight") is None
