"""How large an expression is."""

import pytest

from receptance.errors import RequestError
from receptance.serving.grammar.pattern import check_pattern


@pytest.mark.parametrize(
    ("pattern", "n_parts"),
    [
        ("", 0),
        ("abc", 3),
        ("a|b", 2),
        (r"\d+\.\d*", 3),
        (r"\p{Lu}\x{1F600}\u{41}", 3),
        (r"[a-z\]]x[[a][b]]", 3),
        ("a{3}", 3),
        ("a{2,5}b", 6),
        ("a{3,}", 3),
        ("(ab){10}", 20),
        ("((ab){3}c){4}", 28),
        (r"\{3}", 3),
        ("a{,4}", 4),
        ("a{0}", 1),
        ("(a", 1),
        ("a)", 1),
        ("[a", 1),
        ("\\", 1),
        ("a{x}", 4),
    ],
)
def test_repetitions_are_written_out(pattern: str, n_parts: int):
    assert check_pattern(pattern, "p") == n_parts


@pytest.mark.parametrize(
    "pattern",
    ["a" * 5000, "a{10001}", "((a{100}){100}){100}", "a{" + "9" * 4000 + "}", "(a{0,200}){0,200}",
     "a" + "{9}" * 1000],
)  # fmt: skip
def test_what_is_too_large_is_refused_by_its_place(pattern: str):
    with pytest.raises(RequestError, match="must have at most") as error:
        check_pattern(pattern, "a.b")
    assert (error.value.status, error.value.param) == (400, "a.b")
