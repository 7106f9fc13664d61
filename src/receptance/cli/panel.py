"""What a run shows while it trains: a live panel, or plain lines where there is no terminal."""

import math
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from receptance.cli.terminal import printable
from receptance.training import NOTHING_COUNTS, Metrics

PLAIN_INTERVAL_S = 10.0
"""Seconds between two plain lines; a step with held-out text always has one."""


class TrainingPanel(AbstractContextManager["TrainingPanel"]):
    """Shows the figures of a run on stderr."""

    def __init__(
        self,
        name: str,
        n_steps: int,
        console: Console | None = None,
        *,
        has_held_out: bool = True,
        is_shown: bool = True,
    ) -> None:
        """Show a run.

        Args:
            name: The run's.
            n_steps: How many it has.
            console: Where to; stderr by default.
            has_held_out: Whether there is text to measure held-out figures on.
            is_shown: Whether anything is shown at all; of several ranks, one shows the run.
        """
        self.console = console or Console(stderr=True, quiet=not is_shown)
        self._n_steps = n_steps
        self._metrics: Metrics | None = None
        self._held_out = "not yet" if has_held_out else "none"
        self._held_out_by_source: dict[str, float] = {}
        self._by_source: dict[str, float] = {}
        """The last loss of each source; a step may have none of some."""
        self._saved = "not yet"
        self._n_skipped = 0
        self._skip = ""
        self._printed_s = -math.inf
        self._title = f"training {name}"
        self._live = Live(
            console=self.console,
            get_renderable=self._panel,
            refresh_per_second=4,
            vertical_overflow="visible",
        )

    def __enter__(self) -> "TrainingPanel":
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def stopping(self) -> None:
        """Say that the run ends after the step at hand; a signal handler may call this."""
        self._title += ": stopping after this step (again: at once)"

    def log(self, metrics: Metrics) -> None:
        """Show the figures of a step."""
        self._metrics = metrics
        self._by_source |= metrics.loss_by_source or {}
        if metrics.valid_bits_per_byte is not None:
            self._held_out = f"{metrics.valid_bits_per_byte:.4f} bits per byte"
            self._held_out_by_source = metrics.valid_bits_per_byte_by_source or {}
        if metrics.saved is not None:
            self._saved = metrics.saved
        if metrics.save_failed is not None:
            self._saved = f"failed: {metrics.save_failed}"
        if metrics.skipped is not None:
            self._n_skipped += 1
            self._skip = f"{metrics.step:,}: {metrics.skipped}"
        if self.console.is_terminal:
            return
        now = time.monotonic()
        events = (
            metrics.valid_bits_per_byte,
            metrics.skipped,
            metrics.rolled_back_from,
            metrics.save_failed,
        )
        is_told = metrics.step == self._n_steps or any(each is not None for each in events)
        if is_told or now - self._printed_s > PLAIN_INTERVAL_S:
            self._printed_s = now
            self.console.print(Text(self._line(metrics)), highlight=False, soft_wrap=True)

    def message(self, text: str) -> None:
        """Show a text above the panel; what in it would act on the terminal is spelled out."""
        self.console.print(Text(printable(text)), highlight=False, soft_wrap=True)

    def _line(self, metrics: Metrics) -> str:
        told = [
            f"loss {_loss(metrics)}",
            f"{metrics.tokens_per_s:,.0f} tokens/s",
            f"lr {metrics.lr:.2e}",
            f"{self._time_left(metrics)} left",
        ]
        if metrics.skipped is not None:
            told.append(f"skipped: {metrics.skipped}")
        if metrics.rolled_back_from is not None:
            told.append(f"went back here from step {metrics.rolled_back_from}")
        if metrics.valid_bits_per_byte is not None:
            each = _by_source(self._held_out_by_source)
            told.append(f"held out {self._held_out}" + (f" ({each})" if each else ""))
        if metrics.save_failed is not None:
            told.append(f"saving {self._saved}")
        return printable(f"step {metrics.step}/{self._n_steps}: {', '.join(told)}")

    def _panel(self) -> Panel:
        metrics = self._metrics
        if metrics is None:
            return Panel("the first step", title=Text(self._title), expand=False)
        table = Table.grid(padding=(0, 3))
        table.add_row("step", f"{metrics.step:,} of {self._n_steps:,}", "held out", self._held_out)
        table.add_row("loss", _loss(metrics), "lr", f"{metrics.lr:.2e}")
        table.add_row("speed", f"{metrics.tokens_per_s:,.0f} tokens/s", "", _flops(metrics))
        memory = f"{metrics.memory_bytes / 1e9:.2f} GB"
        table.add_row("time left", self._time_left(metrics), "memory", memory)
        wide = Table.grid(padding=(0, 3))
        wide.add_column(min_width=len("time left"))
        told = {
            "of each": _by_source(self._by_source),
            "held out": _by_source(self._held_out_by_source),
        }
        told |= {"a step": _parts(metrics), "saved": self._saved, "skipped": self._skipped()}
        for name, text in told.items():
            if text:
                wide.add_row(name, Text(printable(text)))
        whole = Table.grid()
        whole.add_row(table)
        whole.add_row(wide)
        whole.add_row(ProgressBar(total=self._n_steps, completed=metrics.step, width=60))
        return Panel(whole, title=Text(self._title), expand=False)

    def _skipped(self) -> str:
        """Return how many steps were not applied, and why the last; empty where all were."""
        return f"{self._n_skipped:,}, the last at step {self._skip}" if self._skip else ""

    def _time_left(self, metrics: Metrics) -> str:
        seconds = metrics.seconds_left
        if seconds is None:
            seconds = metrics.seconds / metrics.step * (self._n_steps - metrics.step)
        hours, rest = divmod(round(seconds), 3600)
        minutes, seconds = divmod(rest, 60)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _loss(metrics: Metrics) -> str:
    """Return the loss that is shown: its moving average, where there is one."""
    loss = metrics.loss if metrics.loss_average is None else metrics.loss_average
    nothing_counted = math.isnan(loss) and metrics.skipped == NOTHING_COUNTS.reason
    return "-" if nothing_counted else f"{loss:.4f} nats"


def _by_source(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {figure:.4f}" for name, figure in figures.items())


def _flops(metrics: Metrics) -> str:
    """Return the operations a second, and what part that is of what the machine can do."""
    told = f"{metrics.flops_per_s / 1e9:,.0f} GFLOP/s"
    return told if metrics.flops_share is None else f"{told}, {metrics.flops_share:.0%} of peak"


def _parts(metrics: Metrics) -> str:
    """Return how long the step took, and where; empty where that was not measured."""
    measured = {
        "data": metrics.data_s,
        "forward": metrics.forward_s,
        "backward": metrics.backward_s,
        "optimizer": metrics.optimizer_s,
        "communication": metrics.communication_s,
    }
    parts = {name: seconds for name, seconds in measured.items() if seconds is not None}
    whole = sum(parts.values())
    shares = [f"{name} {part / whole:.0%}" for name, part in parts.items() if part > 0.005 * whole]
    return f"{whole:.3g} s: {', '.join(shares)}" if shares else ""
