"""A report holds every format at every batch size, and its figures agree with each other."""

import pytest

from receptance.benchmark import (
    Report,
    Settings,
    Timed,
    bytes_per_token,
    chart,
    measure,
    random_model,
)
from receptance.models import RWKV4Config

CONFIG = RWKV4Config(n_layer=1, n_embd=32, vocab_size=40)
SETTINGS = Settings(batch_sizes=(1, 3), prompt_tokens=6, tokens=2, rounds=2)
FORMATS = ("float32", "bfloat16", "int8", "int4")


@pytest.fixture(scope="module")
def report() -> Report:
    makers = {name: (lambda name=name: random_model(CONFIG, name)) for name in FORMATS}
    return measure(makers, SETTINGS)


def test_every_format_is_measured_at_every_batch_size(report):
    assert list(report.formats) == list(FORMATS)
    for figures in report.formats.values():
        assert [each.batch_size for each in figures.decode] == [1, 3]
        assert figures.prefill.prompt_tokens == 6
    assert report.parameters == CONFIG.n_parameters
    assert report.settings == SETTINGS
    assert report.peak_memory_bytes is None or report.peak_memory_bytes > 0


def test_the_figures_of_a_format_agree_with_each_other(report):
    for name, figures in report.formats.items():
        assert figures.bytes_per_token == bytes_per_token(CONFIG, name)
        assert figures.decode[0].times_smallest_batch == 1.0
        for each in figures.decode:
            assert each.tokens_per_s > 0
            assert each.share_of_read > 0
        assert figures.prefill.share_of_matrix > 0


def test_only_formats_that_skip_zeros_are_measured_without_that_too(report):
    reading_all = {name: each.decode_reading_all for name, each in report.formats.items()}

    assert {name for name, each in reading_all.items() if each is not None} <= {
        "float32",
        "bfloat16",
    }
    for each in reading_all.values():
        assert each is None or each.batch_size == SETTINGS.batch_sizes[0]


def test_what_a_model_holds_is_counted_with_and_without_its_embedding(report):
    plain = report.formats["float32"]

    assert plain.weight_bytes == 4 * CONFIG.n_parameters
    assert plain.held_bytes_per_token == plain.bytes_per_token
    for figures in report.formats.values():
        assert figures.held_bytes_per_token < figures.weight_bytes


def test_only_the_matrix_ceilings_that_are_needed_are_measured():
    report = measure(
        {"int4": lambda: random_model(CONFIG, "int4")},
        Settings(batch_sizes=(2,), prompt_tokens=3, tokens=1, rounds=1),
    )

    assert list(report.ceilings.matrix_flops_per_s) == ["bfloat16"]
    assert report.formats["int4"].decode[0].times_smallest_batch == 1.0


def test_what_is_measured_beside_takes_its_turn_in_each_round():
    other = Timed(lambda: None)

    measure({"int8": lambda: random_model(CONFIG, "int8")}, SETTINGS, beside=[other])

    assert len(other.seconds) == SETTINGS.rounds


def test_the_chart_has_a_line_for_each_format(report):
    drawn = chart(report)

    assert [curve.label.split(",")[0] for curve in drawn.curves] == list(FORMATS)
    for curve, figures in zip(drawn.curves, report.formats.values(), strict=True):
        assert curve.x == [1.0, 3.0]
        assert curve.y == [each.tokens_per_s for each in figures.decode]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rounds": 0}, "at least 1"),
        ({"batch_sizes": ()}, "at least 1"),
        ({"batch_sizes": (1, 0)}, "at least 1"),
        ({"batch_sizes": (2, 1)}, "`batch_sizes` must ascend"),
    ],
)
def test_settings_that_measure_nothing_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        Settings(**options)
