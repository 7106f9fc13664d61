"""Tensors on disk are those that were given, where the processor reads them best."""

import json
import subprocess
import sys
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from receptance.tensor_file import (
    ALIGNMENT,
    Entry,
    map_tensors,
    tensor_file_parts,
    tensors_of_bytes,
    write_tensors,
)

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.uint8]


def header(content: bytes) -> tuple[int, dict]:
    """Return where the tensors begin in a safetensors file, and its description of them."""
    begin = 8 + int.from_bytes(content[:8], "little")
    return begin, json.loads(content[8:begin])


@given(
    forms=st.lists(
        st.tuples(st.sampled_from(DTYPES), st.lists(st.integers(0, 5), max_size=3)), max_size=6
    )
)
def test_the_library_reads_back_what_was_written(tmp_path_factory, forms):
    path = tmp_path_factory.getbasetemp() / "tensors.safetensors"
    tensors = {f"t{i}": torch.randn(shape).to(dtype) for i, (dtype, shape) in enumerate(forms)}

    write_tensors(path, tensors)

    found = load_file(path)
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert found[name].shape == tensor.shape
        assert torch.equal(found[name], tensor)


def test_tensors_lie_at_multiples_of_64_bytes(tmp_path):
    path = tmp_path / "tensors.safetensors"
    tensors = {
        "half": torch.randn(32, 16).bfloat16(),
        "a name of an odd length": torch.randn(48),
        "double": torch.randn(8).double(),
    }

    write_tensors(path, tensors)

    begin, entries = header(path.read_bytes())
    assert begin % ALIGNMENT == 0
    places = {name: begin + entries[name]["data_offsets"][0] for name in tensors}
    assert [name for name, place in places.items() if place % ALIGNMENT] == []
    with safe_open(path, framework="pt") as file:
        assert file.get_tensor("half").data_ptr() % ALIGNMENT == 0


@pytest.mark.parametrize("length", range(1, 70, 7))
def test_the_tensors_begin_aligned_whatever_the_length_of_a_name(tmp_path, length):
    path = tmp_path / "tensors.safetensors"

    write_tensors(path, {"n" * length: torch.ones(1)})

    assert header(path.read_bytes())[0] % ALIGNMENT == 0


def test_wider_numbers_come_first_so_that_all_can_be_addressed(tmp_path):
    path = tmp_path / "tensors.safetensors"

    write_tensors(path, {"half": torch.ones(3).half(), "float": torch.ones(3)})

    _, entries = header(path.read_bytes())
    assert entries["float"]["data_offsets"] == [0, 12]
    assert entries["half"]["data_offsets"] == [12, 18]


def test_what_would_move_others_comes_last_of_its_width(tmp_path):
    path = tmp_path / "tensors.safetensors"
    odd, even = torch.zeros(7, 9, dtype=torch.uint8), torch.zeros(64, dtype=torch.uint8)

    write_tensors(path, {"odd": odd, "even": even, "float": torch.ones(16)})

    _, entries = header(path.read_bytes())
    assert entries["float"]["data_offsets"] == [0, 64]
    assert entries["even"]["data_offsets"] == [64, 128]
    assert entries["odd"]["data_offsets"] == [128, 191]


def test_an_entry_is_read_when_its_turn_comes_and_let_go_before_the_next():
    alive: list[weakref.ref] = []
    asked: list[str] = []

    def entry(name: str) -> Entry:
        def read() -> torch.Tensor:
            assert all(each() is None for each in alive)
            asked.append(name)
            tensor = torch.full((2, 3), float(len(asked)))
            alive.append(weakref.ref(tensor))
            return tensor

        return Entry(torch.float32, (2, 3), read)

    parts = tensor_file_parts({name: entry(name) for name in "abc"})
    assert asked == []
    written = [bytes(part) for part in parts]
    assert asked == ["a", "b", "c"]

    expected = {name: torch.full((2, 3), float(i)) for i, name in enumerate("abc", 1)}
    assert written == [bytes(part) for part in tensor_file_parts(expected)]


def test_an_entry_that_reads_as_another_shape_is_a_bug():
    parts = tensor_file_parts({"a": Entry(torch.float32, (2,), lambda: torch.ones(3))})
    next(parts)
    with pytest.raises(AssertionError):
        next(parts)


def test_a_view_is_written_as_what_it_shows(tmp_path):
    path = tmp_path / "tensors.safetensors"
    whole = torch.arange(12.0).view(3, 4).requires_grad_()

    write_tensors(path, {"turned": whole.T, "part": whole[1:, ::2]})

    found = load_file(path)
    assert torch.equal(found["turned"], whole.T)
    assert torch.equal(found["part"], whole[1:, ::2])


def test_texts_are_kept_beside_the_tensors(tmp_path):
    path = tmp_path / "tensors.safetensors"

    write_tensors(path, {"a": torch.ones(1)}, {"model": "né\n", "": "empty"})

    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"format": "pt", "model": "né\n", "": "empty"}


def test_a_file_without_tensors_is_one_too(tmp_path):
    write_tensors(tmp_path / "none.safetensors", {})

    assert load_file(tmp_path / "none.safetensors") == {}


def test_the_same_tensors_are_the_same_bytes(tmp_path):
    tensors = {"a": torch.randn(5), "b": torch.randn(2, 2)}

    write_tensors(tmp_path / "one", tensors, {"x": "y"})
    write_tensors(tmp_path / "other", tensors, {"x": "y"})

    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_a_full_disk_is_an_error_of_the_operating_system(tmp_path):
    # A limit on the size of a file stands for the disk; the signal that comes with it is ignored.
    script = f"""
import resource, signal, torch
from receptance.tensor_file import write_tensors
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
try:
    write_tensors(Path({str(tmp_path / "big")!r}), {{"a": torch.zeros(1 << 16)}})
except OSError as error:
    print(type(error).__name__, error.errno)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert result.stdout == "OSError 27\n", result.stderr


def test_the_parts_are_the_file(tmp_path):
    tensors = {"a": torch.randn(5, 3), "none": torch.zeros(0), "b": torch.randn(2, 2).bfloat16()}

    write_tensors(tmp_path / "file", tensors, {"x": "y"})

    assert b"".join(tensor_file_parts(tensors, {"x": "y"})) == (tmp_path / "file").read_bytes()


def test_a_dense_tensor_is_not_copied():
    tensor = torch.zeros(4)
    _, part = tensor_file_parts({"a": tensor})

    tensor.fill_(1)

    assert bytes(part) == b"\x00\x00\x80?" * 4


def test_a_dtype_that_no_file_has_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(KeyError):
        write_tensors(tmp_path / "file", {"a": torch.zeros(1, dtype=torch.complex64)})
    assert not (tmp_path / "file").exists()


def test_a_mapped_file_has_the_tensors_that_were_written(tmp_path):
    tensors = {
        "wide": torch.arange(6, dtype=torch.float64).view(2, 3),
        "narrow": torch.arange(5).bfloat16(),
        "bytes": torch.arange(7, dtype=torch.uint8),
    }
    write_tensors(tmp_path / "file", tensors, {"a": "b"})

    found = map_tensors(tmp_path / "file")

    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def described(**changes: object) -> dict:
    """Return the header of one number, with changes."""
    return {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **changes}}


def _file_of(header: object, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"short", "must have a header"),
        ((1 << 40).to_bytes(8, "little") + b"{}", "must end within the file"),
        (_file_of(b"{"), "Expecting property name"),
        (_file_of([1]), "must describe tensors"),
        (_file_of({"a": {"dtype": "F32"}}), "must have a dtype, a shape and"),
        (
            _file_of({"a": {"dtype": "X", "shape": [1], "data_offsets": [0, 4]}}),
            "must be of one of",
        ),
        (_file_of(described(shape=[2], data_offsets=[0, 8]), b"1234"), "must end at byte"),
        (_file_of(described(shape=[2], data_offsets=[0, 4]), b"1234"), "within"),
        (_file_of(described(shape=[-1], data_offsets=[4, 0]), b"1234"), "must have sizes and two"),
        (_file_of(described(shape=[0, 1 << 60], data_offsets=[0, 0])), "must have sizes and two"),
        (_file_of(described(shape=[1] * 9, data_offsets=[0, 4]), b"1234"), "must have sizes"),
        (_file_of(described(shape=[True], data_offsets=[0, 4]), b"1234"), "must have sizes"),
        (_file_of(described(shape=[1.0], data_offsets=[0, 4]), b"1234"), "must have sizes"),
        (_file_of(described(data_offsets=[0]), b"1234"), "must have sizes and two offsets"),
        (_file_of(described(more=1), b"1234"), "must have a dtype, a shape and data_offsets"),
        (_file_of(described() | {"b": described()["a"]}, b"1234"), "'b' must begin at byte 4"),
        (_file_of(described(), b"12345"), r"must end at byte \d+"),
        (_file_of(b'{"a": {"dtype": "F32", "dtype": "F32"}}'), "'dtype' must come once"),
        (_file_of(b'{"a": 1, "a": 2}'), "'a' must come once"),
        (_file_of({"__metadata__": 1}), "must be texts by name"),
        (_file_of({"__metadata__": {"a": 1}}), "must be texts by name"),
        (_file_of("{}".encode("utf-16")), "describe tensors"),
        (_file_of(b" " * 2_000_001), "have at most 2000000 bytes"),
        (_file_of(b"[" * 5000), "describe tensors"),
        (_file_of(b'{"a": ' + b"9" * 5000 + b"}"), "describe tensors"),
    ],
)
def test_what_is_no_whole_file_is_not_mapped(tmp_path, content, words):
    (tmp_path / "file").write_bytes(content)

    with pytest.raises(ValueError, match=words):
        map_tensors(tmp_path / "file")


def test_a_writable_map_can_be_written_and_leaves_the_file_as_it_is(tmp_path):
    write_tensors(tmp_path / "file", {"a": torch.zeros(3)})
    before = (tmp_path / "file").read_bytes()

    found = map_tensors(tmp_path / "file", writable=True)
    found["a"].fill_(7.0)

    assert found["a"].tolist() == [7.0, 7.0, 7.0]
    assert (tmp_path / "file").read_bytes() == before


def test_a_file_in_memory_has_the_tensors_and_the_texts():
    tensors = {"a": torch.randn(3, 4), "b": torch.arange(5, dtype=torch.uint8)}
    content = b"".join(tensor_file_parts(tensors, {"of": "ours"}))
    found, texts = tensors_of_bytes(content)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)
    assert texts == {"format": "pt", "of": "ours"}
    for wrong in (b"", b"1234567", content[:-1], content + b"0"):
        with pytest.raises(ValueError, match="must"):
            tensors_of_bytes(wrong)
