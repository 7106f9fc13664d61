"""What a benchmark found, as tables for people."""

from typing import TYPE_CHECKING

import click

from receptance.cli.terminal import stdout_console

if TYPE_CHECKING:
    from rich.table import Table

    from receptance.benchmark import Report


def show(report: "Report") -> None:
    """Write a report to stdout."""
    click.echo(_head(report) + "\n")
    console = stdout_console()
    for table in (_decode_table(report), _prefill_table(report)):
        console.print(table)


def _head(report: "Report") -> str:
    """Return what was measured and the ceilings, for people."""
    rates = (
        f"{rate / 1e9:,.0f} GFLOP/s {dtype}"
        for dtype, rate in report.ceilings.matrix_flops_per_s.items()
    )
    peak = report.peak_memory_bytes
    return (
        f"model     {report.parameters / 1e6:,.1f} M parameters "
        f"(L{report.n_layer} D{report.n_embd} V{report.vocab_size})\n"
        f"machine   {report.threads} threads, {report.instruction_set}, PyTorch {report.torch}\n"
        f"memory    {report.ceilings.read_bytes_per_s / 1e9:.1f} GB/s read\n"
        f"matrices  {', '.join(rates)}, the model's with "
        f"{report.ceilings.matrix_tokens:,} tokens"
        + (f"\nprocess   {peak / 1e9:.2f} GB at its peak, all of this together" if peak else "")
    )


def _decode_table(report: "Report") -> "Table":
    """Return the speeds of decoding, for people."""
    from rich.table import Table

    table = Table(title="decode", title_justify="left")
    table.add_column("format")
    titles = ("batch", "tokens/s", "spread", "of reading", "MB a step", "times the first")
    for title in titles:
        table.add_column(title, justify="right")
    for name, figures in report.formats.items():
        rows = [(str(each.batch_size), each) for each in figures.decode]
        if figures.decode_reading_all is not None:
            size = figures.decode_reading_all.batch_size
            rows.append((f"{size}, all read", figures.decode_reading_all))
        for batch, each in rows:
            table.add_row(
                name,
                batch,
                f"{each.tokens_per_s:,.1f}",
                f"{each.spread:.0%}",
                f"{each.share_of_read:.1%}",
                f"{figures.bytes_per_token / 1e6:,.1f}",
                f"{each.times_smallest_batch:.2f}",
            )
        table.add_section()
    return table


def _prefill_table(report: "Report") -> "Table":
    """Return the speeds of reading a prompt and the memory, for people."""
    from rich.table import Table

    table = Table(
        title=f"a prompt of {report.settings.prompt_tokens:,} tokens", title_justify="left"
    )
    table.add_column("format")
    titles = ("tokens/s", "spread", "GFLOP/s", "of matrices", "first token", "weights", "memory")
    for title in titles:
        table.add_column(title, justify="right")
    for name, figures in report.formats.items():
        each, memory = figures.prefill, figures.memory_bytes
        table.add_row(
            name,
            f"{each.tokens_per_s:,.1f}",
            f"{each.spread:.0%}",
            f"{each.flops_per_s / 1e9:,.0f}",
            f"{each.share_of_matrix:.1%}",
            f"{each.first_token_s:.3f} s",
            f"{figures.weight_bytes / 1e6:,.0f} MB",
            "" if memory is None else f"{memory / 1e6:,.0f} MB",
        )
    return table
