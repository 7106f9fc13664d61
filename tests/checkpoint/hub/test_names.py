"""A name of the hub is told from a path, and only the files that a model needs are chosen."""

import pytest

from receptance.checkpoint.hub.names import HubName, needed_files, parse_dataset, parse_name
from receptance.errors import CheckpointError

RAVEN = HubName("BlinkDL/rwkv-4-raven")
TOKENIZERS = ("tokenizer.json", "rwkv_vocab_v20230424.txt")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("RWKV/rwkv-4-169m-pile", HubName("RWKV/rwkv-4-169m-pile")),
        ("o/n@v1.0", HubName("o/n", "v1.0")),
        ("o/n@refs/pr/3", HubName("o/n", "refs/pr/3")),
        ("o/n/a 98%.pth", HubName("o/n", file="a 98%.pth")),
        ("o/n@abc/old/a.PTH", HubName("o/n", "abc", "old/a.PTH")),
        ("o/n@refs/pr/3/q8.bin", HubName("o/n", "refs/pr/3", "q8.bin")),
    ],
)
def test_a_name_is_read_and_written_the_same(text, name):
    assert parse_name(text) == name
    assert str(name) == text


@pytest.mark.parametrize(
    "text",
    ["model", "./o/n", "../n", "/o/n", "~/n", "o//n", "o/n/", "o/n@", "o/n/a/../b.pth", "o /n", ""],
)
def test_what_has_not_the_form_is_a_path(text):
    assert parse_name(text) is None


@pytest.mark.parametrize("text", ["runs/demo/model", "models/RWKV-4.pth", "models/config.json"])
def test_a_mistyped_path_is_not_taken_for_a_name(text):
    assert parse_name(text) is None


def test_a_folder_needs_its_config_its_tokenizer_and_one_format_of_weights():
    names = ["README.md", "config.json", "flax_model.msgpack", "generation_config.json"]
    names += ["model.safetensors", "pytorch_model.bin", "tokenizer.json", "tokenization.py"]

    assert needed_files(HubName("o/n"), names, TOKENIZERS) == [
        *("config.json", "generation_config.json", "tokenizer.json", "model.safetensors")
    ]


@pytest.mark.parametrize("stem", ["model-{}.safetensors", "pytorch_model-{}.bin"])
def test_a_folder_in_shards_needs_the_index_and_every_shard(stem):
    shards = [stem.format(f"0000{i}-of-00002") for i in (1, 2)]
    index = stem.replace("-{}", "") + ".index.json"

    files = needed_files(HubName("o/n"), [*reversed(shards), index, "config.json"], TOKENIZERS)

    assert files == ["config.json", index, *shards]


def test_the_only_file_of_weights_is_the_model():
    names = ["README.md", "config.json", "RWKV-4.pth", "tokenizer.json"]

    assert needed_files(HubName("o/n"), names, TOKENIZERS) == ["tokenizer.json", "RWKV-4.pth"]


def test_the_tokenizer_lies_in_the_folder_of_the_file():
    names = ["old/A.pth", "old/tokenizer.json", "tokenizer.json"]

    assert needed_files(HubName("o/n", file="old/A.pth"), names, TOKENIZERS) == [
        *("old/tokenizer.json", "old/A.pth")
    ]


def test_of_several_files_one_must_be_named_and_the_newest_is_listed_first():
    names = ["RWKV-4-Raven-7B-v11-20230425.pth", "RWKV-4-Raven-1B5-v12-20230520.pth", "x.txt"]

    with pytest.raises(CheckpointError, match="must hold one model, but it holds 2") as error:
        needed_files(RAVEN, names, TOKENIZERS)

    assert [line.strip() for line in str(error.value).splitlines()[1:]] == [
        "BlinkDL/rwkv-4-raven/RWKV-4-Raven-1B5-v12-20230520.pth",
        "BlinkDL/rwkv-4-raven/RWKV-4-Raven-7B-v11-20230425.pth",
    ]


def test_a_file_that_is_not_there_is_met_with_the_nearest_first():
    names = ["RWKV-4-Raven-7B-v12-20230601.pth", "RWKV-4-Raven-1B5-v12-20230520.pth"]
    name = HubName(RAVEN.repository, "v1", "RWKV-4-Raven-1B5-v12.pth")

    with pytest.raises(CheckpointError, match=r"must hold 'RWKV-4-Raven-1B5-v12.pth' at") as error:
        needed_files(name, names, TOKENIZERS)

    assert str(error.value).splitlines()[1].strip() == (
        "BlinkDL/rwkv-4-raven@v1/RWKV-4-Raven-1B5-v12-20230520.pth"
    )


def test_a_long_list_is_cut():
    names = [f"{i}.pth" for i in range(30)]

    with pytest.raises(CheckpointError, match=r"and 18 more$"):
        needed_files(RAVEN, names, TOKENIZERS)


def test_a_repository_without_a_model_says_what_it_holds():
    with pytest.raises(CheckpointError, match=r"holds \['README.md'\]: neither 'config.json'"):
        needed_files(RAVEN, ["README.md"], TOKENIZERS)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hf://datasets/o/n", HubName("o/n", is_dataset=True)),
        ("hf:/datasets/o/n/", HubName("o/n", is_dataset=True)),
        ("hf://datasets/o/n@v1/a/*.parquet", HubName("o/n", "v1", "a/*.parquet", is_dataset=True)),
    ],
)
def test_a_data_set_is_named_by_its_address(text, name):
    assert parse_dataset(text) == name
    assert parse_dataset(str(name)) == name


def test_what_begins_as_a_data_set_must_be_one():
    assert parse_dataset("o/n") is None
    for text in ("hf://datasets/n", "hf://o/n", "hf://datasets/"):
        with pytest.raises(ValueError, match="must be named hf://datasets/owner/name"):
            parse_dataset(text)
