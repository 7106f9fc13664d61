import hmac
from pathlib import Path

import pytest

from receptance.errors import ConfigError
from receptance.serving.access import KeyRing, key_ring

ANNA = "anna-0123456789abcdef"
BOB = "bob-0123456789abcdef"


def test_a_key_opens_for_its_owner():
    keys = KeyRing(["# those who may call", "", f"  anna:{ANNA} ", f"bob:{BOB}"])

    assert keys.owner(f"Bearer {ANNA}") == "anna"
    assert keys.owner(f"bearer  {BOB} ") == "bob"
    assert len(keys) == 2


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        ANNA,
        "Bearer",
        "Bearer ",
        f"Basic {ANNA}",
        f"Bearer {ANNA[:-1]}",
        f"Bearer {ANNA}x",
        f"Bearer {ANNA.upper()}",
        f"Bearer {ANNA} {ANNA}",
        f"Bearer anna:{ANNA}",
        f"Bearer {ANNA}\n",
        "Bearer \u00e9\u20ac",
    ],
)
def test_nothing_else_opens(header):
    assert KeyRing([f"anna:{ANNA}"]).owner(header) is None


def test_a_key_without_a_name_has_an_owner_that_outlives_the_process():
    first, second = KeyRing([ANNA]), KeyRing([BOB, ANNA])

    owner = first.owner(f"Bearer {ANNA}")
    assert owner == second.owner(f"Bearer {ANNA}") != second.owner(f"Bearer {BOB}")
    assert owner is not None
    assert owner.startswith("key-")
    assert ANNA not in owner


def test_two_keys_of_one_name_are_one_owner():
    keys = KeyRing([f"anna:{ANNA}", f"anna:{BOB}"])

    assert keys.owner(f"Bearer {ANNA}") == keys.owner(f"Bearer {BOB}") == "anna"


def test_all_keys_are_compared_in_constant_time_whichever_fits(monkeypatch):
    calls = []

    compare_digest = hmac.compare_digest

    def compare(known: bytes, digest: bytes) -> bool:
        calls.append((len(known), len(digest)))
        return compare_digest(known, digest)

    keys = KeyRing([ANNA, BOB])
    monkeypatch.setattr(key_ring.hmac, "compare_digest", compare)
    for header in (f"Bearer {ANNA}", f"Bearer {BOB}", "Bearer nobody", None):
        calls.clear()
        keys.owner(header)
        assert calls == [(32, 32)] * 2


def test_a_ring_does_not_show_its_keys():
    keys = KeyRing([f"anna:{ANNA}"])

    assert repr(keys) == "KeyRing(1 keys)"
    assert ANNA not in str(vars(keys))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("short", "at least 16 characters, but it has 5"),
        ("anna:short", "at least 16 characters, but it has 5"),
        (f"anna {ANNA}", "printable ASCII without spaces"),
        (f"anna:{ANNA}\u00e9", "printable ASCII without spaces"),
        ("anna:", "printable ASCII without spaces"),
    ],
)
def test_a_line_that_is_no_key_is_named_without_being_shown(line, message):
    with pytest.raises(ConfigError, match=message) as error:
        KeyRing(["# keys", line], source="'keys.txt'")
    assert str(error.value).startswith("'keys.txt', line 2: ")
    assert line not in str(error.value)


def test_a_key_that_is_there_twice_has_no_two_owners():
    with pytest.raises(ConfigError, match="line 2: a key must be there once"):
        KeyRing([f"anna:{ANNA}", f"bob:{ANNA}"])


def test_keys_are_found_in_a_file_before_the_environment(tmp_path: Path):
    file = tmp_path / "keys"
    file.write_text(f"anna:{ANNA}\n")
    environment = {"RECEPTANCE_API_KEYS": f"bob:{BOB},{ANNA}"}

    of_file = KeyRing.find(file, environment)
    of_environment = KeyRing.find(None, environment)
    assert of_file is not None
    assert of_environment is not None
    assert (len(of_file), of_file.owner(f"Bearer {ANNA}")) == (1, "anna")
    assert (len(of_environment), of_environment.owner(f"Bearer {BOB}")) == (2, "bob")
    assert KeyRing.find(None, {}) is None


@pytest.mark.parametrize(("mode", "warns"), [(0o644, True), (0o602, True), (0o640, False)])
def test_a_file_that_all_can_read_is_taken_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, warns: bool
):
    file = tmp_path / "keys"
    file.write_text(ANNA)
    file.chmod(mode)
    assert KeyRing.find(file, {}) is not None
    assert [each.levelname for each in caplog.records] == ["WARNING"] * warns
    assert ("chmod o-rw" in caplog.text) == warns
    assert ANNA not in caplog.text


def test_a_file_or_variable_without_a_key_does_not_open_for_all(tmp_path: Path):
    file = tmp_path / "keys"
    file.write_text("# none yet\n")

    with pytest.raises(ConfigError, match="must hold at least one key"):
        KeyRing.find(file, {})
    with pytest.raises(ConfigError, match="RECEPTANCE_API_KEYS must hold at least one key"):
        KeyRing.find(None, {"RECEPTANCE_API_KEYS": ""})
    with pytest.raises(OSError, match="absent"):
        KeyRing.find(tmp_path / "absent", {})
