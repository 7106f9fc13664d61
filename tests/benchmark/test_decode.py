"""A round of decoding is so many steps of the whole batch, and its shares follow from them."""

from collections.abc import Sequence

import pytest
import torch

from receptance.benchmark import (
    BYTES_PER_PARAMETER,
    Decode,
    ReadCeiling,
    bytes_per_token,
    random_model,
)
from receptance.models import LowRankChanges, RWKV4Config, State
from receptance.quantization import FORMATS

CONFIG = RWKV4Config(n_layer=2, n_embd=64, vocab_size=100)


class Counting:
    """A packed model that only notes what it is fed."""

    def __init__(self) -> None:
        self.fed: list[list[int]] = []

    def step(
        self,
        tokens: torch.Tensor,
        pool: State,
        slots: torch.Tensor,
        changes: Sequence[LowRankChanges | None] = (),
    ) -> torch.Tensor:
        assert not changes
        assert pool.batch_size == len(slots) == len(tokens)
        assert slots.tolist() == list(range(len(slots)))
        self.fed.append(tokens.tolist())
        return torch.zeros(len(tokens), 100)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_round_feeds_each_sequence_its_tokens(batch_size):
    packed = Counting()
    decode = Decode(random_model(CONFIG, "float32"), packed, batch_size, 5)
    packed.fed.clear()  # the warm-up

    decode.timed.run()

    assert [len(row) for row in packed.fed] == [batch_size] * 5


def test_the_figures_follow_from_the_seconds():
    model = random_model(CONFIG, "float32")
    one, four = (Decode(model, model.pack(), batch_size, 10) for batch_size in (1, 4))
    one.timed.seconds, one.timed.began = [2.0, 1.0, 2.0], [0.0, 10.0, 20.0]
    four.timed.seconds, four.timed.began = [4.0], [19.0]
    read = ReadCeiling()
    read.timed.seconds, read.timed.began = [read.n_bytes / 500, read.n_bytes / 1000], [0.0, 18.0]

    figures = four.figures(bytes_per_step=100.0, read=read, smallest=one)

    assert figures.batch_size == 4
    assert figures.tokens_per_s == pytest.approx(10.0)
    assert figures.spread == 0.0
    assert figures.share_of_read == pytest.approx(2.5 * 100 / 1000)
    assert figures.times_smallest_batch == pytest.approx(2.0)
    assert one.figures(100.0, read, one).spread == pytest.approx(0.5)


@pytest.mark.parametrize("format", ["float32", "bfloat16", *FORMATS])
def test_a_token_reads_all_but_the_embedding(format):
    held = random_model(CONFIG, format).state_dict()
    read = sum(each.nbytes for name, each in held.items() if not name.startswith("emb."))

    found = bytes_per_token(CONFIG, format)

    plain = CONFIG.n_parameters - 100 * 64
    assert found == plain * BYTES_PER_PARAMETER[format]
    # Vectors are float32 in every format, and rows of the head are filled up to a panel.
    assert read == pytest.approx(found, rel=0.15)
    assert read == found or format != "float32"


def test_the_bytes_at_the_430m_shape_are_those_of_the_paper_s_formula():
    config = RWKV4Config.preset("430m")

    assert bytes_per_token(config, "int4") == (430_397_440 - 50277 * 1024) * 0.5625
