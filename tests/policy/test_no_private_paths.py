"""Nothing in the project names a folder of the machine that it was written on."""

import re

import pytest

from tests.policy.source_tree import name_of, text_files

PRIVATE = re.compile(r"(?<![\w.~$\}>-])/(work|tmp|root|home|Users|mnt)(?=[/\s\"'`),;:]|$)")


@pytest.mark.parametrize("end", ["", "/main/x.py", " and"])
@pytest.mark.parametrize("folder", ["work", "tmp", "root", "home"])
def test_a_private_path_is_seen(folder, end):
    assert PRIVATE.search(f"see /{folder}{end}")
    assert PRIVATE.search(f"open('/{folder}{end}')")


@pytest.mark.parametrize("text", ["src/work/x", "https://x.org/tmp", "a/root", "/rooted", "../tmp"])
def test_what_only_looks_like_one_is_not(text):
    assert PRIVATE.search(text) is None


def test_no_file_names_a_private_path():
    found = [
        f"{name_of(path)}:{number}: {line.strip()[:80]}"
        for path in text_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if PRIVATE.search(line)
    ]
    assert found == []
