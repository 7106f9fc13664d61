"""A format has a name, and a wrong name is met with the right ones."""

import pytest

from receptance.quantization import FORMATS, format_named


def test_the_formats_take_the_bytes_that_the_targets_count():
    assert {name: each.bytes_per_weight for name, each in FORMATS.items()} == {
        "int8": 1.0625,
        "int4": 0.5625,
    }


def test_a_format_is_found_by_its_name():
    assert format_named("int4") is FORMATS["int4"]


def test_an_unknown_name_is_a_value_error_that_lists_the_names():
    with pytest.raises(ValueError, match="quantize") as raised:
        format_named("int5")
    assert str(raised.value) == "`quantize` must be one of ['int8', 'int4'] or None, got 'int5'"
