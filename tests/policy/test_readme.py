"""What the README says of files is so."""

import re
from pathlib import Path

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text(encoding="utf-8")


def test_the_map_of_the_code_counts_lines_rightly():
    rows = re.findall(r"^\| `([^`]+)` \| (\d+) \|", README, flags=re.MULTILINE)
    assert len(rows) == 5
    lines = {name: len((PROJECT / name).read_text().splitlines()) for name, _ in rows}
    assert {name: int(count) for name, count in rows} == lines


def test_every_link_and_every_file_of_a_command_is_there():
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", README)
    files = re.findall(r"(?:pytest|python) ([\w/]+\.py)", README)
    assert links
    assert files
    assert [name for name in (*links, *files) if not (PROJECT / name).exists()] == []
