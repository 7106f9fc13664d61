"""What verbs share: which model, how it is loaded, and how it chooses tokens."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from receptance.inference import LanguageModel, SamplingParams

MAX_THREADS = 1024
"""As many as machines have cores; far more end the process without a word."""

_MODEL = (
    "is a model folder, a Hugging Face folder, an authors' .pth, an rwkv.cpp .bin, or a name on "
    "the hub: owner/name, owner/name@revision or owner/name/file.pth. A path that exists goes "
    "before a name."
)

_TWO_PRECISIONS = "--dtype and --quantize exclude each other: rounded matrices have no dtype"

_SAMPLING_OPTIONS = (
    click.option(
        "--max-tokens", type=click.IntRange(min=1), help="The most tokens to write.  [default: 256]"
    ),
    click.option(
        "--temperature",
        type=click.FloatRange(min=0),
        help="Divides the logits; 0 always takes the likeliest token.  [default: 1]",
    ),
    click.option(
        "--top-k", type=click.IntRange(min=0), help="Keep the K likeliest tokens.  [default: all]"
    ),
    click.option(
        "--top-p",
        type=click.FloatRange(0, 1, min_open=True),
        help="Keep the fewest tokens with this probability together.  [default: 1]",
    ),
    click.option(
        "--min-p",
        type=click.FloatRange(0, 1, max_open=True),
        help="Keep tokens at least this likely beside the likeliest.  [default: 0]",
    ),
    click.option(
        "--typical-p",
        type=click.FloatRange(0, 1, min_open=True),
        help="Keep the fewest tokens of usual surprise with this probability.  [default: 1]",
    ),
    click.option(
        "--repetition-penalty",
        type=click.FloatRange(min=0, min_open=True),
        help="Above 1: make tokens of the prompt and the text less likely.  [default: 1]",
    ),
    click.option(
        "--presence-penalty", type=float, help="Taken once from tokens in the text.  [default: 0]"
    ),
    click.option(
        "--frequency-penalty",
        type=float,
        help="Taken from tokens for each time they are in the text.  [default: 0]",
    ),
    click.option(
        "--penalty-decay",
        type=click.FloatRange(0, 1),
        help="Below 1: the frequency penalty forgets; the authors use 0.996.  [default: 1]",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0, 2**63 - 1),
        help="Gives the same text again.  [default: new]",
    ),
    click.option(
        "--stop",
        multiple=True,
        metavar="TEXT",
        help=r"End before this text; may be given again; \n and \t are understood.",
    ),
)

_LOADING_OPTIONS = (
    click.option(
        "--dtype",
        type=click.Choice(["float32", "bfloat16", "float16"]),
        help="Of the matrices; float16 is for GPUs.  [default: as stored]",
    ),
    click.option(
        "--quantize",
        type=click.Choice(["int8", "int4"]),
        help="Round the matrices to 8 or 4 bits a weight while they are read.",
    ),
    click.option(
        "--tokenizer",
        metavar="SOURCE",
        help="bytes, or the path of a vocabulary.  [default: the one beside the weights]",
    ),
    click.option(
        "--adapter",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Add an adapter that was trained for this model; it is merged into plain weights.",
    ),
    click.option(
        "--device",
        default="cpu",
        metavar="DEVICE",
        help="cpu, cuda, or auto for a GPU if there is one.  [default: cpu]",
    ),
    click.option(
        "--threads",
        type=click.IntRange(1, MAX_THREADS),
        help="To compute with.  [default: PyTorch's choice]",
    ),
)


def model_argument(
    name: str = "model", *, metavar: str = "MODEL", required: bool = True
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return what adds the argument that names a model, and to the help what it may be."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        function.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\n{metavar} {_MODEL}"
        shown = metavar if required else f"[{metavar}]"
        argument = click.argument(
            name, metavar=shown, required=required, type=click.Path(path_type=Path)
        )
        return argument(function)

    return add


def model_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose how a model is loaded, and how it chooses tokens."""
    for option in reversed(_SAMPLING_OPTIONS + _LOADING_OPTIONS):
        function = option(function)
    return function


def loading_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that choose how a model is loaded."""
    for option in reversed(_LOADING_OPTIONS):
        function = option(function)
    return function


def sampling_params(given: dict[str, Any]) -> "SamplingParams":
    """Return the params of the options that were given; take those options out of `given`."""
    from receptance.inference import SamplingParams

    names = SamplingParams.__dataclass_fields__.keys() & given.keys()
    options = {name: given.pop(name) for name in names}
    options["stop"] = tuple(
        text.replace(r"\n", "\n").replace(r"\t", "\t") for text in options["stop"]
    )
    try:
        return SamplingParams(**{k: v for k, v in options.items() if v is not None})
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def load_model(
    path: Path,
    *,
    dtype: str | None,
    quantize: str | None,
    tokenizer: str | None,
    adapter: Path | None,
    device: str,
    threads: int | None,
) -> "LanguageModel":
    """Return the model, as the loading options want it."""
    import torch

    from receptance.inference import load
    from receptance.ops.device import device_of

    if threads is not None:
        torch.set_num_threads(threads)
    if dtype is not None and quantize is not None:
        raise click.UsageError(_TWO_PRECISIONS)
    try:
        device_of(device)
    except ValueError as error:
        raise click.UsageError(str(error).replace("`device`", "--device")) from error
    return load(
        path, dtype=dtype, quantize=quantize, tokenizer=tokenizer, adapter=adapter, device=device
    )
