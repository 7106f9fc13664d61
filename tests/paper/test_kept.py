"""What was measured before a process was killed is not measured again."""

from paper.harness.kept import Kept


def test_what_was_kept_is_there_for_the_next_process(tmp_path):
    file = tmp_path / "work" / "kept.json"
    kept = Kept(file)
    assert kept.get("a") is None
    kept.put("a", [1.5, 2.5])
    kept.put("a", [9.0])
    assert Kept(file).get("a") == [1.5, 2.5]
