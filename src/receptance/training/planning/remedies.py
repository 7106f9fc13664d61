"""What a run can change where its memory does not suffice."""

from receptance.training.config import RunConfig
from receptance.training.planning.plan import micro_batch_rows


def memory_remedies(config: RunConfig, world_size: int = 1) -> str:
    """Return which settings of a run take less memory, as the end of a sentence.

    Those that leave the numbers of a step as they are come first.

    Args:
        config: The run.
        world_size: How many ranks share it.
    """
    data, training = config.data, config.training
    n_rows = max(micro_batch_rows(data, size, world_size) for size in data.batch_sizes)
    found = []
    if n_rows > 1:
        found.append(f"lower `data.micro_batch_size`, which is {n_rows} rows")
    if not training.checkpoint_layers:
        found.append("set `training.checkpoint_layers = true`")
    if config.every.save_asynchronously:
        found.append("set `every.save_asynchronously = false`")
    if training.precision == "float32":
        found.append('set `training.precision = "bfloat16"`')
    if training.parallel != "fsdp2":
        found.append('share the weights among several devices by `training.parallel = "fsdp2"`')
    found.append(f"lower `data.ctx_len`, which is {data.ctx_len:,}")
    return f"{', or '.join(found)}; `receptance train RUN.toml --dry-run` shows what takes it"
