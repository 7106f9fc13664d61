"""What `receptance train --dry-run` prints: what a run would do, cost and see."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from receptance.cli.terminal import printable
from receptance.errors import ConfigError

if TYPE_CHECKING:
    from receptance.cli.run_data import Stores
    from receptance.data import MixedBatches
    from receptance.models import RWKV4Config
    from receptance.ops.quantized_linear import QuantizedFormat
    from receptance.training import RunConfig

# Of the first sample so much is shown.
SAMPLE_CHARACTERS = 400
WIDTH = 100

Rows = list[tuple[str, str]]


def describe(config: "RunConfig", resume: str, *, world_size: int = 1) -> str:
    """Return what a run would do, for people, without allocating its model.

    Where its token store is not there yet, all that needs no data is told.

    Args:
        config: The run.
        resume: As `open_run` takes it.
        world_size: How many ranks would share it.

    Raises:
        ConfigError: If the run cannot be as it is described, or not on so many ranks, or has begun
            with other settings.
        CheckpointError: If there is something at `training.init_from` that cannot be read.
        DataError: If the store is damaged or too short, or is not there and the run does not say
            how large its vocabulary is.
    """
    if world_size > 1 and config.training.parallel == "none":
        raise ConfigError(
            f"`training.parallel` must be 'ddp' or 'fsdp2' for {world_size} ranks, got 'none'"
        )
    stores = _open_stores(config)
    vocab_size = config.model.vocab_size
    if stores:
        vocab_size = next(iter(stores.values())).vocab_size
    shape = config.model.build(vocab_size)
    begins_at = _begins_at(config, resume, stores)
    frozen = _frozen(config, begins_at)
    rows = [
        *_beginning(config, begins_at, stores, frozen),
        *_model(config, shape),
        ("time", _time(config, shape, world_size)),
        *_length(config, stores),
        *_learning_rates(config),
        *_memory(config, shape, world_size, frozen),
        *_groups(config, shape),
        *_data(config, stores),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}".rstrip() for name, value in rows)


def _open_stores(config: "RunConfig") -> "Stores | None":
    """Return the run's stores; None where one is not there and the run can do without."""
    from receptance.cli.run_data import open_stores

    paths = config.data.stores.values()
    if config.model.vocab_size and not all(Path(path).exists() for path in paths):
        return None
    return open_stores(config)


def _begins_at(config: "RunConfig", resume: str, stores: "Stores | None") -> Path | None:
    """Return the checkpoint that the run would go on from; None where a store is not there yet."""
    from receptance.cli.run_data import with_stores
    from receptance.training import checkpoint_to_resume

    if stores is None:
        return None
    return checkpoint_to_resume(with_stores(config, stores), Path("runs", config.name), resume)


def _frozen(config: "RunConfig", begins_at: Path | None) -> "QuantizedFormat | None":
    """Return the format of rounded weights that the run begins with, None for plain ones.

    What is still to be downloaded is taken for plain.
    """
    from receptance.training import frozen_quantization

    path = config.training.init_from
    # A run that has begun and trains all weights no longer reads it.
    is_read = begins_at is None or config.finetune.is_partial
    return frozen_quantization(config) if path and is_read and Path(path).exists() else None


def _beginning(
    config: "RunConfig",
    begins_at: Path | None,
    stores: "Stores | None",
    frozen: "QuantizedFormat | None",
) -> Rows:
    """Say where the run is kept, and what it goes on from or begins with."""
    from receptance.checkpoint import hub_name

    state = f"from {begins_at.name} on" if begins_at else "a new one"
    if stores is None:
        state = "which would be begun or gone on with once its store is there"
    rows = [("run", f"{Path('runs', config.name)}, {state}")]
    if init_from := config.training.init_from:
        found = "" if Path(init_from).exists() else ", which is not there yet"
        if hub_name(init_from) is not None:
            found = ", from the hub"
            if config.finetune.is_partial:
                found += ", taken here for plain weights"
        rounded = "" if frozen is None else f", rounded to {frozen.bits} bits"
        rows.append(("weights to begin with", f"{init_from}{found}{rounded}"))
    return rows


def _model(config: "RunConfig", shape: "RWKV4Config") -> Rows:
    """Say how large the model is, by part, and what a token costs."""
    from receptance.training import tokens_before
    from receptance.training.planning import (
        parameters_by_part,
        trained_parameters,
        training_flops_per_token,
    )

    size = f"L{shape.n_layer} D{shape.n_embd} V{shape.vocab_size}"
    parts = parameters_by_part(shape)
    flops = training_flops_per_token(config, shape)
    n_tokens = tokens_before(config.data, config.training.steps)
    trained = []
    if method := config.finetune.method:
        n_trained = trained_parameters(shape, config.finetune)
        share = n_trained / shape.n_parameters
        trained = [("fine-tuning", f"{method}: {n_trained:,} parameters, {share:.3%} of the model")]
    return [
        ("model", f"RWKV-4, {size}, {shape.n_parameters:,} parameters"),
        *trained,
        *((f"  {part}", f"{count:>16,}") for part, count in parts.items()),
        (
            "compute",
            f"{flops:.4e} FLOP a token ({shape.flops_per_token:.4e} forward), "
            f"{flops * n_tokens:.3e} in all",
        ),
    ]


def _time(config: "RunConfig", shape: "RWKV4Config", world_size: int) -> str:
    """Say how long the products take at least, by the speed of this machine's own."""
    import torch

    from receptance.training import peak_flops_per_s, tokens_before
    from receptance.training.planning import training_flops_per_token

    training = config.training
    if training.device_type == "cuda" and not torch.cuda.is_available():
        return "not told: the run is for GPUs, and there is none here to measure"
    n_tokens = tokens_before(config.data, training.steps)
    peak = peak_flops_per_s(training.precision, training.device_type)
    seconds = training_flops_per_token(config, shape) * n_tokens / peak / world_size
    machines = "this machine" if world_size == 1 else f"{world_size} machines like this one"
    return (
        f"at least {_in_words(seconds)} on {machines}, whose {training.precision} products reach "
        f"{peak / 1e9:,.0f} GFLOP/s"
    )


def _in_words(seconds: float) -> str:
    """Return a time in the largest unit of which there are two."""
    units = {"years": 31_556_952, "days": 86_400, "hours": 3600, "minutes": 60}
    name, size = next((unit for unit in units.items() if seconds >= 2 * unit[1]), ("seconds", 1))
    return f"{seconds / size:,.1f} {name}"


def _length(config: "RunConfig", stores: "Stores | None") -> Rows:
    """Say how many steps and tokens there are, and epochs of each source."""
    from receptance.cli.run_data import run_batches
    from receptance.data import Batches
    from receptance.training import tokens_before

    data, n_steps = config.data, config.training.steps
    steps = f"{n_steps:,} of {data.batch_size} × {data.ctx_len:,} tokens"
    if data.later_batch_size:
        steps = (
            f"{data.later_batch_step:,} of {data.batch_size} × {data.ctx_len:,} tokens, then "
            f"{n_steps - data.later_batch_step:,} of {data.later_batch_size} × {data.ctx_len:,}"
        )
    if data.segments > 1:
        steps += f"; a sample of {data.segments * data.ctx_len:,} is read in {data.segments} steps"
    n_tokens = tokens_before(data, n_steps)
    epochs = "epochs unknown without the store"
    mixture: Rows = []
    if stores is not None:
        batches = run_batches(stores, config)
        if isinstance(batches, Batches):
            epochs = f"{n_tokens / batches.epoch_tokens:.2f} epochs of the store"
            if data.order == "authors":
                epochs += f", {batches.n_samples:,} samples each, the prime of the authors' order"
        else:
            epochs = f"of {len(stores)} sources"
            mixture = _mixture(batches, n_tokens)
    return [("steps", steps), ("tokens", f"{n_tokens:,}, {epochs}"), *mixture]


def _mixture(batches: "MixedBatches", n_tokens: int) -> Rows:
    """Say what share each source has, and how often the run reads it."""
    rows: Rows = []
    for name, source, share in zip(batches.names, batches.sources, batches.shares, strict=True):
        n_epochs = n_tokens * share / batches.period / source.epoch_tokens
        figures = f"{share} of {batches.period} samples, {n_epochs:.2f} epochs of it"
        rows.append((f"  {printable(name)}", figures))
    return rows


def _learning_rates(config: "RunConfig") -> Rows:
    """Say what the learning rate is at the marks of the schedule; steps as the metrics count."""
    from receptance.training import marks, plan_step, tokens_before

    schedule = config.schedule
    head = f"{'rate':<12} {'step':>13} {'tokens before':>21} {'batch':>6}"
    rows = [("learning rate", f"{head}  {schedule.kind}")]
    for step, label in marks(config).items():
        plan = plan_step(config, step)
        before = tokens_before(config.data, step)
        figures = f"{plan.lr:<12.3e} {step + 1:>13,} {before:>21,} {plan.batch_size:>6,}"
        rows.append((f"  {label}", figures))
    return rows


def _memory(
    config: "RunConfig",
    shape: "RWKV4Config",
    world_size: int,
    frozen: "QuantizedFormat | None",
) -> Rows:
    """Say what a rank needs of memory, by part."""
    from receptance.training import micro_batch_rows
    from receptance.training.planning import rank_memory

    data = config.data
    memory = rank_memory(config, shape, world_size, frozen)
    rows = [micro_batch_rows(data, size, world_size) for size in data.batch_sizes]
    shared = f"each of {world_size} ranks ({config.training.parallel})" if world_size > 1 else "all"
    total = sum(memory.values())
    scale, unit = (10**9, "GB") if total >= 10**9 else (10**6, "MB")
    return [
        ("memory", f"{total / scale:.2f} {unit} in {shared}, for {max(rows)} sequences at once"),
        *((f"  {part}", f"{n_bytes / scale:>9.3f} {unit}") for part, n_bytes in memory.items()),
    ]


def _groups(config: "RunConfig", shape: "RWKV4Config") -> Rows:
    """Say which parameters the optimizer moves how."""
    from receptance.training.planning import groups_sha256, parameter_groups

    groups = parameter_groups(shape, config.optimizer, config.finetune)
    rows = [("parameter groups", f"{len(groups)}, sha256 {groups_sha256(groups)}")]
    for group in groups:
        moved = f"lr × {group.lr_multiplier:g}, weight decay {group.weight_decay:g}"
        count = f"{group.n_parameters:,} parameters in {group.n_tensors:,} tensors"
        rows.append(("", f"{moved}: {count}"))
        names = textwrap.wrap(" ".join(group.patterns), WIDTH - 25, break_on_hyphens=False)
        rows += [("", f"  {line}") for line in names]
    return rows


def _data(config: "RunConfig", stores: "Stores | None") -> Rows:
    """Say what is held out, and show the beginning of the first sample."""
    from receptance.cli.run_data import first_of, run_batches
    from receptance.data import MixedSample

    if stores is None:
        missing = [path for path in config.data.stores.values() if not Path(path).exists()]
        return [
            ("data", f"no token store at {path!r} yet: `receptance data prepare`")
            for path in missing
        ]
    rows: Rows = []
    for name, store in stores.items():
        held_out = "none"
        if store.valid.n_documents:
            held_out = f"{store.valid.n_documents:,} documents, {store.valid.n_bytes:,} bytes"
        rows.append(("held out", f"{held_out}, of {printable(name)}" if name else held_out))
    batches = run_batches(stores, config)
    (sample,) = batches.samples(0, 1)
    text = first_of(stores).tokenizer.decode(batches.batch(0, 1).tokens[0].tolist())
    place = f"epoch {sample.epoch}, token {sample.first_token:,} on, {len(text):,} characters:"
    if isinstance(sample, MixedSample):
        place = f"{printable(sample.source)}, {place}"
    beginning = printable(text[:SAMPLE_CHARACTERS]) + "…" * (len(text) > SAMPLE_CHARACTERS)
    return [
        *rows,
        ("first sample", place),
        *(("", f"  {line}") for line in beginning.splitlines()),
    ]
