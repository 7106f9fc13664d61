"""The result of an evaluation: its figures, and all that one must know to trust or repeat them.

As JSON it is one object. The figures of a text stand at its top, those of tasks in `tasks`; what
was not measured has no key. A perplexity that no number can hold is null.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError

from receptance.atomic import atomic_file
from receptance.errors import DataError
from receptance.evaluation.blocks import BlockSums
from receptance.evaluation.bootstrap import Estimate
from receptance.evaluation.measurement import Bin

FORMAT = "receptance-result"
FORMAT_VERSION = 1

FIGURES = {
    "bits_per_byte": "{:.4f}",
    "bits_per_token": "{:.4f}",
    "perplexity": "{:,.3f}",
    "word_perplexity": "{:,.3f}",
}
"""The figures of a text, and the pattern by which people read each."""

Number = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """A file that was read."""

    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """What was measured.

    Attributes:
        path: As it was given.
        fingerprint: The hash of its shape and weights, as they were after an adapter was merged
            and matrices were rounded; of stored rounded matrices, into which none is merged, the
            hash of them and of the adapter beside them. One for float32 and bfloat16.
        architecture: Its name, such as "rwkv4".
        parameters: How many there are.
        n_layer: Its layers.
        n_embd: Its channels.
        vocab_size: The tokens that it knows.
        matrices: The format in which it computed: a dtype, or "int8" or "int4".
        adapter: What was added to it, merged or beside it; None for none.
    """

    path: str
    fingerprint: str
    architecture: str
    parameters: int
    n_layer: int
    n_embd: int
    vocab_size: int
    matrices: str
    adapter: FileEntry | None = None


@dataclass(frozen=True, kw_only=True)
class TokenizerEntry:
    """What made the tokens; of the same sha256 are the same tokens."""

    name: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Interval:
    """The 95 % interval of a figure; null ends where the text was too short for one."""

    low: Number | None
    high: Number | None


@dataclass(frozen=True, kw_only=True)
class FormatFigure(Interval):
    """How far a model in another format is from itself, with the ends of the interval."""

    value: Number


@dataclass(frozen=True, kw_only=True)
class PositionEntry:
    """The mean nats of the tokens from place `first` to place `last` of their documents."""

    first: int
    last: int
    tokens: int
    nats: Number
    low: Number | None
    high: Number | None


@dataclass(frozen=True, kw_only=True)
class BlockEntry:
    """What was summed in each block of the texts, in their order: for differences of pairs."""

    nats: list[Number]
    tokens: list[int]
    bytes: list[int]
    words: list[int]


@dataclass(frozen=True, kw_only=True)
class TaskFigure:
    """A figure of a task, with its standard error; null where there is none.

    A value that no number can hold, of a perplexity of long continuations, is null.
    """

    value: Number | None
    stderr: Number | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """An evaluation. None is what was not measured.

    Attributes:
        model: What was measured.
        tokenizer: What made the tokens.
        settings: How it was measured, by name.
        versions: Of what measured it, and on what.
        date: When it was done, in UTC, as ISO 8601 writes it.
        seconds: How long it took.
        texts: The files of text, as they were given.
        text_sha256: The hash of what was predicted: the bytes of the documents, and for the end of
            each the byte 0xFF; of the same hash are the same text and the same documents.
        bits_per_byte: nats / (bytes log 2).
        bits_per_token: nats / (tokens log 2).
        perplexity: exp(nats / tokens).
        word_perplexity: exp(nats / words).
        nats: The cost of all tokens.
        tokens: How many were predicted, the end of each document among them.
        bytes: Of UTF-8 that they stand for.
        words: As `words.py` counts them.
        documents: How many there were.
        intervals: Of the figures above, by their names.
        by_position: The cost by the place in a document.
        blocks: The sums that intervals are drawn from.
        formats: How far the model is from itself in other formats.
        tasks: The figures of each task, by its name.
    """

    format: Literal["receptance-result"] = FORMAT
    format_version: Literal[1] = FORMAT_VERSION
    model: ModelEntry
    tokenizer: TokenizerEntry
    settings: dict[str, Any]
    versions: dict[str, str | int]
    date: str
    seconds: Number
    texts: list[str] | None = None
    text_sha256: str | None = None
    bits_per_byte: Number | None = None
    bits_per_token: Number | None = None
    perplexity: Number | None = None
    word_perplexity: Number | None = None
    nats: Number | None = None
    tokens: int | None = None
    bytes: int | None = None
    words: int | None = None
    documents: int | None = None
    intervals: dict[str, Interval] | None = None
    by_position: list[PositionEntry] | None = None
    blocks: BlockEntry | None = None
    formats: dict[str, dict[str, FormatFigure]] | None = None
    tasks: dict[str, dict[str, TaskFigure]] | None = None


_ADAPTER = TypeAdapter(Result)


def text_entries(sums: BlockSums, n_documents: int) -> dict[str, Any]:
    """Return what a result says of a text: the arguments of `Result` for its figures.

    Args:
        sums: Of its blocks.
        n_documents: How many documents it is.
    """
    figures = sums.figures()
    return {
        **{name: _finite(each.value) for name, each in figures.items()},
        "nats": float(sums.nats.sum()),
        "tokens": int(sums.tokens.sum()),
        "bytes": int(sums.bytes.sum()),
        "words": int(sums.words.sum()),
        "documents": n_documents,
        "intervals": {name: interval(each) for name, each in figures.items()},
        "blocks": BlockEntry(
            nats=[round(each, 6) for each in sums.nats.tolist()],
            tokens=[int(each) for each in sums.tokens.tolist()],
            bytes=[int(each) for each in sums.bytes.tolist()],
            words=[int(each) for each in sums.words.tolist()],
        ),
    }


def interval(estimate: Estimate) -> Interval:
    """Return the ends of a figure's interval."""
    return Interval(low=_finite(estimate.low), high=_finite(estimate.high))


def position_entries(bins: Sequence[Bin]) -> list[PositionEntry]:
    """Return what a result says of the cost by the place in a document."""
    return [
        PositionEntry(
            first=each.first, last=each.last, tokens=each.tokens, nats=each.nats.value,
            low=each.nats.low, high=each.nats.high,
        )
        for each in bins
    ]  # fmt: skip


def result_json(result: Result) -> str:
    """Return a result as one line of JSON, with a key only for what was measured."""
    has_text = result.tokens is not None
    entries = {
        key: value
        for key, value in asdict(result).items()
        if value is not None or (has_text and key in FIGURES)
    }
    return json.dumps(entries, allow_nan=False)


def save_result(result: Result, path: Path) -> None:
    """Write a result as a JSON file, whole or not at all.

    Raises:
        OSError: If it cannot be written.
    """
    with atomic_file(path) as staged:
        staged.write_text(result_json(result) + "\n")


def read_result(path: Path) -> Result:
    """Return the result that a file holds.

    Raises:
        DataError: If it holds none.
        OSError: If it cannot be read.
    """
    begin = f"{str(path)!r} must be a result that `receptance eval --output` wrote, but"
    try:
        entries = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{begin} it is not JSON ({error})") from None
    if not isinstance(entries, Mapping) or entries.get("format") != FORMAT:
        raise DataError(f"{begin} it has no `format` {FORMAT!r}; measure the model again")
    if entries.get("format_version") != FORMAT_VERSION:
        version = entries.get("format_version")
        raise DataError(
            f"{begin} its `format_version` is {version!r}, not {FORMAT_VERSION}; read it with the "
            "release that wrote it"
        )
    try:
        result = _ADAPTER.validate_python(entries)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise DataError(f"{begin} in `{place}` {first['msg'].lower()}") from None
    if result.blocks is not None and not _are_of_a_text(result.blocks):
        raise DataError(
            f"{begin} `blocks` does not hold the same number of nats, tokens, bytes and words, "
            "each of a text that has some; measure the model again"
        )
    return result


def _are_of_a_text(blocks: BlockEntry) -> bool:
    """Whether figures can be made of blocks."""
    columns = list(asdict(blocks).values())
    return len({len(each) for each in columns}) == 1 and all(sum(each) > 0 for each in columns)


def _finite(number: float | None) -> float | None:
    """Return a number that JSON can hold, or None."""
    return number if number is not None and math.isfinite(number) else None
