"""A run that does not fit is told what it can change, and not what it has changed."""

from receptance.training import memory_remedies
from tests.training.tiny_run import tiny_config


def test_what_changes_no_number_comes_first():
    said = memory_remedies(tiny_config(data_batch_size=6, training_precision="float32"))

    assert said.startswith(
        "lower `data.micro_batch_size`, which is 6 rows, or set `training.checkpoint_layers = true`"
    )
    assert '`training.precision = "bfloat16"`' in said
    assert '`training.parallel = "fsdp2"`' in said
    assert said.endswith("; `receptance train RUN.toml --dry-run` shows what takes it")


def test_what_is_done_already_is_not_advised():
    config = tiny_config(
        data_batch_size=6,
        data_micro_batch_size=1,
        data_ctx_len=16,
        training_checkpoint_layers=True,
        training_precision="bfloat16",
        training_parallel="fsdp2",
    )
    assert memory_remedies(config) == (
        "lower `data.ctx_len`, which is 16; "
        "`receptance train RUN.toml --dry-run` shows what takes it"
    )


def test_a_copy_that_is_saved_while_training_goes_on_is_named():
    assert "`every.save_asynchronously = false`" in memory_remedies(
        tiny_config(every_save_asynchronously=True)
    )


def test_rows_are_those_of_a_rank():
    assert "which is 3 rows" in memory_remedies(tiny_config(data_batch_size=6), world_size=2)
