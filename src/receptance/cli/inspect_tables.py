"""What `receptance inspect` shows to people."""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from receptance.cli.terminal import printable

if TYPE_CHECKING:
    from rich.table import Table

    from receptance.checkpoint import Description, Difference
    from receptance.evaluation import Agreement

_WIDTH = 14
_FORMATS = {
    "native": "model folder of receptance",
    "official": "the authors' .pth",
    "huggingface": "Hugging Face folder",
    "ggml": "rwkv.cpp .bin",
}


def description_lines(description: "Description") -> list[str]:
    """Return what a checkpoint is, a line for each thing."""
    return [f"{name:<{_WIDTH}}{printable(text)}" for name, text in _described(description)]


def _described(of: "Description") -> Iterator[tuple[str, str]]:
    yield "path", of.path
    yield "format", ", ".join([_FORMATS[of.format], *_pairs(of.details)])
    if of.hub is not None:
        yield "hub", of.hub
    yield "architecture", ", ".join([of.architecture, *_pairs(of.sizes)])
    yield "parameters", f"{of.n_parameters:,}"
    dtypes = [f"{kind} {'/'.join(names)}" for kind, names in of.dtypes.items() if names]
    yield "dtypes", ", ".join(dtypes)
    if of.quantization is not None:
        yield "quantization", ", ".join(_pairs(of.quantization))
    if of.tokenizer is not None:
        found = of.tokenizer
        yield "tokenizer", f"{found.kind}, {found.vocab_size:,} ids, sha256 {found.sha256}"
    elif of.tokenizer_missing is not None:
        yield "tokenizer", f"none: {of.tokenizer_missing}"
    if of.initial_state is not None:
        whose = "of this model" if of.initial_state.is_of_model else "of another model"
        yield "initial state", f"{of.initial_state.file}, {whose}"
    yield "fingerprint", of.fingerprint or "none, for it is damaged"
    for name, value in of.provenance.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        yield name[: _WIDTH - 1].strip("_"), text[:400]
    yield "on disk", f"{sum(each.n_bytes for each in of.files):,} bytes"
    for file in of.files:
        yield "", f"{file.name}, {file.n_bytes:,} bytes, sha256 {file.sha256}"
    for problem in of.problems:
        yield "PROBLEM", problem


def _pairs(entries: dict[str, Any]) -> list[str]:
    return [f"{name} {value}" for name, value in entries.items()]


def tensor_table(description: "Description") -> "Table":
    """Return the tensors of a checkpoint and their ranges."""
    table = _table(["tensor", "shape", "dtype"], ["min", "max", "mean", "std", "not finite"])
    for each in description.tensors:
        figures = each.numbers
        table.add_row(
            *(_name(each.name), _shape(each.shape), each.dtype),
            *map(_figure, (figures.min, figures.max, figures.mean, figures.std)),
            f"{figures.n_not_finite:,}" if figures.n_not_finite else "",
        )
    return table


def difference_lines(found: "Difference") -> list[str]:
    """Return in a line or two what a comparison found."""
    said = {
        "identical": "identical: every tensor has the same shape, dtype and numbers",
        "same values in other dtypes": "the same values in other dtypes",
        "differs": "differs",
    }[found.verdict]
    return [f"{said}: {found.n_equal} tensors are equal, {len(found.tensors)} are not"]


def difference_table(found: "Difference") -> "Table":
    """Return the tensors in which two checkpoints differ."""
    table = _table(["tensor", "differs", "shape", "dtype"], ["numbers", "at most", "relative"])
    for each in found.tensors:
        shapes = ["none" if shape is None else _shape(shape) for shape in each.shapes]
        dtypes = ["none" if dtype is None else dtype for dtype in each.dtypes]
        share = None if not each.n_numbers else f"{(each.n_different or 0) / each.n_numbers:.1%}"
        figures = map(_figure, (each.max_abs, each.relative))
        table.add_row(_name(each.name), each.kind, _both(shapes), _both(dtypes), share, *figures)
    return table


def _both(sides: list[str]) -> str:
    """Return what two checkpoints have, once if they have the same."""
    return " / ".join(dict.fromkeys(sides))


def agreement_lines(agrees: "Agreement | str") -> list[str]:
    """Return what two models predict, beside each other, or why that is not known."""
    if isinstance(agrees, str):
        return [f"predictions not compared: {agrees}"]
    what = "of the text" if agrees.read == "text" else "without a meaning"
    return [
        f"predictions after {agrees.n_tokens} tokens {what}",
        f"  logits differ by at most  {agrees.max_abs_logit:.3g}",
        f"  same likeliest token      {agrees.same_likeliest:.1%}",
        f"  KL, nats a token          {agrees.kl_nats:.3g}",
    ]


def _table(left: list[str], right: list[str]) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in left:
        table.add_column(title, overflow="fold", min_width=28 if title == "tensor" else None)
    for title in right:
        table.add_column(title, justify="right", no_wrap=True)
    return table


def _name(name: str) -> str:
    from rich.markup import escape

    return escape(printable(name))


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "one number"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
