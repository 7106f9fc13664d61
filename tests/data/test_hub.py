"""Data sets of the hub become texts; which files are meant is told, or asked for."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from huggingface_hub import constants

from receptance.checkpoint.hub.names import HubName, parse_dataset
from receptance.data import TokenStore, prepare
from receptance.data.hub import data_files, find_datasets
from receptance.errors import CheckpointError, DataError
from tests.local_hub import MAIN, OLDER, LocalHub

NAME = "hf://datasets/o/n"
TEXTS = {
    "README.md": b"# no text to train on",
    "train-00000-of-00002.jsonl": b'{"text": "one"}\n{"text": "two"}\n',
    "train-00001-of-00002.jsonl": b'{"text": "three"}\n',
    "validation.jsonl": b'{"text": "held out"}\n',
    "test.jsonl": b'{"text": "tested"}\n',
}


def named(text: str) -> HubName:
    name = parse_dataset(text)
    assert name is not None
    return name


def meant(text: str, names: Sequence[str], *, held_out: bool = False) -> list[str]:
    return data_files(named(text), names, held_out=held_out)


def decoded(store: TokenStore) -> list[str]:
    split = store.train
    return [store.tokenizer.decode(split.document(n).tolist()) for n in range(split.n_documents)]


def test_a_data_set_is_prepared_and_its_commit_recorded(hub: LocalHub, tmp_path: Path) -> None:
    hub.add("datasets/o/n", TEXTS)
    store = prepare([NAME], "bytes", tmp_path / "store", valid=[NAME])
    assert decoded(store) == ["one", "two", "three"]
    assert [(source.path, source.held_out, source.files) for source in store.sources] == [
        (f"{NAME}@{MAIN}", False, 2),
        (f"{NAME}@{MAIN}", True, 1),
    ]
    assert "README.md" not in hub.fetched()
    assert "test.jsonl" not in hub.fetched()


def test_as_a_path_and_at_a_revision_it_is_the_same_name(hub: LocalHub, tmp_path: Path) -> None:
    hub.add("datasets/o/n", TEXTS).commits[OLDER] = {"a.txt": b"older"}
    path = Path(f"{NAME}@{OLDER}")
    store = prepare([path], "bytes", tmp_path / "store", valid_fraction=0.0)
    assert decoded(store) == ["older"]
    assert store.sources[0].path == f"{NAME}@{OLDER}"


def test_offline_it_is_the_copy_in_the_cache(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("datasets/o/n", TEXTS)
    online = prepare([NAME], "bytes", tmp_path / "one", valid_fraction=0.0)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    offline = prepare([NAME], "bytes", tmp_path / "two", valid_fraction=0.0)
    assert decoded(offline) == decoded(online)
    assert offline.sources == online.sources
    with pytest.raises(
        DataError, match=r"'hf://datasets/o/m' cannot be downloaded, since HF_HUB_O"
    ):
        find_datasets(["hf://datasets/o/m"], held_out=False)
    (online_file,) = (tmp_path / "home").rglob("train-00001-of-00002.jsonl")
    online_file.unlink()
    with pytest.raises(
        DataError, match=r"train-…-of-00002.jsonl .* must be 2 files, but there are 1"
    ):
        find_datasets([NAME], held_out=False)


def test_what_cannot_be_had_is_one_clear_error(hub: LocalHub) -> None:
    hub.add("datasets/o/gated", TEXTS, is_gated=True)
    hub.add("o/model", TEXTS)
    for name, message in {
        "o/gated": f"accept the terms at {hub.url}/datasets/o/gated",
        "o/model": "nor a repository 'o/model' on the hub that you may read",
        "o/gated@v9": "must have a branch, tag or commit 'v9'",
    }.items():
        with pytest.raises(DataError, match=message):
            find_datasets([f"hf://datasets/{name}"], held_out=False)
    hub.status = 503
    with pytest.raises(DataError, match="'hf://datasets/o/gated' cannot be downloaded: the hub an"):
        find_datasets(["hf://datasets/o/gated"], held_out=False)
    with pytest.raises(ValueError, match="must be named hf://datasets/owner/name, perhaps"):
        find_datasets(["hf://o/n"], held_out=False)


def test_other_paths_stay_as_they_are() -> None:
    assert find_datasets(["a.txt", Path("o/n")], held_out=False) == [Path("a.txt"), Path("o/n")]


def test_a_file_a_pattern_and_a_folder_mean_what_is_there() -> None:
    names = ["en/test.jsonl", "en/train.parquet", "en/x.md", "fr/train.parquet"]
    assert meant(f"{NAME}/en/test.jsonl", names) == ["en/test.jsonl"]
    assert meant(f"{NAME}/*.parquet", [*names, "x.parquet"]) == ["x.parquet"]
    assert meant(f"{NAME}/**/*.parquet", names) == [names[1], names[3]]
    assert meant(f"{NAME}/**", names) == [names[0], names[1], names[3]]
    assert meant(f"{NAME}/[!e]?/*", names) == [names[3]]
    with pytest.raises(CheckpointError, match="names none"):
        meant(f"{NAME}/[z-a]*", names)
    assert meant(f"{NAME}/*/train*", names) == ["en/train.parquet", "fr/train.parquet"]
    assert meant(f"{NAME}/en", names) == meant(f"{NAME}/en/", names) == ["en/train.parquet"]


@pytest.mark.parametrize("layout", ["data/{}-00000-of-00001.parquet", "{}.txt", "c/{}/0.arrow"])
def test_splits_are_told_by_a_word_in_the_path(layout: str) -> None:
    names = [layout.format(split) for split in ("train", "dev", "test")]
    assert meant(NAME, names) == names[:1]
    assert meant(NAME, names, held_out=True) == names[1:2]


def test_without_splits_all_is_to_train_on_and_nothing_held_out() -> None:
    names = ["b.jsonl", "a.jsonl", "constraints.md"]
    assert meant(NAME, names) == ["a.jsonl", "b.jsonl"]
    with pytest.raises(
        CheckpointError, match=r"must name held-out text \(.*holds \['a.jsonl', 'b.j"
    ):
        meant(NAME, names, held_out=True)


def test_of_several_configurations_one_must_be_named() -> None:
    names = [f"{language}/train.parquet" for language in ("en", "fr")]
    with pytest.raises(CheckpointError) as caught:
        meant(NAME, names)
    assert str(caught.value) == (
        f"'{NAME}' must name one configuration of the data set, but it has 2, in other folders, "
        f"formats or names; name one, or several by a pattern with a *:\n  {NAME}/en\n  {NAME}/fr"
    )
    nested = ["a.txt", "data/train/en/0.parquet", "data/train/en/1.parquet", "data/train/fr/0.txt"]
    with pytest.raises(CheckpointError, match=rf"it has 2, .*\n  {NAME}/data/train/en\n  .*/fr$"):
        meant(NAME, nested)
    assert meant(f"{NAME}/data/train/en", nested) == nested[1:3]
    with pytest.raises(CheckpointError, match=r"\n  and 88 more$"):
        meant(NAME, [f"{n}/train.parquet" for n in range(100)])


def test_shards_with_a_fingerprint_are_one_table() -> None:
    # As an older push_to_hub named them.
    names = [f"data/train-0000{n}-of-00003-{n}f63e2a9bcd{n}4e07.parquet" for n in range(3)]
    assert meant(NAME, names) == names
    with pytest.raises(
        CheckpointError, match=r"data/train-…-of-00003.parquet of .* 3 files, but t"
    ):
        meant(NAME, names[1:])
    assert meant(f"{NAME}/data/*.parquet", names[1:]) == names[1:]


def test_what_lies_beside_records_is_no_text_to_train_on() -> None:
    assert meant(NAME, ["corpus.jsonl", "requirements.txt", "LICENSE.txt"]) == ["corpus.jsonl"]
    assert meant(NAME, ["data/0.parquet", "LICENSE.txt"]) == ["data/0.parquet"]
    assert meant(f"{NAME}/*.txt", ["corpus.jsonl", "a.txt"]) == ["a.txt"]


@pytest.mark.parametrize(
    ("names", "choices"),
    [
        (["train.jsonl", "train.parquet", "test.jsonl"], ["train.jsonl", "train.parquet"]),
        (["LICENSE.txt", "corpus.txt"], ["LICENSE.txt", "corpus.txt"]),
        (
            [f"data/train{n}-of-2.parquet" for n in ("-0", "-1", "_sft-0", "_sft-1")],
            ["data/train-*.parquet", "data/train_sft-*.parquet"],
        ),
        (["a/train.jsonl", "a/b/train.jsonl"], ["a/b", "a/train.jsonl"]),
        # A pattern would mean what does not belong to it too.
        (["train1.txt", "train2.txt", "train_x.txt"], ["train1.txt", "train2.txt", "train_x.txt"]),
        (["en/train/0.arrow", "en/test/0.arrow", "fr/train/0.arrow"], ["en", "fr"]),
    ],
)  # fmt: skip
def test_each_choice_that_is_listed_means_a_whole_part(
    names: list[str], choices: list[str]
) -> None:
    with pytest.raises(CheckpointError, match="must name one configuration") as caught:
        meant(NAME, names)
    listed = str(caught.value).splitlines()[1:]
    assert listed == [f"  {NAME}/{each}" for each in choices]
    train = {each for each in names if "test" not in each}
    assert {file for each in listed for file in meant(each.strip(), names)} == train


def test_globs_choose_among_the_files_of_a_data_set(hub: LocalHub, tmp_path: Path) -> None:
    names = ["train.jsonl", "train.parquet", "valid.parquet", "notes/a.md"]
    name = named(NAME)
    assert data_files(name, names, held_out=False, globs=["*.parquet"]) == ["train.parquet"]
    assert data_files(name, names, held_out=True, globs=["*.parquet"]) == ["valid.parquet"]
    notes = named(f"{NAME}/notes")
    assert data_files(notes, names, held_out=False, globs=["*.md"]) == ["notes/a.md"]
    hub.add("datasets/o/n", TEXTS | {"notes.md": b"a note"})
    store = prepare([NAME], "bytes", tmp_path / "store", valid_fraction=0.0, globs=["*.md"])
    assert decoded(store) == ["# no text to train on", "a note"]


def test_a_split_that_is_named_outright_is_taken() -> None:
    names = ["data/test/0.parquet", "data/train/0.parquet", "data/train/test.jsonl"]
    for held_out in (False, True):
        assert meant(f"{NAME}/data/test", names, held_out=held_out) == names[:1]
    with pytest.raises(CheckpointError, match="must name held-out text"):
        meant(f"{NAME}/data/train", names, held_out=True)
