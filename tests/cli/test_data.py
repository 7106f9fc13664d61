import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from receptance.cli.data import command
from receptance.data import TokenStore
from receptance.errors import DataError


def run(*arguments: str | Path | int) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for index in range(20):
        (folder / f"{index}.txt").write_text(f"Document {index} has a word or two.\n" * 5)
    return folder


@pytest.fixture
def store(tmp_path: Path, texts: Path) -> Path:
    assert run("prepare", texts, "--tokenizer", "bytes", "--out", tmp_path / "store").exit_code == 0
    return tmp_path / "store"


def test_preparing_makes_a_store_and_says_so_on_standard_error(tmp_path: Path, texts: Path) -> None:
    result = run("prepare", texts, "--tokenizer", "train:270", "--out", tmp_path / "store")
    assert result.exit_code == 0
    assert result.stdout == ""
    store = TokenStore.open(tmp_path / "store")
    assert f"{store.train.n_tokens:,}" in result.stderr
    assert "bpe, 270 ids" in result.stderr
    assert "bytes/token" in result.stderr


def test_every_option_reaches_the_store(tmp_path: Path, texts: Path) -> None:
    (texts / "bad.md").write_bytes(b"\xff")
    (texts / "good.md").write_text("one\n\ntwo\n\n \n\nthree")
    (tmp_path / "valid.txt").write_text("held\n\nout")
    result = run(
        "prepare", texts, "--tokenizer", "bytes", "--out", tmp_path / "store",
        "--valid", tmp_path / "valid.txt", "--separator", r"\n\n", "--glob", "*.md",
        "--skip-undecodable", "--seed", "3",
    )  # fmt: skip
    assert result.exit_code == 0
    assert "1 blank documents skipped, 1 files skipped that are not UTF-8" in result.stderr
    assert "(held out)" in result.stderr
    store = TokenStore.open(tmp_path / "store")
    assert (store.train.n_documents, store.valid.n_documents) == (3, 2)


def test_lines_that_begin_a_document_are_an_option(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("# one\ntext\n# two\ntext\n")
    result = run(
        "prepare", tmp_path / "text.txt", "--tokenizer", "bytes", "--out", tmp_path / "store",
        "--document-start", "# ", "--valid-fraction", "0",
    )  # fmt: skip
    assert result.exit_code == 0
    assert TokenStore.open(tmp_path / "store").train.n_documents == 2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "User: one\n\nAssistant: two"),
        (["--chat-format", "raven"], "Bob: one\n\nAlice: two"),
        (["--text-field", "body"], "three"),
        (["--prompt-field", "body", "--answer-field", "question"], "threeone"),
        (
            ["--prompt-field", "body", "--answer-field", "question", "--chat-format", "qa"],
            "Question: three\n\nAnswer: one",
        ),
    ],
)
def test_options_say_what_of_a_line_is_text(
    tmp_path: Path, options: list[str], expected: str
) -> None:
    line = {"question": "one", "answer": "two", "body": "three"}
    (tmp_path / "a.jsonl").write_text(json.dumps(line))
    result = run(
        "prepare", tmp_path / "a.jsonl", "--tokenizer", "bytes", "--out", tmp_path / "store",
        "--valid-fraction", "0", *options,
    )  # fmt: skip
    assert result.exit_code == 0
    store = TokenStore.open(tmp_path / "store")
    assert store.tokenizer.decode(store.train.document(0).tolist()) == expected


def test_an_existing_store_is_replaced_only_when_told_so(store: Path, texts: Path) -> None:
    arguments = ("prepare", texts, "--tokenizer", "bytes", "--out", store)
    refused = run(*arguments)
    assert isinstance(refused.exception, DataError)
    assert "(--replace)" in str(refused.exception)
    assert run(*arguments, "--replace").exit_code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--tokenizer", "train:x"], "'train:4096', got 'train:x'"),
        (["--tokenizer", "bytes", "--separator", ""], "`separator` must be a text"),
        (["--tokenizer", "bytes", "--document-start", "("], "must be a regular expression"),
        (["--tokenizer", "bytes", "--valid-fraction", "1"], "--valid-fraction"),
        (["--tokenizer", "bytes", "--prompt-field", "a"], "must be given together, got 'a' and"),
        ([], "--tokenizer"),
    ],
)
def test_wrong_usage_exits_with_2(
    tmp_path: Path, texts: Path, options: list[str], message: str
) -> None:
    result = run("prepare", texts, "--out", tmp_path / "store", *options)
    assert result.exit_code == 2
    assert message in result.stderr


def test_inspecting_shows_the_store_and_samples(store: Path) -> None:
    result = run("inspect", store, "--ctx-len", 40, "--samples", 3, "--step", 5)
    assert result.exit_code == 0
    assert "tokenizer  bytes" in result.stdout
    assert "train" in result.stdout
    assert result.stdout.count("step 5, epoch ") == 3
    assert "has a word" in result.stdout


def test_a_long_list_of_sources_is_cut_short(tmp_path: Path) -> None:
    files = [tmp_path / f"{index}.txt" for index in range(30)]
    for file in files:
        file.write_text(file.name)
    result = run("prepare", *files, "--tokenizer", "bytes", "--out", tmp_path / "store")
    assert "19.txt" in result.stderr
    assert "20.txt" not in result.stderr
    assert "and 10 more" in result.stderr


def test_inspecting_gives_one_json_document(store: Path) -> None:
    opened = TokenStore.open(store)
    result = run("inspect", store, "--json", "--samples", 2, "--batch-size", 4, "--ctx-len", 16)
    content = json.loads(result.stdout)
    assert content["path"] == str(store)
    assert content["tokenizer"] == "bytes"
    assert content["tokenizer_sha256"] == opened.tokenizer.sha256
    train = content["splits"]["train"]
    assert train["tokens"] == opened.train.n_tokens
    assert train["bytes_per_token"] == opened.train.n_bytes / opened.train.n_tokens
    assert content["verified"] is False
    assert len(content["samples"]) == 2
    first = content["samples"][0]
    tokens = opened.train.tokens[first["first_token"] : first["first_token"] + 16]
    assert first["text"] == opened.tokenizer.decode(tokens.tolist())


def test_a_short_store_is_inspected_with_short_samples(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("hi")
    run(
        "prepare", tmp_path / "text.txt", "--tokenizer", "bytes", "--out", tmp_path / "store",
        "--valid-fraction", "0",
    )  # fmt: skip
    result = run("inspect", tmp_path / "store")
    assert result.exit_code == 0
    assert "2 tokens:" in result.stdout
    too_long = run("inspect", tmp_path / "store", "--ctx-len", 64)
    assert isinstance(too_long.exception, DataError)


def test_verifying_finds_damage(store: Path) -> None:
    good = run("inspect", store, "--verify")
    assert "every byte has the hash that store.json gives" in good.stdout
    content = bytearray((store / "train.bin").read_bytes())
    content[100] ^= 1
    (store / "train.bin").write_bytes(content)
    assert run("inspect", store).exit_code == 0
    bad = run("inspect", store, "--verify", "--json")
    assert isinstance(bad.exception, DataError)
    n_bytes = len(content)
    assert "train.bin' is damaged in block 0 of 1" in str(bad.exception)
    assert f"(block 0 is bytes 0 to {n_bytes - 1})" in str(bad.exception)
    assert bad.stdout == ""


def test_control_characters_of_a_text_do_not_reach_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("red \x1b[31m and a bell \x07\n" * 9)
    run(
        "prepare", tmp_path / "text.txt", "--tokenizer", "bytes", "--out", tmp_path / "store",
        "--valid-fraction", "0",
    )  # fmt: skip
    result = run("inspect", tmp_path / "store")
    assert "\x1b" not in result.stdout
    assert r"\x1b[31m" in result.stdout


def test_inspecting_shows_what_is_to_be_predicted(tmp_path: Path) -> None:
    lines = [json.dumps({"prompt": f"{n}+{n}=", "answer": str(2 * n)}) for n in range(20)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    store = tmp_path / "store"
    prepared = run("prepare", tmp_path / "a.jsonl", "--tokenizer", "bytes", "--out", store)
    assert prepared.exit_code == 0

    result = run("inspect", store, "--ctx-len", 40)

    assert "⟦" in result.stdout
    assert "⟦7+7=⟧14" in run("inspect", store, "--ctx-len", 120, "--samples", 1).stdout
    assert "what is in ⟦ ⟧ is read and not predicted" in result.stdout
    mask = TokenStore.open(store).manifest.splits.train.mask
    assert mask is not None
    assert f"to predict{mask.bytes:>18,}{mask.tokens:>18,}" in result.stdout
    content = json.loads(run("inspect", store, "--json", "--ctx-len", 40).stdout)
    assert content["splits"]["train"]["mask"] == {"tokens": mask.tokens, "bytes": mask.bytes}
    sample = content["samples"][0]
    assert "".join(each["text"] for each in sample["runs"]) == sample["text"]
    assert {each["counted"] for each in sample["runs"]} == {True, False}
    everything = run("prepare", tmp_path / "a.jsonl", "--tokenizer", "bytes", "--out",
        tmp_path / "all", "--loss-on", "all")  # fmt: skip
    assert everything.exit_code == 0
    assert "⟦" not in run("inspect", tmp_path / "all").stdout
