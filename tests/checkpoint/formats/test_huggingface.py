"""What `transformers` saves we read, what we write it loads, and all else is refused by name."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from receptance.checkpoint.formats.huggingface import (
    our_name,
    read_folder,
    their_name,
    write_folder,
)
from receptance.checkpoint.schema import check_weights
from receptance.errors import CheckpointError
from receptance.models import RWKV4, RWKV4Config
from tests.huggingface_folders import (
    SMALL_SHARD,
    saved_by_transformers,
    with_large_stream,
    written,
)
from tests.oracles import transformers_model, transformers_name
from tests.random_models import random_rwkv4, random_tokens, with_matrices
from tests.tolerances import FLOAT32_LOGITS

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture
def model() -> RWKV4:
    """Enough layers that halving the stream every 2 or 6 of them changes something."""
    return with_large_stream(random_rwkv4(n_layer=7, n_embd=64, vocab_size=256))


@pytest.fixture
def folder(model: RWKV4, tmp_path: Path) -> Path:
    """The model as we write it."""
    return written(model, tmp_path / "model")


def changed(folder: Path, **changes: Any) -> Path:
    """Change entries of a config.json; None removes one."""
    path = folder / "config.json"
    entries = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in entries.items() if v is not None}))
    return folder


@torch.no_grad()
def assert_same_logits(ours: RWKV4, theirs: Any) -> None:
    tokens = random_tokens(2, 40, ours.config.vocab_size)
    expected = theirs.eval()(tokens).logits
    torch.testing.assert_close(ours(tokens)[0], expected, rtol=0, atol=FLOAT32_LOGITS)


def assert_transformers_loads(folder: Path, model: RWKV4, **options: Any) -> Any:
    transformers = pytest.importorskip("transformers", reason="needs the transformers oracle")
    theirs, info = transformers.RwkvForCausalLM.from_pretrained(
        folder, output_loading_info=True, **options
    )
    assert {key: list(value) for key, value in info.items() if value} == {}
    assert_same_logits(model, theirs)
    return theirs


@pytest.mark.parametrize("layout", ["one", "sharded", "bin", "sharded bin"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_transformers_saves_gives_its_logits(model, tmp_path, dtype, layout):
    folder = saved_by_transformers(model, tmp_path / "theirs", dtype=dtype, layout=layout)
    n_files = len([*folder.glob("*model*.safetensors"), *folder.glob("*model*.bin")])

    stored = read_folder(folder)

    assert (n_files > 3) == ("sharded" in layout)
    assert stored.format == "huggingface"
    assert stored.config == model.config
    assert stored.details == {"rescale_every": 2, "context_length": 1024}
    rounded = {name: each.to(dtype).float() for name, each in model.state_dict().items()}
    loaded = stored.model(torch.float32, None)
    assert_same_logits(loaded, transformers_model(rounded, model.config))


@pytest.mark.parametrize("layout", ["one", "sharded bin"])
@pytest.mark.parametrize("opened", ["open", "open_to_read"])
def test_every_opening_has_every_tensor_as_it_was_stored(model, tmp_path, layout, opened):
    stored = read_folder(saved_by_transformers(model, tmp_path / "theirs", layout=layout))

    entries = getattr(stored, opened)()

    assert entries.keys() == model.state_dict().keys()
    for name, weight in model.state_dict().items():
        assert entries[name].shape == tuple(weight.shape)
        assert torch.equal(entries[name].read(), weight), name


@pytest.mark.parametrize("rescale_every", [0, 2, 6])
@pytest.mark.parametrize("options", [{}, {"max_shard_bytes": SMALL_SHARD}])
def test_transformers_loads_what_we_write(model, tmp_path, rescale_every, options):
    folder = written(model, tmp_path / "ours", rescale_every=rescale_every, **options)

    theirs = assert_transformers_loads(folder, model)

    assert theirs.rwkv.layers_are_rescaled  # the logits were those of divided weights
    assert theirs.config.rescale_every == rescale_every
    assert theirs.generation_config.eos_token_id == 0
    assert read_folder(folder).details == {"rescale_every": rescale_every, "context_length": 1024}


@pytest.mark.parametrize(
    ("n_layer", "n_embd"),
    [
        (2, 64),
        (4, 128),
        pytest.param(6, 512, marks=pytest.mark.slow),
        pytest.param(12, 768, marks=pytest.mark.slow),
    ],
)
@torch.no_grad()
def test_models_of_every_size_go_both_ways(tmp_path, n_layer, n_embd):
    V = 50277 * n_embd // 768
    model = with_large_stream(random_rwkv4(n_layer=n_layer, n_embd=n_embd, vocab_size=V))
    theirs = assert_transformers_loads(written(model, tmp_path / "ours"), model)

    theirs.train()(random_tokens(1, 1))  # multiplies what evaluating had divided
    theirs.save_pretrained(tmp_path / "theirs")

    loaded = read_folder(tmp_path / "theirs").model(None, None)
    for name, weight in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], weight), name


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("max_shard_bytes", [10**9, SMALL_SHARD, 1])
def test_every_byte_comes_back(model, tmp_path, dtype, max_shard_bytes):
    model.to(dtype)
    folder = written(model, tmp_path / "ours", max_shard_bytes=max_shard_bytes)

    entries = read_folder(folder).open_to_read()

    assert entries.keys() == model.state_dict().keys()
    for name, weight in model.state_dict().items():
        assert entries[name].dtype == dtype
        assert torch.equal(entries[name].read().view(torch.uint8), weight.view(torch.uint8)), name


@pytest.mark.parametrize("dtype", DTYPES)
def test_transformers_takes_the_dtype_that_is_stored(model, tmp_path, dtype):
    transformers = pytest.importorskip("transformers", reason="needs the transformers oracle")
    folder = written(with_matrices(model, dtype), tmp_path / "ours")

    theirs = transformers.RwkvForCausalLM.from_pretrained(folder, dtype="auto")

    # Of a float16 model it keeps `time_decay` and `time_first` in float32.
    assert {each.dtype for each in theirs.parameters() if each.ndim == 2} == {dtype}


def test_the_config_is_that_of_transformers(model, folder, tmp_path):
    theirs = json.loads(
        (saved_by_transformers(model, tmp_path / "theirs") / "config.json").read_text()
    )
    ours = json.loads((folder / "config.json").read_text())

    assert set(theirs) - set(ours) == {"transformers_version", "use_cache"}
    assert ours == {key: theirs[key] for key in ours} | {"rescale_every": 6}


def test_a_model_whose_embedding_is_normalised_already_is_not_written(tmp_path):
    config = RWKV4Config(n_layer=2, n_embd=64, vocab_size=256, ln0=False)

    with pytest.raises(CheckpointError, match=r"must hold the norm 'blocks.0.ln0'"):
        write_folder(tmp_path, config, {}, None)

    assert list(tmp_path.iterdir()) == []


def test_names_go_to_transformers_and_back(model):
    for name in model.state_dict():
        assert their_name(name) == transformers_name(name)
        assert our_name(their_name(name)) == name


@pytest.mark.parametrize(
    "name", ["emb.weight", "rwkv.emb.weight", "rwkv.head.weight", "rwkv.blocks.0.att.key.weight"]
)
def test_a_name_that_transformers_does_not_give_is_none(name):
    assert our_name(name) == name


def test_a_tied_head_is_the_embedding(tmp_path):
    transformers = pytest.importorskip("transformers", reason="needs the transformers oracle")
    model = random_rwkv4(n_layer=2, n_embd=64, vocab_size=256)
    with torch.no_grad():
        model.head.weight.copy_(model.emb.weight)
    theirs = transformers_model(model.state_dict(), model.config)
    theirs.config.tie_word_embeddings = True
    theirs.tie_weights()
    theirs.save_pretrained(tmp_path / "tied")
    theirs.rwkv.save_pretrained(tmp_path / "bare")  # its names have no "rwkv."

    for folder in (tmp_path / "tied", changed(tmp_path / "bare", tie_word_embeddings=True)):
        loaded = read_folder(folder).model(None, None)
        assert_same_logits(loaded, transformers.RwkvForCausalLM.from_pretrained(tmp_path / "tied"))
        with torch.no_grad():
            loaded.head.weight.zero_()
        assert torch.equal(loaded.emb.weight, model.emb.weight)


def test_a_bare_model_is_refused(model, tmp_path):
    transformers_model(model.state_dict(), model.config).rwkv.save_pretrained(tmp_path / "bare")

    with pytest.raises(CheckpointError, match="a bare `RwkvModel` predicts no tokens"):
        read_folder(tmp_path / "bare")


def test_a_tensor_with_and_without_its_prefix_is_refused(model, tmp_path):
    folder = saved_by_transformers(model, tmp_path / "theirs", layout="bin")
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    weights["embeddings.weight"] = torch.zeros(256, 64)
    torch.save(weights, folder / "pytorch_model.bin")

    with pytest.raises(CheckpointError, match="must hold each tensor once"):
        read_folder(folder)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "rwkv5"}, "`model_type` 'rwkv5' is that of an RWKV-5, which this version"),
        ({"model_type": "rwkv6"}, "is that of an RWKV-6, which this version does not support yet"),
        ({"model_type": "rwkv6qwen2"}, "is that of an RWKV-6, which this version"),
        ({"model_type": "rwkv7"}, "is that of an RWKV-7, which this version"),
        ({"model_type": "llama"}, "`model_type` in {path} must be 'rwkv', but it is 'llama'"),
        ({"model_type": 4}, "`model_type` in {path} must be 'rwkv', but it is 4"),
        ({"vocab_size": None}, "`vocab_size` in {path} must be an integer of at least 1"),
        ({"vocab_size": 0}, "must be an integer of at least 1, but it is 0"),
        ({"hidden_size": "64"}, "`hidden_size` in {path} must be an integer of at least 1"),
        ({"hidden_size": 64.0}, "but it is 64.0"),
        ({"num_hidden_layers": True}, "`num_hidden_layers` in {path} must be an integer"),
        ({"attention_hidden_size": 128}, "`attention_hidden_size` in {path} must be 64"),
        ({"intermediate_size": 64}, "`intermediate_size` in {path} must be 256"),
        ({"layer_norm_epsilon": 1e-6}, "`layer_norm_epsilon` in {path} must be 1e-05"),
        ({"rescale_every": 2.5}, "`rescale_every` in {path} must be an integer, but it is 2.5"),
        ({"context_length": "long"}, "`context_length` in {path} must be an integer"),
        ({"tie_word_embeddings": 1}, "`tie_word_embeddings` in {path} must be true or false"),
        ({"quantization_config": {"bits": 4}}, "must be that of plain weights, but it has"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(folder, change, words):
    with pytest.raises(CheckpointError) as raised:
        read_folder(changed(folder, **change))

    assert words.format(path=repr(str(folder / "config.json"))) in str(raised.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_hidden_layers": 8}, "missing ['blocks.7.ln1.weight'"),
        ({"num_hidden_layers": 6}, "unknown ['blocks.6."),
        ({"num_hidden_layers": 10**15}, "1000000000000000 layers"),
        ({"vocab_size": 10**15}, "must have the shape [1000000000000000, 64]"),
        (
            {"hidden_size": 32, "attention_hidden_size": None, "intermediate_size": None},
            "must have the shape [256, 32], but it has [256, 64]",
        ),
    ],
)
def test_sizes_that_are_not_those_of_the_weights_are_refused(folder, change, words):
    with pytest.raises(CheckpointError) as raised:
        read_folder(changed(folder, **change)).model(None, None)

    assert words in str(raised.value)


def test_what_a_config_may_leave_out_is_taken_as_transformers_takes_it(model, folder):
    optional = [
        *("attention_hidden_size", "intermediate_size", "layer_norm_epsilon", "rescale_every"),
        *("context_length", "tie_word_embeddings", "architectures", "dtype"),
    ]

    stored = read_folder(changed(folder, **dict.fromkeys(optional)))

    assert stored.details == {"rescale_every": 6, "context_length": 1024}
    check_weights(folder, model, stored.model(None, None).state_dict())


@pytest.mark.parametrize("name", ["attention.ln_x.weight", "attention.time_faaaa"])
def test_weights_of_a_later_version_under_the_type_of_rwkv4_are_recognised(model, tmp_path, name):
    folder = saved_by_transformers(model, tmp_path / "theirs", layout="bin")
    weights = torch.load(folder / "pytorch_model.bin", weights_only=True)
    weights[f"rwkv.blocks.0.{name}"] = torch.zeros(64)
    torch.save(weights, folder / "pytorch_model.bin")

    with pytest.raises(CheckpointError, match="must be an RWKV-4, but it is an RWKV-5"):
        read_folder(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_damage_to_json_is_refused_or_harmless(tmp_path, name):
    small = random_rwkv4(n_layer=2, n_embd=8, vocab_size=64)
    path = written(small, tmp_path / "ours", max_shard_bytes=2_000) / name
    content = path.read_bytes()
    draw = random.Random(0)
    refused = 0
    for _ in range(250):
        damaged = bytearray(content)
        place = draw.randrange(len(damaged))
        length = draw.choice([0, 1, 1, 20])
        damaged[place : place + length] = draw.choice(
            [b"", b"9" * 30, b"e400", b"[[", b"\xff", b"/"]
        )
        path.write_bytes(damaged)
        try:
            read_folder(path.parent).model(None, None)
        except CheckpointError:
            refused += 1

    assert refused > 150
