"""The text of an experiment, named and hashed, and its tokens."""

import hashlib
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from paper.harness.experiment import Options
from receptance.data import TokenStore, prepare, standard_library

PACKAGES = ("torch", "sympy", "networkx", "numpy")
"""What has much Python in it and is there wherever this package is: PyTorch and what it needs."""
_LIBRARY = f"the standard library of Python {platform.python_version()}"


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text that is trained on and measured by; whole documents of it are held out."""

    name: str
    sha256: str
    """Over the bytes of all files, in their order."""
    n_bytes: int
    train: tuple[Path, ...]
    held_out: tuple[Path, ...]
    """None where `prepare` chooses."""

    def entries(self) -> dict[str, Any]:
        """Return what a result says of its text."""
        return {
            key: value for key, value in asdict(self).items() if key not in ("train", "held_out")
        }

    def store(self, work: Path, tokenizer: str) -> TokenStore:
        """Return the tokens of the text, made once for each tokenizer.

        Args:
            work: Where stores are kept.
            tokenizer: As `receptance.data.prepare` takes it.
        """
        kind = Path(tokenizer).stem.replace(":", "-")
        folder = work / "stores" / f"{self.sha256[:12]}-{kind}"
        if (folder / "store.json").is_file():
            return TokenStore.open(folder)
        return prepare(self.train, tokenizer, folder, valid=self.held_out)


def text_of(options: Options) -> Text:
    """Return the text that the command line names, or the standard library of this Python."""
    if options.texts:
        return _read(", ".join(file.name for file in options.texts), options.texts, ())
    corpus = standard_library()
    return _read(_LIBRARY, corpus.train, corpus.held_out)


def larger_text_of(options: Options) -> Text:
    """Return the text that the command line names, or eight times as much as `text_of` does.

    What is added to the standard library, only for training, is the Python of `PACKAGES` without
    their tests; what is held out is the same.
    """
    if options.texts:
        return text_of(options)
    corpus = standard_library()
    train, names = [*corpus.train], [_LIBRARY]
    for package in PACKAGES:
        found = find_spec(package)
        assert found is not None
        assert found.origin is not None
        train += standard_library(n_held_out=0, folder=Path(found.origin).parent).train
        names.append(f"{package} {version(package)}")
    return _read(", ".join(names), train, corpus.held_out)


def _read(name: str, train: Sequence[Path], held_out: Sequence[Path]) -> Text:
    """Return a text of files, which are hashed in their order."""
    digest, n_bytes = hashlib.sha256(), 0
    for file in (*train, *held_out):
        data = file.read_bytes()
        digest.update(data)
        n_bytes += len(data)
    return Text(
        name=name,
        sha256=digest.hexdigest(),
        n_bytes=n_bytes,
        train=tuple(train),
        held_out=tuple(held_out),
    )
