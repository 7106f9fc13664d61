from receptance.cli.masked_text import Run, bracketed, runs
from receptance.tokenizer import BytesTokenizer


def test_what_is_not_predicted_stands_in_brackets():
    found = runs(BytesTokenizer(), list(b"2+2=4?"), [0, 0, 0, 0, 1, 0])

    assert found == [Run("2+2=", False), Run("4", True), Run("?", False)]
    assert bracketed(found) == "⟦2+2=⟧4⟦?⟧"
    assert bracketed(runs(BytesTokenizer(), list(b"all"), [1, 1, 1])) == "all"
    assert runs(BytesTokenizer(), [], []) == []
