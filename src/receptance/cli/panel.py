"""What a run shows while it trains: a live panel, or plain lines where there is no terminal."""

import math
import time
from contextlib import AbstractContextManager
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from receptance.cli.terminal import printable
from receptance.training import Metrics

PLAIN_INTERVAL_S = 10.0
"""Seconds between two plain lines; a step with held-out text always has one."""


class TrainingPanel(AbstractContextManager["TrainingPanel"]):
    """Shows the figures of a run on stderr."""

    def __init__(
        self, name: str, n_steps: int, console: Console | None = None, *, is_shown: bool = True
    ) -> None:
        self.console = console or Console(stderr=True, quiet=not is_shown)
        self._n_steps = n_steps
        self._metrics: Metrics | None = None
        self._loss: float | None = None
        self._valid: float | None = None
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
        loss = metrics.loss
        self._loss = loss if self._loss is None else 0.9 * self._loss + 0.1 * loss
        self._metrics = metrics
        if metrics.valid_bits_per_byte is not None:
            self._valid = metrics.valid_bits_per_byte
        if self.console.is_terminal:
            return
        now = time.monotonic()
        is_told = metrics.step == self._n_steps or metrics.valid_bits_per_byte is not None
        if is_told or now - self._printed_s > PLAIN_INTERVAL_S:
            self._printed_s = now
            self.console.print(self._line(metrics), highlight=False, soft_wrap=True)

    def message(self, text: str) -> None:
        """Show a text above the panel; what in it would act on the terminal is spelled out."""
        self.console.print(Text(printable(text)), highlight=False, soft_wrap=True)

    def _line(self, metrics: Metrics) -> str:
        valid = metrics.valid_bits_per_byte
        held_out = "" if valid is None else f", held out {valid:.4f} bits per byte"
        return (
            f"step {metrics.step}/{self._n_steps}: loss {metrics.loss:.4f} nats, "
            f"{metrics.tokens_per_s:,.0f} tokens/s, lr {metrics.lr:.2e}, "
            f"{self._time_left(metrics)} left{held_out}"
        )

    def _panel(self) -> Panel:
        metrics = self._metrics
        if metrics is None:
            return Panel("the first step", title=Text(self._title), expand=False)
        table = Table.grid(padding=(0, 3))
        held_out = "not yet" if self._valid is None else f"{self._valid:.4f} bits per byte"
        table.add_row("step", f"{metrics.step:,} of {self._n_steps:,}", "held out", held_out)
        table.add_row("loss", f"{self._loss:.4f} nats", "lr", f"{metrics.lr:.2e}")
        table.add_row(
            "speed",
            f"{metrics.tokens_per_s:,.0f} tokens/s",
            "",
            f"{metrics.flops_per_s / 1e9:,.0f} GFLOP/s",
        )
        table.add_row(
            "time left", self._time_left(metrics), "memory", f"{metrics.memory_bytes / 1e9:.2f} GB"
        )
        whole = Table.grid()
        whole.add_row(table)
        whole.add_row(ProgressBar(total=self._n_steps, completed=metrics.step, width=60))
        return Panel(whole, title=Text(self._title), expand=False)

    def _time_left(self, metrics: Metrics) -> str:
        seconds = metrics.seconds / metrics.step * (self._n_steps - metrics.step)
        hours, rest = divmod(round(seconds), 3600)
        minutes, seconds = divmod(rest, 60)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
