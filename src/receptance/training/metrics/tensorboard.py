"""A mirror of a run's figures for TensorBoard, of which `metrics.jsonl` stays the source."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from receptance.errors import ReceptanceError
from receptance.training.metrics.metrics import Metrics

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

GROUPS = {
    "loss": "loss/step",
    "loss_average": "loss/average",
    "bits_per_byte": "bits_per_byte/training",
    "valid_bits_per_byte": "bits_per_byte/held_out",
    "lr": "optimizer/lr",
    "grad_norm": "optimizer/grad_norm",
    "tokens_per_s": "speed/tokens_per_s",
    "flops_per_s": "speed/flops_per_s",
    "flops_share": "speed/flops_share",
    "data_s": "seconds/data",
    "forward_s": "seconds/forward",
    "backward_s": "seconds/backward",
    "optimizer_s": "seconds/optimizer",
    "communication_s": "seconds/communication",
    "tokens": "run/tokens",
    "memory_bytes": "run/memory_bytes",
    "seconds_left": "run/seconds_left",
}
"""Under which name TensorBoard shows a figure; those of one group stand together."""
BY_SOURCE = {
    "loss_by_source": "loss_by_source",
    "valid_bits_per_byte_by_source": "bits_per_byte_by_source",
}
"""The groups of the figures that each source has, under its name."""
TEXTS = {"skipped": "events/skipped", "save_failed": "events/save_failed"}


class TensorBoardMirror:
    """Writes what it is given of each step into a folder that TensorBoard reads.

    A step that was there already, of a run that was killed or went back, takes the place of what
    was shown of it and of all later ones.
    """

    def __init__(self, folder: Path) -> None:
        """Mirror a run; its first figures open a file in `folder`.

        Raises:
            ReceptanceError: If tensorboard is not installed.
        """
        try:
            import torch.utils.tensorboard  # noqa: F401, PLC0415 - an extra
        except ImportError as error:
            message = (
                "TensorBoard's files are written by tensorboard, which is not installed; install "
                "it with `pip install 'receptance[log]'`, or train without"
            )
            raise ReceptanceError(message) from error
        self.folder = folder
        self._writer: SummaryWriter | None = None
        self._step = 0

    def append(self, metrics: Metrics) -> None:
        """Write the figures of a step that are finite; they are in the file when this returns."""
        writer = self._writer_of(metrics.step)
        entries = asdict(metrics)
        for key, name in GROUPS.items():
            if entries[key] is not None and math.isfinite(entries[key]):
                writer.add_scalar(name, entries[key], metrics.step)
        for key, group in BY_SOURCE.items():
            for source, value in (entries[key] or {}).items():
                if math.isfinite(value):
                    writer.add_scalar(f"{group}/{source}", value, metrics.step)
        for key, name in TEXTS.items():
            if entries[key] is not None:
                writer.add_text(name, entries[key], metrics.step)
        writer.flush()
        self._step = metrics.step

    def close(self) -> None:
        """Write what is left to write."""
        if self._writer is not None:
            self._writer.close()

    def _writer_of(self, step: int) -> "SummaryWriter":
        """Return what writes a step: a new one where the steps do not go on from the last."""
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

        if self._writer is None or step <= self._step:
            self.close()
            # What other files say of this step and later ones is no longer shown.
            self._writer = SummaryWriter(str(self.folder), purge_step=step)
        return self._writer
