"""A model of the hub is downloaded once, as little of it as is needed, and found again offline."""

import errno
import logging
import socket

import huggingface_hub
import pytest
from huggingface_hub import constants

from receptance.checkpoint.hub.download import fetch
from receptance.checkpoint.hub.names import HubName
from receptance.errors import CheckpointError
from tests.local_hub import MAIN, OLDER, lay_out_cache

FOLDER = {
    "README.md": b"#",
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"the same",
    "tokenizer.json": b"[]",
}
PTH = {"RWKV-4-98%.pth": b"weights", "README.md": b"#"}
TOKENIZERS = ("tokenizer.json", "rwkv_vocab_v20230424.txt")


def get(repository: str, revision: str = "main", file: str | None = None):
    return fetch(HubName(repository, revision, file), TOKENIZERS)


def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the hub be where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", url)


def test_a_folder_is_downloaded_without_what_is_not_needed(hub):
    hub.add("o/n", FOLDER)

    fetched = get("o/n")

    assert sorted(each.name for each in fetched.path.iterdir()) == [
        *("config.json", "model.safetensors", "tokenizer.json")
    ]
    assert hub.fetched() == ["config.json", "model.safetensors", "tokenizer.json"]
    assert (fetched.path / "model.safetensors").read_bytes() == b"weights"
    assert fetched.origin == f"o/n@{MAIN}"


def test_a_file_is_downloaded_alone(hub):
    hub.add("o/n", PTH | {"other[1].pth": b"other"})

    assert get("o/n", file="other[1].pth").path.read_bytes() == b"other"
    assert hub.fetched() == ["other[1].pth"]


def test_what_was_downloaded_is_not_downloaded_again(hub):
    hub.add("o/n", PTH)
    path = get("o/n").path
    hub.requests.clear()

    assert get("o/n").path == path
    assert [request for request, _ in hub.requests] == ["GET"]
    assert hub.fetched() == []


def test_a_branch_a_tag_and_a_commit_are_revisions(hub):
    repository = hub.add("o/n", PTH)
    repository.commits[OLDER] = {"RWKV-4-98%.pth": b"older"}
    repository.refs |= {"v1": OLDER, "try": OLDER}

    assert get("o/n").path.read_bytes() == b"weights"
    for revision in ("v1", "try", OLDER):
        assert get("o/n", revision).path.read_bytes() == b"older"
        assert get("o/n", revision).origin == f"o/n@{OLDER}"


def test_a_branch_that_moved_is_followed(hub):
    repository = hub.add("o/n", PTH)
    get("o/n")
    repository.commits[OLDER] = {"RWKV-4-98%.pth": b"newer"}
    repository.refs["main"] = OLDER

    assert get("o/n").path.read_bytes() == b"newer"


@pytest.mark.parametrize("chunk", [1_000, 10_000_000], ids=["resumed", "begun again"])
def test_a_download_that_breaks_off_is_taken_up(hub, monkeypatch, chunk):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", chunk)
    monkeypatch.setattr("time.sleep", lambda _: None)
    data = bytes(range(256)) * 400
    hub.add("o/n", {"a.pth": data})
    hub.breaks = 1

    assert get("o/n").path.read_bytes() == data
    assert len(hub.ranges) == 2
    assert (hub.ranges[1] is not None) == (chunk == 1_000)


def test_a_download_that_keeps_breaking_off_is_an_error_and_leaves_nothing_half(hub, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)
    hub.add("o/n", {"a.pth": b"weights" * 1000})
    hub.breaks = 100

    with pytest.raises(CheckpointError, match=r"'o/n' cannot be downloaded: .*; the files that"):
        get("o/n")

    hub.breaks = 0
    assert get("o/n").path.read_bytes() == b"weights" * 1000


def test_a_repository_that_is_not_there_or_private_says_what_to_do(hub):
    hub.add("o/private", PTH, is_private=True)
    for name in ("o/private", "o/none"):
        with pytest.raises(CheckpointError, match=rf"nor a repository '{name}' .* `hf auth login`"):
            get(name)


def test_a_gated_repository_says_where_its_terms_are(hub):
    hub.add("o/gated", PTH, is_gated=True)
    with pytest.raises(CheckpointError, match=rf"accept the terms at {hub.url}/o/gated"):
        get("o/gated")


def test_a_revision_that_is_not_there_is_named(hub):
    hub.add("o/n", PTH)
    with pytest.raises(CheckpointError, match="must have a branch, tag or commit 'v9'"):
        get("o/n", "v9")


def test_a_file_that_is_not_there_is_named(hub):
    hub.add("o/n", PTH)
    with pytest.raises(CheckpointError, match=r"must hold 'x.pth' .*\n  o/n/RWKV-4-98%.pth"):
        get("o/n", file="x.pth")


@pytest.mark.usefixtures("hub")
def test_a_name_that_the_hub_does_not_allow_is_an_error():
    with pytest.raises(CheckpointError, match="must be a name that the hub allows"):
        get("o/n--m")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_that_is_down_leaves_the_copy_in_the_cache(hub, status, caplog):
    hub.add("o/n", PTH)
    path = get("o/n").path
    hub.status = status

    assert get("o/n").path == path
    assert f"status {status}; its copy in the cache is used" in caplog.text
    with pytest.raises(CheckpointError, match=rf"status {status}, and the cache .* holds no copy"):
        get("o/other")


def test_a_refusal_is_not_met_with_a_copy(hub):
    hub.add("o/n", PTH)
    get("o/n")
    hub.status = 403

    with pytest.raises(CheckpointError, match="status 403; `hf auth login`"):
        get("o/n")


def test_without_a_network_the_copy_in_the_cache_is_used(hub, tmp_path, monkeypatch):
    hub.add("o/n", FOLDER)
    path = get("o/n").path
    unreachable(monkeypatch)

    assert get("o/n").path == path
    with pytest.raises(CheckpointError, match=rf"refused, and the cache '{tmp_path}/home/hub'"):
        get("o/other")


@pytest.mark.parametrize("revision", ["main", MAIN])
def test_offline_a_cache_that_another_program_wrote_is_read(hub, tmp_path, monkeypatch, revision):
    snapshot = lay_out_cache(tmp_path / "home", "o/n", FOLDER)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    fetched = get("o/n", revision)

    assert fetched.path == snapshot
    assert fetched.origin == f"o/n@{MAIN}"
    assert hub.requests == []


@pytest.mark.usefixtures("hub")
def test_offline_what_is_not_in_the_cache_is_an_error(tmp_path, monkeypatch):
    snapshot = lay_out_cache(tmp_path / "home", "o/n", PTH)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    assert get("o/n", file="RWKV-4-98%.pth").path == snapshot / "RWKV-4-98%.pth"
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE is set, and of its copy"):
        get("o/n", file="x.pth")
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE is set, and the cache"):
        get("o/n", "v1")


@pytest.mark.usefixtures("hub")
def test_a_link_to_a_file_that_is_gone_is_no_file(tmp_path, monkeypatch):
    snapshot = lay_out_cache(tmp_path / "home", "o/n", PTH)
    (snapshot / "RWKV-4-98%.pth").resolve().unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    with pytest.raises(CheckpointError, match="must hold a model"):
        get("o/n")


def test_a_full_disk_is_the_error_of_the_system_and_names_the_cache(hub, tmp_path, monkeypatch):
    def full(*_: object, **__: object):
        raise OSError(errno.ENOSPC, "No space left on device")

    hub.add("o/n", PTH)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)

    with pytest.raises(OSError, match="No space left") as error:
        get("o/n")
    assert error.value.filename == str(tmp_path / "home" / "hub")


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_token_is_never_told(hub, monkeypatch, status, capfd, caplog):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.status = status

    with caplog.at_level(logging.DEBUG), pytest.raises(CheckpointError) as error:
        get("o/n")

    assert "Bearer hf_secret" in hub.tokens
    assert "hf_secret" not in "".join([str(error.value), *capfd.readouterr()])


def test_nothing_is_drawn_where_there_is_no_terminal(hub, capfd):
    hub.add("o/n", FOLDER)
    get("o/n")
    assert capfd.readouterr() == ("", "")
