"""A file is named after its subject."""

import re

import pytest

from tests.policy.source_tree import name_of, project_files

# A file without a subject attracts everything.
WITHOUT_SUBJECT = re.compile(r"(^|_)(utils?|helpers?|common|misc|core|base|managers?)($|_)")
# Git knows the history.
WITH_HISTORY = re.compile(r"_(v\d+|new|old|fast|slow|final|tmp|copy)$|^(old|new)_|[a-z]\d+$")
# Words that end in a number.
NUMBERED = re.compile(r"(rwkv|wkv|utf|int|uint|float|bfloat|bf|avx|sha|enwik|f)\d+$")
CODE = {".py", ".cpp", ".h", ".hpp"}


def objection(stem: str) -> str | None:
    """Say in a clause what is wrong with the name of a code file, or None."""
    if WITHOUT_SUBJECT.search(stem):
        return "names no subject"
    if WITH_HISTORY.search(stem) and not NUMBERED.search(stem):
        return "names its history"
    return None


@pytest.mark.parametrize(
    "stem", ["utils", "text_utils", "helper", "test_helpers", "base", "base_model", "core", "misc"]
)
def test_a_name_without_a_subject_is_seen(stem):
    assert objection(stem) == "names no subject"


@pytest.mark.parametrize("stem", ["wkv_v2", "loop_new", "old_loop", "kernel3", "matvec_fast"])
def test_a_name_with_a_history_is_seen(stem):
    assert objection(stem) == "names its history"


@pytest.mark.parametrize("stem", ["rwkv4", "test_wkv4", "database", "score", "utf8", "matvec_int8"])
def test_a_name_with_a_subject_is_fine(stem):
    assert objection(stem) is None


def test_every_file_of_code_is_named_after_its_subject():
    found = {name_of(each): objection(each.stem) for each in project_files() if each.suffix in CODE}
    assert {name: wrong for name, wrong in found.items() if wrong} == {}
