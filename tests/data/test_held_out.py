import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receptance.data.documents import Piece
from receptance.data.held_out import HeldOut, digest, hold_out
from receptance.errors import DataError


def choose(texts: list[str], fraction: float, seed: int = 0) -> HeldOut:
    digests = [digest(text, seed) for text in texts]
    return hold_out(
        fraction=fraction,
        seed=seed,
        n_documents=len(texts),
        n_bytes=sum(len(text.encode()) for text in texts),
        smallest_digest=min(digests),
        largest_digest=max(digests),
    )


def divide(texts: list[str], rule: HeldOut) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {"train": [], "valid": []}
    for split, piece in rule.assign(Piece(text, begins=True, ends=True) for text in texts):
        assert piece.begins
        assert piece.ends
        splits[split].append(piece.text)
    return splits


TEXTS = [f"document {number}" for number in range(1000)]


def test_about_the_fraction_is_held_out_and_every_document_is_kept() -> None:
    splits = divide(TEXTS, choose(TEXTS, 0.1))
    # Four standard deviations of a binomial count: sqrt(1000 · 0.1 · 0.9) = 9.5.
    assert abs(len(splits["valid"]) - 100) < 38
    assert sorted(splits["train"] + splits["valid"]) == sorted(TEXTS)


def test_the_choice_does_not_depend_on_the_order() -> None:
    forward = divide(TEXTS, choose(TEXTS, 0.1))
    backward = divide(TEXTS[::-1], choose(TEXTS[::-1], 0.1))
    assert sorted(forward["valid"]) == sorted(backward["valid"])


def test_another_seed_holds_out_others() -> None:
    first = divide(TEXTS, choose(TEXTS, 0.1, seed=1))["valid"]
    second = divide(TEXTS, choose(TEXTS, 0.1, seed=2))["valid"]
    assert set(first) != set(second)


def test_copies_of_a_text_are_on_the_same_side() -> None:
    splits = divide(TEXTS * 2, choose(TEXTS * 2, 0.2))
    assert not set(splits["train"]) & set(splits["valid"])


@settings(deadline=None, max_examples=50)
@given(
    texts=st.lists(st.text(min_size=1), min_size=2, max_size=6, unique=True),
    fraction=st.floats(0.001, 0.999),
)
def test_of_two_documents_or_more_both_splits_get_one(texts: list[str], fraction: float) -> None:
    splits = divide(texts, choose(texts, fraction))
    assert splits["train"]
    assert splits["valid"]


@settings(deadline=None, max_examples=50)
@given(text=st.text(min_size=8), fraction=st.floats(0.001, 0.999))
def test_of_one_document_the_end_is_held_out(text: str, fraction: float) -> None:
    splits = divide([text], choose([text], fraction))
    assert len(splits["train"]) == len(splits["valid"]) == 1
    assert splits["train"][0] + splits["valid"][0] == text
    assert splits["train"][0]
    assert splits["valid"][0]


def test_the_end_of_one_document_begins_a_line() -> None:
    text = "".join(f"line {number}\n" for number in range(1000))
    (tail,) = divide([text], choose([text], 0.1))["valid"]
    assert tail.startswith("line ")
    assert 0.04 * len(text) < len(tail) <= 0.11 * len(text)


@pytest.mark.parametrize("n_pieces", [1, 2, 5, 50])
def test_the_end_of_a_document_in_pieces_is_held_out(n_pieces: int) -> None:
    text = "".join(f"line {number}\n" for number in range(100))
    size = -(-len(text) // n_pieces)
    parts = [text[begin : begin + size] for begin in range(0, len(text), size)]
    pieces = [
        Piece(part, begins=index == 0, ends=index == len(parts) - 1)
        for index, part in enumerate(parts)
    ]
    assigned = list(choose([text], 0.1).assign(pieces))
    train = [piece for split, piece in assigned if split == "train"]
    valid = [piece for split, piece in assigned if split == "valid"]
    assert "".join(piece.text for piece in train + valid) == text
    for side in (train, valid):
        assert [piece.begins for piece in side] == [True] + [False] * (len(side) - 1)
        assert [piece.ends for piece in side] == [False] * (len(side) - 1) + [True]
    assert 0.04 * len(text) < sum(len(piece.text) for piece in valid) <= 0.11 * len(text)


def test_a_fraction_of_zero_holds_out_nothing() -> None:
    assert divide(["one text alone"], choose(["one text alone"], 0.0))["valid"] == []
    assert divide(TEXTS, choose(TEXTS, 0.0))["valid"] == []


def test_equal_documents_cannot_be_held_out() -> None:
    with pytest.raises(DataError, match=r"the 3 documents are all the same text.*--valid"):
        choose(["same"] * 3, 0.5)


def test_a_document_too_short_to_cut_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"the one document has 2 bytes, too few.*--valid-fraction 0"
    ):
        choose(["hi"], 0.5)
