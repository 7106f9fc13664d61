"""The text of an experiment, named and hashed, and its tokens."""

import hashlib
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from paper.harness.experiment import Options
from receptance.data import TokenStore, prepare, standard_library


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
        files, held_out = options.texts, ()
        name = ", ".join(file.name for file in files)
    else:
        corpus = standard_library()
        files, held_out = tuple(corpus.train), tuple(corpus.held_out)
        name = f"the standard library of Python {platform.python_version()}"
    digest, n_bytes = hashlib.sha256(), 0
    for file in (*files, *held_out):
        data = file.read_bytes()
        digest.update(data)
        n_bytes += len(data)
    return Text(
        name=name, sha256=digest.hexdigest(), n_bytes=n_bytes, train=files, held_out=held_out
    )
