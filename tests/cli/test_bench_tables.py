"""The tables fit on a screen and show the figures of the report."""

import pytest

from receptance.benchmark import Report, Settings, ceilings, measure, random_model
from receptance.cli.bench_tables import show
from receptance.models import RWKV4Config

CONFIG = RWKV4Config(n_layer=1, n_embd=32, vocab_size=40)


@pytest.fixture
def report(monkeypatch) -> Report:
    monkeypatch.setattr(ceilings, "READ_BYTES", 1 << 20)
    formats = ("bfloat16", "int4")
    makers = {name: (lambda name=name: random_model(CONFIG, name)) for name in formats}
    return measure(makers, Settings(batch_sizes=(1, 2), prompt_tokens=5, tokens=1, rounds=1))


def test_every_figure_is_in_its_row(report, capsys):
    show(report)
    lines = capsys.readouterr().out.splitlines()

    assert max(map(len, lines)) <= 100
    assert f"{report.ceilings.read_bytes_per_s / 1e9:.1f} GB/s read" in "\n".join(lines)
    for name, figures in report.formats.items():
        rows = ([*line.split("│")[1:-1]] for line in lines if f" {name} " in line)
        one, two, *reading_all, prompt = rows
        assert len(reading_all) == (figures.decode_reading_all is not None)
        for row in reading_all:
            assert row[1].strip() == f"{figures.decode[0].batch_size}, all read"
        for row, each in ((one, figures.decode[0]), (two, figures.decode[1])):
            assert row[1].strip() == str(each.batch_size)
            assert row[2].strip() == f"{each.tokens_per_s:,.1f}"
            assert row[4].strip() == f"{each.share_of_read:.1%}"
        assert prompt[1].strip() == f"{figures.prefill.tokens_per_s:,.1f}"
        assert prompt[4].strip() == f"{figures.prefill.share_of_matrix:.1%}"
