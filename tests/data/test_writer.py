import hashlib
from pathlib import Path

import numpy as np
import pytest

from receptance.data.manifest import MaskManifest
from receptance.data.mask import Counted
from receptance.data.writer import BLOCK_BYTES, BlockHashes, MaskWriter, SplitWriter


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_documents_are_written_one_after_the_other(tmp_path: Path, dtype: str) -> None:
    with SplitWriter(tmp_path, "train", dtype, end_of_text=0) as writer:
        writer.append(np.array([5, 6]), n_bytes=10)
        writer.append(np.array([65535]), n_bytes=3)
        writer.end_document()
        writer.end_document()
        writer.append(np.array([7]), n_bytes=1)
        writer.end_document()
    tokens = np.fromfile(tmp_path / "train.bin", np.dtype(dtype).newbyteorder("<"))
    assert tokens.tolist() == [5, 6, 65535, 0, 0, 7, 0]
    documents = np.fromfile(tmp_path / "train.docs", "<u8").reshape(-1, 2)
    assert documents.tolist() == [[0, 13], [4, 0], [5, 1]]


def test_the_manifest_counts_and_hashes_what_is_in_the_files(tmp_path: Path) -> None:
    with SplitWriter(tmp_path, "valid", "uint16", end_of_text=1) as writer:
        writer.append(np.array([2, 3]), n_bytes=4)
        writer.end_document()
    manifest = writer.manifest()
    assert (manifest.tokens, manifest.bytes, manifest.documents) == (3, 4, 1)
    content = (tmp_path / "valid.bin").read_bytes()
    assert content == b"\2\0\3\0\1\0"
    assert manifest.sha256 == [hashlib.sha256(content).hexdigest()]
    documents = (tmp_path / "valid.docs").read_bytes()
    assert manifest.documents_sha256 == [hashlib.sha256(documents).hexdigest()]


@pytest.mark.parametrize("n_before", [0, 1, 3])
def test_what_is_written_on_is_what_is_written_at_once(tmp_path: Path, n_before: int) -> None:
    """In the midst of a document, after what was written and not synced was lost or not."""
    (tmp_path / "whole").mkdir()
    parts = [np.array([n, n + 1, n + 2]) for n in range(1, 6)]

    def write(writer: SplitWriter, which: list[np.ndarray]) -> None:
        for part in which:
            writer.append(part, n_bytes=5)
            if part[0] % 2 == 0:
                writer.end_document()

    with SplitWriter(tmp_path / "whole", "train", "uint16", 0) as whole:
        write(whole, parts)
    with SplitWriter(tmp_path, "train", "uint16", 0) as first:
        write(first, parts[:n_before])
        begun = first.sync()
        write(first, parts[:2])
    with SplitWriter(tmp_path, "train", "uint16", 0, begun) as second:
        write(second, parts[n_before:])
    assert second.manifest() == whole.manifest()
    for name in ("train.bin", "train.docs"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_file_that_exists_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "train.bin").write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        SplitWriter(tmp_path, "train", "uint16", end_of_text=0)
    assert (tmp_path / "train.bin").read_bytes() == b"precious"


def test_it_is_written_which_tokens_count(tmp_path: Path) -> None:
    with SplitWriter(tmp_path, "train", "uint16", end_of_text=0, has_mask=True) as writer:
        writer.append(np.array([5, 6, 7]), n_bytes=10, counted=Counted(0, 0))
        writer.append(np.array([8, 9]), n_bytes=3, counted=Counted(1, 2))
        writer.append(np.array([], np.int64), n_bytes=0)
        writer.append(np.array([4]), n_bytes=4)
        writer.end_document()
    content = (tmp_path / "train.mask").read_bytes()
    assert list(content) == [0, 0, 0, 1, 0, 1, 1]
    assert writer.manifest().mask == MaskManifest(
        tokens=3, bytes=6, sha256=[hashlib.sha256(content).hexdigest()]
    )


@pytest.mark.parametrize("n_bytes", [0, 1, BLOCK_BYTES, BLOCK_BYTES + 5])
def test_every_block_of_64_mebibytes_has_its_hash(n_bytes: int) -> None:
    data = np.arange(n_bytes, dtype=np.uint8).tobytes()
    hashes = BlockHashes()
    for begin in range(0, n_bytes, 5_000_003):
        hashes.update(memoryview(data)[begin : begin + 5_000_003])
    blocks = [data[begin : begin + BLOCK_BYTES] for begin in range(0, n_bytes, BLOCK_BYTES)]
    assert hashes.hexdigests() == [hashlib.sha256(block).hexdigest() for block in blocks]


def test_a_mask_is_a_byte_a_token(tmp_path: Path) -> None:
    writer = MaskWriter(tmp_path / "train.mask")
    writer.append(3, Counted(1, 5))
    writer.append(0, Counted(0, 0))
    writer.append(2, Counted(2, 7))
    writer.close()
    content = (tmp_path / "train.mask").read_bytes()
    assert content == b"\1\0\0\1\1"
    assert writer.manifest() == MaskManifest(
        tokens=3, bytes=12, sha256=[hashlib.sha256(content).hexdigest()]
    )
