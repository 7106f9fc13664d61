"""The state as a value: rows, copies, and files that refuse what is not theirs."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close

from receptance.errors import StateError
from receptance.models import RWKV4, RWKV4State
from tests.random_models import random_rwkv4, random_tokens
from tests.tolerances import EXACT

FINGERPRINT = "0123456789abcdef" * 4
NAMES = ["time_mix_x", "channel_mix_x", "num", "den", "log_scale"]


@pytest.fixture(scope="module")
def model() -> RWKV4:
    return random_rwkv4(2, 8, 11)


@pytest.fixture
def state(model: RWKV4) -> RWKV4State:
    """Return the state of three sequences, with a graph behind it."""
    _, state = model(random_tokens(3, 5, 11))
    return state


def assert_same(found: RWKV4State, expected: RWKV4State) -> None:
    assert_close(found.tensors, expected.tensors, **EXACT)


def test_it_knows_its_tensors_and_how_many_sequences_it_is_of(state):
    assert list(state.tensors) == NAMES
    assert all(tensor is getattr(state, name) for name, tensor in state.tensors.items())
    assert state.batch_size == 3


def test_a_field_cannot_be_replaced(state):
    with pytest.raises(AttributeError, match="cannot assign to field 'num'"):
        state.num = state.den


def test_a_clone_shares_nothing(state):
    clone = state.detach().clone()
    assert_same(clone, state.detach())
    for tensor in clone.tensors.values():
        tensor.add_(1)
    for name, tensor in state.tensors.items():
        assert not torch.equal(tensor, clone.tensors[name])


def test_detaching_cuts_the_graph_and_keeps_the_numbers(state):
    assert state.num.requires_grad
    detached = state.detach()
    assert not any(tensor.requires_grad for tensor in detached.tensors.values())
    assert_close(detached.num, state.num.detach(), **EXACT)


@pytest.mark.parametrize("rows", [[0], [2, 0], [1, 1, 2], (0, 1, 2), torch.tensor([2, 1]), []])
def test_select_takes_rows_in_the_order_asked_for(state, rows):
    chosen = state.select(rows)
    assert chosen.batch_size == len(rows)
    for name, tensor in state.tensors.items():
        assert torch.equal(chosen.tensors[name], tensor[:, list(rows)])


def test_select_shares_no_storage(state):
    chosen = state.detach().select([0, 1, 2])
    assert chosen.num.data_ptr() != state.num.data_ptr()


def test_a_row_that_is_not_there_is_an_index_error(state):
    with pytest.raises(IndexError, match=r"^`rows` must lie in 0 to 2, got \[1, 3\]$"):
        state.select([1, 3])
    with pytest.raises(IndexError, match="got"):
        state.select([-1])


def test_concatenate_puts_selected_rows_together_again(state):
    pieces = [state.select([0]), state.select([1, 2])]
    assert_same(RWKV4State.concatenate(pieces), state)


def test_a_state_moves_to_a_device(state):
    moved = state.to("meta")
    assert {tensor.device.type for tensor in moved.tensors.values()} == {"meta"}
    assert_same(state.to("cpu"), state)


def test_a_saved_state_comes_back_and_goes_on(model, state, tmp_path):
    path = tmp_path / "s.safetensors"
    state.save(path, model.fingerprint())
    loaded = RWKV4State.load(path, like=model.zero_state(1), fingerprint=model.fingerprint())
    assert_same(loaded, state.detach())
    assert [each.name for each in tmp_path.iterdir()] == ["s.safetensors"]
    tokens = random_tokens(3, 4, 11, seed=7)
    assert torch.equal(model(tokens, loaded)[0], model(tokens, state)[0])


def test_a_path_may_be_text_and_an_old_file_is_replaced(model, state, tmp_path):
    path = str(tmp_path / "s.safetensors")
    state.save(path, FINGERPRINT)
    state.select([1]).save(path, FINGERPRINT)
    loaded = RWKV4State.load(path, like=model.zero_state(1), fingerprint=FINGERPRINT)
    assert loaded.batch_size == 1


def test_a_selected_a_concatenated_and_a_zero_state_can_be_saved(model, state, tmp_path):
    path = tmp_path / "s.safetensors"
    for each in (
        state.select([2, 0]),
        RWKV4State.concatenate([state, state]),
        model.zero_state(2),
        state._map(lambda tensor: tensor.transpose(0, 2).contiguous().transpose(0, 2)),
    ):
        each.save(path, FINGERPRINT)
        assert_same(
            RWKV4State.load(path, like=model.zero_state(1), fingerprint=FINGERPRINT), each.detach()
        )


def test_a_state_that_cannot_be_written_leaves_nothing(state, tmp_path):
    with pytest.raises(OSError, match=r"absent/s.safetensors' cannot be written"):
        state.save(tmp_path / "absent" / "s.safetensors", FINGERPRINT)
    assert list(tmp_path.iterdir()) == []


METADATA = {
    "format": "receptance-state",
    "format_version": "1",
    "architecture": "rwkv4",
    "model": FINGERPRINT,
}


def write(path: Path, tensors: dict[str, Tensor] | None = None, **metadata: str) -> None:
    """Write a state file of two layers and eight channels, changed where the test says."""
    good = {name: torch.ones(2, 3, 8) for name in NAMES}
    save_file(good if tensors is None else tensors, path, METADATA | metadata)


def load(path: Path) -> RWKV4State:
    like = RWKV4State(*torch.zeros(len(NAMES), 2, 1, 8))
    return RWKV4State.load(path, like=like, fingerprint=FINGERPRINT)


def refusal(path: Path) -> str:
    with pytest.raises(StateError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 4
    return str(caught.value).replace(repr(str(path)), "FILE")


def test_a_file_as_it_must_be_is_read(tmp_path):
    write(tmp_path / "s")
    assert load(tmp_path / "s").batch_size == 3


def test_a_missing_file_is_refused(tmp_path):
    assert refusal(tmp_path / "s") == "no state at FILE: the file does not exist"


def test_a_folder_is_refused(tmp_path):
    assert refusal(tmp_path).startswith("no state at FILE")


@pytest.mark.parametrize("content", [b"", b"a text, and no state", b"\xff" * 64])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "s").write_bytes(content)
    assert refusal(tmp_path / "s").startswith("FILE is not a safetensors file: ")


def test_a_pickle_is_refused_unread(tmp_path):
    torch.save({name: torch.ones(2, 3, 8) for name in NAMES}, tmp_path / "s")
    assert refusal(tmp_path / "s").startswith("FILE is not a safetensors file: ")


@pytest.mark.parametrize("kept", [0.99, 0.5, 0.01])
def test_a_truncated_file_is_refused(tmp_path, kept):
    write(tmp_path / "s")
    content = (tmp_path / "s").read_bytes()
    (tmp_path / "s").write_bytes(content[: int(kept * len(content))])
    assert refusal(tmp_path / "s").startswith("FILE is not a safetensors file: ")


def test_a_state_of_another_model_is_refused_with_both_fingerprints(tmp_path):
    write(tmp_path / "s", model="f" * 64)
    assert refusal(tmp_path / "s") == (
        f"FILE must be a state of this model, fingerprint {FINGERPRINT[:16]}, but it was made by "
        f"the model {'f' * 16}; load that model, quantized as it was, or make the state anew"
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [("format", "other"), ("format_version", "2"), ("architecture", "rwkv7")],
)
def test_another_format_version_or_architecture_is_refused(tmp_path, key, value):
    write(tmp_path / "s", **{key: value})
    assert (
        refusal(tmp_path / "s") == f"FILE must have {key} {METADATA[key]!r}, but it has {value!r}"
    )


def test_a_safetensors_file_of_weights_is_refused(tmp_path):
    save_file({"emb.weight": torch.ones(3, 3)}, tmp_path / "s")
    assert refusal(tmp_path / "s") == "FILE must have format 'receptance-state', but it has None"


def changed(name: str, tensor: Tensor) -> dict[str, Tensor]:
    return {each: torch.ones(2, 3, 8) for each in NAMES} | {name: tensor}


def test_a_missing_or_an_unknown_tensor_is_refused(tmp_path):
    some = {name: torch.ones(2, 3, 8) for name in NAMES if name != "den"}
    write(tmp_path / "s", some)
    assert refusal(tmp_path / "s") == (
        f"FILE must hold {sorted(NAMES)}, but it holds {sorted(some)}"
    )
    write(tmp_path / "s", changed("extra", torch.ones(2, 3, 8)))
    assert refusal(tmp_path / "s").endswith(f"but it holds {sorted([*NAMES, 'extra'])}")


@pytest.mark.parametrize("shape", [(3, 3, 8), (2, 3, 9), (2, 3), (8,), (), (2, 3, 8, 1)])
def test_a_tensor_of_another_shape_is_refused(tmp_path, shape):
    write(tmp_path / "s", changed("num", torch.ones(shape)))
    assert refusal(tmp_path / "s") == (
        "'num' in FILE must have the shape [2, B, 8] with B of at least 1, "
        f"but it has {list(shape)}"
    )


def test_tensors_of_different_batches_are_refused(tmp_path):
    write(tmp_path / "s", changed("num", torch.ones(2, 4, 8)))
    sizes = {name: 4 if name == "num" else 3 for name in sorted(NAMES)}
    assert refusal(tmp_path / "s") == (
        f"the tensors in FILE must be of the same batch size, but they are of {sizes}"
    )


def test_a_state_of_no_sequence_is_refused(tmp_path):
    write(tmp_path / "s", {name: torch.ones(2, 0, 8) for name in NAMES})
    assert "but it has [2, 0, 8]" in refusal(tmp_path / "s")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int32])
def test_another_dtype_is_refused(tmp_path, dtype):
    write(tmp_path / "s", changed("den", torch.ones(2, 3, 8, dtype=dtype)))
    assert refusal(tmp_path / "s") == f"'den' in FILE must be torch.float32, but it is {dtype}"


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_a_number_that_is_not_finite_is_refused(tmp_path, value):
    tensor = torch.ones(2, 3, 8)
    tensor[1, 2, 5] = value
    write(tmp_path / "s", changed("num", tensor))
    assert refusal(tmp_path / "s") == "'num' in FILE must be finite, but some of it is not"


def test_the_file_holds_the_tensors_and_says_whose_they_are(state, tmp_path):
    state.save(tmp_path / "s", FINGERPRINT)
    assert_close(load_file(tmp_path / "s"), state.detach().tensors, **EXACT)


def test_a_state_as_bytes_is_the_file_and_comes_back_with_its_notes(model, state, tmp_path):
    state = state.detach()
    notes = {"name": "ours", "model": "not this one"}
    content = state.to_bytes(FINGERPRINT, notes)
    found, told = RWKV4State.from_bytes(content, like=state, fingerprint=FINGERPRINT)
    assert_same(found, state)
    assert told == {"name": "ours"}
    (tmp_path / "s").write_bytes(content)
    assert_same(RWKV4State.load(tmp_path / "s", like=state, fingerprint=FINGERPRINT), state)
    found.num[0] = 7  # it shares nothing with the bytes
    assert content == state.to_bytes(FINGERPRINT, notes)
    zero = model.zero_state(1)
    zeros, _ = RWKV4State.from_bytes(zero.to_bytes("f"), like=zero, fingerprint="f")
    assert_same(zeros, zero)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("num", 1e31, "must lie within -1e"),
        ("den", -1e-3, "must lie within 0 and"),
        ("time_mix_x", -1e7, "must lie within -1e"),
        ("log_scale", torch.nan, "must be finite"),
    ],
)
def test_bytes_whose_numbers_no_model_comes_to_are_refused(model, name, value, words):
    state = model.zero_state(1)
    state.tensors[name][1, 0, 3] = value
    with pytest.raises(StateError, match=words):
        RWKV4State.from_bytes(state.to_bytes("f"), like=model.zero_state(1), fingerprint="f")


def test_bytes_that_are_no_state_of_as_many_sequences_of_this_model_are_refused(model):
    one, two = model.zero_state(1), model.zero_state(2)
    with pytest.raises(StateError, match="must have the shape"):
        RWKV4State.from_bytes(two.to_bytes("f"), like=one, fingerprint="f")
    with pytest.raises(StateError, match="must be a state of this model"):
        RWKV4State.from_bytes(one.to_bytes("g"), like=one, fingerprint="f")
    for content in (b"", one.to_bytes("f")[:-1], one.to_bytes("f") + b"x"):
        with pytest.raises(StateError, match="must be a safetensors file"):
            RWKV4State.from_bytes(content, like=one, fingerprint="f")
