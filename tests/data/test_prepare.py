import errno
import gzip
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receptance.data import Split, TokenStore, prepare
from receptance.data.documents import PIECE_CHARACTERS
from receptance.data.prepare import BATCH_CHARACTERS
from receptance.errors import DataError, TokenizerError
from receptance.tokenizer import BytesTokenizer, WorkerLostError, train_bpe

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


def write_texts(folder: Path, texts: Sequence[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for index, text in enumerate(texts):
        (folder / f"{index:04}.txt").write_bytes(text.encode())
    return folder


def decoded(store: TokenStore, split: Split) -> list[str]:
    return [
        store.tokenizer.decode(split.document(index).tolist()) for index in range(split.n_documents)
    ]


def corpus(n: int = 60) -> list[str]:
    return [f"def function_{n}(x):\n    return x + {n}  # é {n * n}\n" * 5 for n in range(n)]


class WrongTokenizer(BytesTokenizer):
    """Does as it is told by the text it is given."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        if any("break" in text for text in texts):
            raise RuntimeError("the tokenizer broke")
        answers = {"negative": [-1], "large": [self.vocab_size], "end": [self.end_of_text]}
        return [answers.get(text, [1] * len(text)) for text in texts]


@given(texts=st.lists(TEXT, min_size=1, max_size=8))
@settings(deadline=None, max_examples=25)
def test_what_is_prepared_decodes_to_the_documents(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("prepare")
    write_texts(folder / "texts", ["anchor", *texts])
    store = prepare([folder / "texts"], "bytes", folder / "store", valid_fraction=0.0)
    assert decoded(store, store.train) == ["anchor", *(text for text in texts if text.strip())]
    store.verify()


def test_a_trained_tokenizer_is_kept_and_gives_the_documents_back(tmp_path: Path) -> None:
    texts = corpus()
    write_texts(tmp_path / "texts", texts)
    store = prepare([tmp_path / "texts"], "train:300", tmp_path / "store", valid_fraction=0.2)
    assert store.tokenizer.name == "bpe"
    assert 256 < store.vocab_size <= 300
    assert sorted(decoded(store, store.train) + decoded(store, store.valid)) == sorted(texts)
    assert (tmp_path / "store" / "tokenizer.json").is_file()
    # A token stands for more than a byte, or training has done nothing.
    assert store.train.n_bytes > 1.2 * store.train.n_tokens
    for index in range(store.train.n_documents):
        tokens = store.train.document(index).tolist()
        assert tokens == store.tokenizer.encode(decoded(store, store.train)[index])


def test_the_tokenizer_is_trained_on_training_documents_alone(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts", corpus())
    (tmp_path / "valid.txt").write_text("zqzqzqzq " * 2000)
    with_valid = prepare(
        [tmp_path / "texts"], "train:300", tmp_path / "one", valid=[tmp_path / "valid.txt"]
    )
    expected = train_bpe(corpus(), 300)
    assert with_valid.tokenizer.sha256 == expected.sha256


def test_a_stored_tokenizer_is_read_from_its_file(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts", corpus())
    tokenizer = train_bpe(corpus(), 290)
    (tmp_path / "vocabulary").mkdir()
    tokenizer.save(tmp_path / "vocabulary")
    store = prepare([tmp_path / "texts"], str(tmp_path / "vocabulary"), tmp_path / "store")
    store.require_tokenizer(tokenizer)


def test_preparing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts", corpus())
    for name in ("one", "two"):
        prepare([tmp_path / "texts"], "train:300", tmp_path / name, seed=4)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == [
        "store.json", "tokenizer.json", "train.bin", "train.docs", "valid.bin", "valid.docs"
    ]  # fmt: skip
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def use_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two processes tokenize, some hundred characters at a time."""
    module = sys.modules["receptance.data.prepare"]
    monkeypatch.setattr(module, "WORKER_BYTES", 1)
    monkeypatch.setattr(module, "BATCH_CHARACTERS", 300)
    monkeypatch.setattr(module, "n_cores", lambda: 2)


def test_several_processes_give_the_same_bytes_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_texts(tmp_path / "texts", corpus())
    prepare([tmp_path / "texts"], "train:300", tmp_path / "one")
    use_workers(monkeypatch)
    prepare([tmp_path / "texts"], "train:300", tmp_path / "two")
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def refuse(*_: object, **__: object) -> None:
    raise OSError(errno.ENOMEM, "Cannot allocate memory")


@pytest.mark.parametrize(
    ("name", "failing", "message"),
    [
        ("receptance.tokenizer.parallel._PROGRAM", "import os; os.abort()", "ended by SIGABRT; wh"),
        ("subprocess.Popen", refuse, r"could not \(.*memory\); what"),
    ],
)
def test_a_lost_worker_loses_nothing_that_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, failing: object, message: str
) -> None:
    write_texts(tmp_path / "texts", corpus())
    use_workers(monkeypatch)
    monkeypatch.setattr("receptance.data.journal.NOTE_BYTES", 1000)
    monkeypatch.setattr(name, failing)
    with pytest.raises(WorkerLostError, match=f"{message}.* written is kept, so run"):
        prepare([tmp_path / "texts"], "train:300", tmp_path / "store")
    assert (tmp_path / ".store.preparing").is_dir()
    monkeypatch.undo()
    prepare([tmp_path / "texts"], "train:300", tmp_path / "store").verify()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "texts"]


def test_held_out_files_are_held_out_though_their_folder_is_trained_on(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts", ["zero", "one", "two"])
    store = prepare([folder], "bytes", tmp_path / "store", valid=[folder / "0001.txt"])
    assert decoded(store, store.train) == ["zero", "two"]
    assert decoded(store, store.valid) == ["one"]
    assert [(source.held_out, source.documents) for source in store.sources] == [
        (False, 2),
        (True, 1),
    ]


def test_the_held_out_share_is_by_document(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts", corpus(200))
    store = prepare([tmp_path / "texts"], "bytes", tmp_path / "store", valid_fraction=0.25)
    assert 25 <= store.valid.n_documents <= 75
    assert store.train.n_documents + store.valid.n_documents == 200


def test_of_one_file_the_end_is_held_out(tmp_path: Path) -> None:
    text = "".join(f"line {number}\n" for number in range(500))
    (tmp_path / "input.txt").write_text(text)
    store = prepare([tmp_path / "input.txt"], "bytes", tmp_path / "store", valid_fraction=0.1)
    (train,), (valid,) = decoded(store, store.train), decoded(store, store.valid)
    assert train + valid == text
    assert valid.startswith("line 4")


def test_a_document_longer_than_a_piece_has_the_tokens_of_the_whole(tmp_path: Path) -> None:
    text = " \n".join(corpus(1) * 10).replace("+", "and again") * (PIECE_CHARACTERS // 1000)
    assert len(text) > 2 * PIECE_CHARACTERS
    (tmp_path / "long.txt").write_text(text)
    store = prepare([tmp_path / "long.txt"], "train:300", tmp_path / "store", valid_fraction=0.0)
    assert store.train.n_documents == 1
    assert store.train.document(0).tolist() == store.tokenizer.encode(text)


def test_one_file_is_split_at_separators_and_read_from_gzip(tmp_path: Path) -> None:
    path = tmp_path / "stories.txt.gz"
    path.write_bytes(gzip.compress(b"one<|endoftext|>two<|endoftext|>\n"))
    store = prepare(
        [path], "bytes", tmp_path / "store", separator="<|endoftext|>", valid_fraction=0.0
    )
    assert decoded(store, store.train) == ["one", "two"]
    assert store.sources[0].blank_documents == 1


def test_files_that_are_not_text_are_skipped_if_told_so(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts", ["zero", "one"])
    (folder / "bad.bin").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"bad\.bin' must be plain UTF-8 text, but byte 0"):
        prepare([folder], "bytes", tmp_path / "store")
    assert not (tmp_path / "store").exists()
    store = prepare([folder], "bytes", tmp_path / "store", skip_undecodable=True)
    assert store.sources[0].undecodable_files == 1
    assert store.train.n_documents == store.valid.n_documents == 1


def test_an_old_store_in_the_folder_is_not_read_as_text(tmp_path: Path) -> None:
    write_texts(tmp_path, ["zero", "one"])
    prepare([tmp_path], "bytes", tmp_path / "store")
    store = prepare([tmp_path], "bytes", tmp_path / "store", replace=True)
    assert store.train.n_bytes + store.valid.n_bytes == 7


@pytest.mark.parametrize(("n_ids", "dtype"), [(65_536, "uint16"), (65_537, "uint32")])
def test_two_bytes_hold_a_token_as_long_as_they_can(tmp_path: Path, n_ids: int, dtype: str) -> None:
    train_bpe(corpus(), 300).save(tmp_path)
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text())
    # The last id stands for "@@", and the ids between are never made.
    vocabulary = content["model"]["vocab"]
    vocabulary |= {f"unused{number}": number for number in range(300, n_ids - 1)}
    vocabulary["@@"] = n_ids - 1
    content["model"]["merges"].append(["@", "@"])
    path.write_text(json.dumps(content))
    texts = write_texts(tmp_path / "texts", ["a@@b"])
    store = prepare([texts], path, tmp_path / "store", valid_fraction=0.0)
    assert store.manifest.dtype == store.train.tokens.dtype.name == dtype
    assert n_ids - 1 in store.train.tokens.tolist()
    assert decoded(store, store.train) == ["a@@b"]


def test_progress_goes_up_to_all_bytes(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts", ["x" * BATCH_CHARACTERS, "y", "z"])
    calls: list[tuple[int, int]] = []
    prepare(
        [folder], "bytes", tmp_path / "s", progress=lambda done, total: calls.append((done, total))
    )
    total = BATCH_CHARACTERS + 2
    assert calls == [(BATCH_CHARACTERS, total), (total, total)]


def test_a_failure_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts", ["x" * BATCH_CHARACTERS, "break"])
    with pytest.raises(RuntimeError, match="the tokenizer broke"):
        prepare([folder], WrongTokenizer(), tmp_path / "store", valid_fraction=0.0)
    assert [path.name for path in tmp_path.iterdir()] == ["texts"]


def test_a_failure_on_the_way_leaves_the_old_store(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts", ["first", "second"])
    prepare([folder], "bytes", tmp_path / "store")
    write_texts(folder, ["first", "break"])
    with pytest.raises(RuntimeError, match="the tokenizer broke"):
        prepare([folder], WrongTokenizer(), tmp_path / "store", replace=True)
    TokenStore.open(tmp_path / "store").verify()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "texts"]


FULL_DISK = """
import resource, sys
from receptance.data import prepare
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    prepare([sys.argv[1]], "bytes", sys.argv[2], valid_fraction=0.0)
except OSError as error:
    print(error)
"""


def test_a_full_disk_is_said_with_the_file_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("x" * 100_000)
    arguments = [str(tmp_path / "text.txt"), str(tmp_path / "store")]
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, *arguments], capture_output=True, text=True, check=True
    )
    assert "File too large" in done.stdout
    assert "train.bin" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("negative", r"'bytes' must give ids in 0 … \d+, but gave -1 … -1"),
        ("large", r"'bytes' must give ids in 0 … (\d+), but gave \d+ … \d+"),
        ("end", r"'bytes' must not give its end_of_text \d+ for text, but did"),
    ],
)
def test_impossible_ids_are_refused(tmp_path: Path, text: str, message: str) -> None:
    folder = write_texts(tmp_path / "texts", [text])
    with pytest.raises(TokenizerError, match=message):
        prepare([folder], WrongTokenizer(), tmp_path / "store", valid_fraction=0.0)
    assert not (tmp_path / "store").exists()


class GrowingTokenizer(BytesTokenizer):
    """Appends to a file that is being prepared, each time it is used."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        with self._path.open("a") as file:
            file.write("more")
        return super().encode_batch(texts)


def test_texts_that_change_on_the_way_are_noticed(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts", ["x" * BATCH_CHARACTERS, "later"])
    growing = GrowingTokenizer(folder / "0001.txt")
    with pytest.raises(DataError, match=r"must not change while they are read, but had \d+ bytes"):
        prepare([folder], growing, tmp_path / "store", valid_fraction=0.0)
    assert not (tmp_path / "store").exists()


def test_an_existing_folder_is_refused_unless_it_is_a_store_to_replace(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts", ["zero", "one"])
    out = tmp_path / "out"
    out.mkdir()
    (out / "precious").write_text("mine")
    with pytest.raises(DataError, match=r"'.*out' must not exist yet, .* \(--replace\)"):
        prepare([folder], "bytes", out)
    with pytest.raises(DataError, match=r"must be a token store to be replaced, but has no store"):
        prepare([folder], "bytes", out, replace=True)
    with pytest.raises(DataError, match=r"must be a folder to be replaced"):
        prepare([folder], "bytes", out / "precious", replace=True)
    assert (out / "precious").read_text() == "mine"


def test_a_store_is_replaced_when_told_so(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts", ["zero", "one"])
    old = prepare([folder], "bytes", tmp_path / "out", valid_fraction=0.0)
    new = prepare(
        [folder / "0000.txt"], "bytes", tmp_path / "out", replace=True, valid_fraction=0.0
    )
    assert (old.train.n_documents, new.train.n_documents) == (2, 1)
    # The old store stays readable for those who have it open.
    assert decoded(old, old.train) == ["zero", "one"]


def test_the_folder_above_is_made(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts", ["zero", "one"])
    prepare([folder], "bytes", tmp_path / "new" / "stores" / "out")
    assert (tmp_path / "new" / "stores" / "out" / "store.json").is_file()


def test_no_text_at_all_is_refused(tmp_path: Path) -> None:
    folder = write_texts(tmp_path / "texts", ["", " \n"])
    with pytest.raises(DataError, match="hold none: 2 files with 2 blank documents"):
        prepare([folder], "bytes", tmp_path / "store")
    with pytest.raises(DataError, match=r"the files must hold some text, but \[\] hold none"):
        prepare([], "bytes", tmp_path / "store")


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_an_impossible_fraction_is_refused(tmp_path: Path, fraction: float) -> None:
    with pytest.raises(ValueError, match=r"`valid_fraction` must be in \[0, 1\), got"):
        prepare([], "bytes", tmp_path / "store", valid_fraction=fraction)


@pytest.mark.parametrize("tokenizer", ["train:", "train:many", "train:-5", "train:²"])
def test_an_impossible_size_to_train_is_refused(tmp_path: Path, tokenizer: str) -> None:
    with pytest.raises(ValueError, match=f"'train:4096', got {tokenizer!r}"):
        prepare([], tokenizer, tmp_path / "store")


def test_wikitext_articles_become_documents(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "wikitext-2" / "wiki.valid.tokens"
    store = prepare(
        [path], "bytes", tmp_path / "store", document_start=" = [^=].* = $", valid_fraction=0.1
    )
    documents = decoded(store, store.train) + decoded(store, store.valid)
    assert len(documents) == 60
    assert all(document.startswith(" = ") for document in documents)
    # Only the blank line before the first article belongs to none.
    assert store.train.n_bytes + store.valid.n_bytes == path.stat().st_size - 2
    assert sorted("".join(documents)) == sorted(path.read_text("utf-8").removeprefix(" \n"))


def test_a_place_that_cannot_hold_a_store_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file' must be a folder to hold '.*/file/a/store'"):
        prepare([tmp_path / "absent"], "bytes", tmp_path / "file" / "a" / "store")
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(PermissionError, match=r"' must be writable to hold '.*/a/store'"):
        prepare([tmp_path / "absent"], "bytes", tmp_path / "a" / "store")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
