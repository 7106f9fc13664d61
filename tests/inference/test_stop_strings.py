"""However a text is cut, it ends before the first stop string that is complete."""

from hypothesis import given
from hypothesis import strategies as st

from receptance.inference.stop_strings import StopScanner

TEXT = st.text(alphabet="ab\n", max_size=40)
STOPS = st.lists(st.text(alphabet="ab\n", min_size=1, max_size=6), max_size=4)


def cut(text: str, borders: list[int]) -> list[str]:
    """Return `text` in pieces, some of them empty."""
    ends = sorted(min(border, len(text)) for border in borders)
    return [text[i:j] for i, j in zip([0, *ends], [*ends, len(text)], strict=True)]


def text_before_stop(text: str, stops: list[str]) -> str:
    """Return the text up to the stop string that is complete first, looking at every end."""
    for end in range(len(text) + 1):
        lengths = [len(stop) for stop in stops if text[:end].endswith(stop)]
        if lengths:
            return text[: end - max(lengths)]
    return text


@given(text=TEXT, stops=STOPS, borders=st.lists(st.integers(0, 40), max_size=10))
def test_pieces_joined_are_the_text_before_the_first_stop_string(text, stops, borders):
    scanner = StopScanner(stops)

    pieces = [scanner.push(piece) for piece in cut(text, borders)]
    passed = "".join(pieces) + scanner.flush()

    assert passed == text_before_stop(text, stops)
    assert not any(stop in passed for stop in stops)
    assert (scanner.found is not None) == any(stop in text for stop in stops)


@given(text=TEXT, stops=STOPS)
def test_no_more_is_held_back_than_could_become_a_stop_string(text, stops):
    scanner = StopScanner(stops)

    for character in text:
        scanner.push(character)
        assert not scanner.held or any(
            stop.startswith(scanner.held) and stop != scanner.held for stop in stops
        )


def test_text_without_stop_strings_passes_at_once():
    scanner = StopScanner([])

    assert scanner.push("a\n\n") == "a\n\n"
    assert scanner.flush() == ""


def test_what_begins_a_stop_string_is_held_back_until_it_is_none():
    scanner = StopScanner(["\n\nUser"])

    assert scanner.push("Yes.\n") == "Yes."
    assert scanner.push("\nUs") == ""
    assert scanner.held == "\n\nUs"
    assert scanner.push("ual") == "\n\nUsual"
    assert scanner.found is None


def test_nothing_passes_after_the_end():
    scanner = StopScanner(["bc", "abcd"])

    assert scanner.push("xab") == "x"
    assert scanner.push("cd") == "a"
    assert scanner.found == "bc"
    assert scanner.push("more") == ""
    assert scanner.flush() == ""


def test_of_stop_strings_that_end_together_the_longest_counts():
    scanner = StopScanner(["c", "abc"])

    assert scanner.push("xabc") == "x"
    assert scanner.found == "abc"
