"""A whole benchmark: models of several formats and the machine's ceilings, measured in turn."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from receptance.benchmark.ceilings import MatrixCeiling, ReadCeiling
from receptance.benchmark.clock import Timed, alternate
from receptance.benchmark.decode import Decode, DecodeFigures, bytes_per_token
from receptance.benchmark.memory import peak_resident_bytes, resident_bytes
from receptance.benchmark.prefill import CHUNK_TOKENS, Prefill, PrefillFigures
from receptance.benchmark.random_weights import DTYPES
from receptance.models import RWKV4, ColumnLinear, RWKV4Config
from receptance.plotting import Chart, Curve


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How much is measured.

    Raises:
        ValueError: If a number is below 1, or the batch sizes do not ascend or are none.
    """

    batch_sizes: Sequence[int] = (1, 2, 4, 8, 16)
    """Ascending."""
    prompt_tokens: int = 512
    tokens: int = 64
    """How many tokens each sequence is fed in a round."""
    rounds: int = 5

    def __post_init__(self) -> None:
        numbers = (*self.batch_sizes, self.prompt_tokens, self.tokens, self.rounds)
        if not self.batch_sizes or min(numbers) < 1:
            raise ValueError(f"every number of the settings must be at least 1, got {self}")
        if sorted(set(self.batch_sizes)) != list(self.batch_sizes):
            raise ValueError(f"`batch_sizes` must ascend, got {list(self.batch_sizes)}")


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """What the machine did, measured between the models."""

    read_bytes_per_s: float
    matrix_flops_per_s: dict[str, float]
    """By the dtype of the matrices."""
    matrix_tokens: int
    """How many tokens the matrices met."""


@dataclass(frozen=True, kw_only=True)
class FormatFigures:
    """What was measured of the weights in one format."""

    bytes_per_token: float
    """What decoding a token must read, by the format: see `BYTES_PER_PARAMETER`."""
    held_bytes_per_token: int
    """The same, of what the model really holds."""
    weight_bytes: int
    """Of all that the model holds, the embedding included."""
    memory_bytes: int | None
    """By how much the process grew, with the model loaded and used; None where that is unknown.

    What an earlier format freed may be used again, and is then not counted: a process of its own
    for each format, as in `benchmarks/bench_load.py`, tells more.
    """
    decode: list[DecodeFigures]
    decode_reading_all: DecodeFigures | None
    """The first batch size with every weight read, also those that meet only 0; None where the
    format reads all in any case."""
    prefill: PrefillFigures


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a benchmark found; every speed is a median over rounds in which all take turns."""

    parameters: int
    n_layer: int
    n_embd: int
    vocab_size: int
    threads: int
    torch: str
    instruction_set: str
    """The most that PyTorch found in the processor."""
    settings: Settings
    ceilings: Ceilings
    formats: dict[str, FormatFigures]
    peak_memory_bytes: int | None
    """The most that the whole process held: all models, and what the ceilings are measured with."""


class _Subject:
    """A model in one format, with what is timed of it."""

    def __init__(self, make: Callable[[], RWKV4], settings: Settings) -> None:
        before = resident_bytes()
        self.model = make()
        self.prefill = Prefill(self.model, settings.prompt_tokens)
        packed_to_read_all = self.model.pack()
        packed = self.model.pack(skips_zeros=True)
        self.decodes = [
            Decode(self.model, packed, batch_size, settings.tokens)
            for batch_size in settings.batch_sizes
        ]
        by_columns = [each for each in self.model.modules() if isinstance(each, ColumnLinear)]
        self.reading_all = (
            Decode(self.model, packed_to_read_all, settings.batch_sizes[0], settings.tokens)
            if by_columns
            else None
        )
        after = resident_bytes()
        # The same matrices by rows are there for this comparison alone.
        twice = sum(each.columns.nbytes for each in by_columns)
        self.memory_bytes = None if before is None or after is None else after - before - twice

    @property
    def timed(self) -> list[Timed]:
        """What is timed, decoding first."""
        decodes = [*self.decodes, *([] if self.reading_all is None else [self.reading_all])]
        return [*(each.timed for each in decodes), self.prefill.timed]

    def figures(self, format: str, read: ReadCeiling, matrix: MatrixCeiling) -> FormatFigures:
        """Return what was measured."""
        bytes_per_step = bytes_per_token(self.model.config, format)
        held = {name: each.nbytes for name, each in self.model.state_dict().items()}
        embedding = sum(size for name, size in held.items() if name.startswith("emb."))
        return FormatFigures(
            bytes_per_token=bytes_per_step,
            held_bytes_per_token=sum(held.values()) - embedding,
            weight_bytes=sum(held.values()),
            memory_bytes=self.memory_bytes,
            decode=[each.figures(bytes_per_step, read, self.decodes[0]) for each in self.decodes],
            decode_reading_all=(
                None
                if self.reading_all is None
                else self.reading_all.figures(bytes_per_step, read, self.decodes[0])
            ),
            prefill=self.prefill.figures(matrix),
        )


def measure(
    models: Mapping[str, Callable[[], RWKV4]],
    settings: Settings,
    *,
    beside: Sequence[Timed] = (),
    tell: Callable[[str], None] = lambda _: None,
) -> Report:
    """Return how fast a model decodes and reads prompts in each format, beside the machine.

    In a round each format is decoded at each batch size, with a reading of memory between, and
    reads the prompt, with the matrix products after it. All models are in memory at once.

    Args:
        models: What loads or makes the model, by format: a key of `BYTES_PER_PARAMETER`.
        settings: How much is measured.
        beside: What else takes its turn in each round, such as another program's decoding; what
            that took is then in its `seconds`.
        tell: Told what is done, a line at a time.
    """
    subjects = {}
    for format, make in models.items():
        tell(f"{format}: loading")
        subjects[format] = _Subject(make, settings)
    config = next(iter(subjects.values())).model.config
    tell("measuring")
    read = ReadCeiling()
    matrix_tokens = min(settings.prompt_tokens, CHUNK_TOKENS)
    matrices = _matrix_ceilings(subjects, config, matrix_tokens)
    # Each is beside what it is held to: steps beside reading, a prompt beside products.
    cases: list[Timed] = [read.timed]
    for format, subject in subjects.items():
        *decodes, prefill = subject.timed
        for each in decodes:
            cases += [each, read.timed]
        cases += [prefill, matrices[_matrix_dtype(format)].timed]
    cases += beside
    for each in (read, *matrices.values()):
        each.timed.run()  # not counted
    alternate(cases, settings.rounds, tell)

    figures = {
        format: subject.figures(format, read, matrices[_matrix_dtype(format)])
        for format, subject in subjects.items()
    }
    rates = {dtype: each.flops_per_s for dtype, each in matrices.items()}
    return Report(
        parameters=config.n_parameters,
        n_layer=config.n_layer,
        n_embd=config.n_embd,
        vocab_size=config.vocab_size,
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        instruction_set=torch.backends.cpu.get_cpu_capability(),
        settings=settings,
        ceilings=Ceilings(
            read_bytes_per_s=read.bytes_per_s, matrix_flops_per_s=rates, matrix_tokens=matrix_tokens
        ),
        formats=figures,
        peak_memory_bytes=peak_resident_bytes(),
    )


def chart(report: Report) -> Chart:
    """Return tokens a second over the batch size, a line a format."""
    sizes = [float(size) for size in report.settings.batch_sizes]
    curves = [
        Curve(
            label=f"{format}, {figures.bytes_per_token / 1e9:.2f} GB a step",
            x=sizes,
            y=[each.tokens_per_s for each in figures.decode],
            style="dots",
        )
        for format, figures in report.formats.items()
    ]
    title = (
        f"tokens per second, {report.parameters / 1e6:,.0f} M parameters, {report.threads} threads"
    )
    return Chart(
        title=title, x_label="sequences side by side", x_range=(0.0, max(sizes)), curves=curves
    )


def _matrix_dtype(format: str) -> str:
    """Return the dtype whose products the prefill of a format is held to."""
    return "float32" if format == "float32" else "bfloat16"


def _matrix_ceilings(
    formats: Mapping[str, object], config: RWKV4Config, n_tokens: int
) -> dict[str, MatrixCeiling]:
    """Return those that the formats are held to."""
    wanted = {_matrix_dtype(format) for format in formats}
    return {
        name: MatrixCeiling(config, dtype, n_tokens)
        for name, dtype in DTYPES.items()
        if name in wanted
    }
