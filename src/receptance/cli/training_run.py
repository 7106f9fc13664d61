"""A training run as the command line sees it: its stores, its panel, its samples and its end."""

import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple

from receptance.cli.panel import TrainingPanel
from receptance.cli.run_data import (
    Stores,
    first_of,
    held_out_measure,
    open_stores,
    run_batches,
    tokens_per_byte,
    with_stores,
)
from receptance.data import TokenStore
from receptance.inference import LanguageModel
from receptance.ops.shortage import explaining_shortage
from receptance.training import (
    Heartbeat,
    Hooks,
    Metrics,
    Ranks,
    RunConfig,
    TensorBoardMirror,
    Yardsticks,
    connected,
    keep_freed_memory,
    memory_remedies,
    open_run,
    peak_flops_per_s,
    run_lock,
    save_finished,
    train,
    whole_model,
)

if TYPE_CHECKING:
    from receptance.models import RWKV4

EXIT_RESUMABLE = 75


class Outcome(NamedTuple):
    """How a run ended."""

    is_finished: bool
    model_folder: Path
    step: int
    is_first: bool
    """Whether this process is the rank that tells of it."""


def run_training(
    config: RunConfig, folder: Path, *, resume: str, tensorboard: bool = False
) -> Outcome:
    """Train as `config` says, in `folder`, from the newest checkpoint if there is one.

    With `tensorboard` the figures are mirrored in the run's folder `tensorboard`.

    Under `torchrun` each process is a rank of the run. Ctrl-C and SIGTERM end the run after the
    step at hand, with a checkpoint; a second one ends it at once.
    """
    keep_freed_memory()
    stores = open_stores(config)
    store = first_of(stores)
    config = with_stores(config, stores)
    model_config = config.model.build(store.vocab_size)
    batches = run_batches(stores, config)
    with (
        connected(config.training.device_type) as ranks,
        run_lock(folder) if ranks.is_first else nullcontext(),
        TrainingPanel(
            config.name,
            config.training.steps,
            has_held_out=any(each.valid.n_documents for each in stores.values()),
            is_shown=ranks.is_first,
        ) as panel,
        _mirror(folder, wanted=tensorboard and ranks.is_first) as mirror,
        _stop_signals(panel.stopping) as stopped,
        # Innermost: while it finds out which rank is lost, `torchrun` sends a signal to end.
        Heartbeat(folder, ranks) as beat,
        explaining_shortage(
            "training", ranks.device, lambda: memory_remedies(config, ranks.world_size)
        ),
    ):
        run = open_run(
            config, folder, model_config, tokenizer=store.tokenizer, resume=resume, ranks=ranks
        )
        if run.begin.progress.step:
            panel.message(f"going on after step {run.begin.progress.step:,}")
        hooks = Hooks(
            log=_both(panel.log, mirror),
            validate=held_out_measure(stores, config),
            sample=lambda model, step: panel.message(_sample(model, store, config, step)),
            should_stop=stopped,
            beat=beat,
            origins=lambda first, n: [each._asdict() for each in batches.samples(first, n)],
        )
        progress = train(
            run.config,
            folder,
            run,
            batches.batch,
            hooks,
            ranks=ranks,
            yardsticks=_yardsticks(config, stores, ranks),
        )
        is_finished = progress.step >= config.training.steps
        model = whole_model(run.model, ranks) if is_finished else None
        if model is not None:
            save_finished(model, run.config, store.tokenizer, folder / "model")
    return Outcome(is_finished, folder / "model", progress.step, ranks.is_first)


@contextmanager
def _mirror(folder: Path, *, wanted: bool) -> Iterator[Callable[[Metrics], None]]:
    """Yield what mirrors the figures of a step for TensorBoard, where that is wanted."""
    if not wanted:
        yield lambda _: None
        return
    with closing(TensorBoardMirror(folder / "tensorboard")) as mirror:
        yield mirror.append


def _both(
    first: Callable[[Metrics], None], second: Callable[[Metrics], None]
) -> Callable[[Metrics], None]:
    """Return what gives the figures of a step to two."""

    def log(metrics: Metrics) -> None:
        first(metrics)
        second(metrics)

    return log


def _yardsticks(config: RunConfig, stores: Stores, ranks: Ranks) -> Yardsticks:
    """Return what the figures are measured by; takes a second, on all ranks at the same time."""
    (peak,) = ranks.mean(peak_flops_per_s(config.training.precision, ranks.device.type))
    return Yardsticks(
        tokens_per_byte=tokens_per_byte(stores, config),
        peak_flops_per_s=peak * ranks.world_size,
    )


def _sample(model: "RWKV4", store: TokenStore, config: RunConfig, step: int) -> str:
    lm = LanguageModel(model, store.tokenizer, initial_state=model.start_state(1).detach())
    prompt = config.every.sample_prompt
    n_tokens = config.every.sample_tokens
    try:
        written = lm.generate(
            prompt, max_tokens=n_tokens, temperature=0.8, top_p=0.9, seed=config.seed
        ).text
    except ValueError as error:  # of a model that diverged, which is the loop's to end
        written = f"no text: {error}"
    return f"after step {step:,}:\n{prompt}{written}"


@contextmanager
def _stop_signals(tell: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether the run was asked to stop; `tell` is called when it is.

    A second signal is a KeyboardInterrupt.
    """
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        del number, frame
        if asked:
            raise KeyboardInterrupt
        asked = True
        tell()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
