"""What a look at the machine found, for people."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from receptance.cli.terminal import printable, stdout_console

if TYPE_CHECKING:
    from rich.table import Table

    from receptance.diagnosis import Device, Examination, OpFinding

_NONE = "none"


def show(found: "Examination") -> None:
    """Write all of it to stdout."""
    for line in head_lines(found):
        click.echo(line)
    console = stdout_console()
    for device in found.devices:
        ops = [each for each in found.ops if each.device == device.name]
        click.echo()
        console.print(_op_table(device.name, ops))
        for reason in reasons(ops):
            click.echo(reason)
    click.echo()
    for problem in found.problems:
        click.echo(f"problem: {printable(problem)}")
    if not found.problems:
        click.echo("all is well")


def head_lines(found: "Examination") -> Iterator[str]:
    """Yield what is known of the machine, a subject a line."""
    processor = found.processor
    packages = [
        f"{name} {version}" if version else f"no {name}"
        for name, version in found.versions.items()
        if name not in ("python", "system")
    ]
    yield f"versions    {', '.join(packages)}"
    yield f"python      {found.versions['python']}, {found.versions['system']}"
    sets = processor.instruction_sets
    others = f" (of {', '.join(sets)})" if len(sets) > 1 else ""
    yield (
        f"processor   {processor.machine}, cores: {processor.usable_cores}, "
        f"threads: {processor.threads}; our kernels use {sets[-1] if sets else 'nothing'}{others}, "
        f"PyTorch's {processor.torch_instruction_set}"
    )
    for device in found.devices:
        yield f"{device.name:<11} {_device(device)}"
    if found.no_gpu is not None:
        yield f"no GPU      {printable(found.no_gpu)}"
    cache = found.cache
    yield (
        f"cache       {printable(cache.folder)}{'' if cache.exists else ' (not there yet)'}, "
        f"{cache.free_bytes / 1e9:,.1f} GB free on its disk"
    )


def reasons(ops: "list[OpFinding]") -> Iterator[str]:
    """Yield why implementations cannot run, each reason once, with the ops that it holds for."""
    holds_for: dict[tuple[str, str], dict[str, None]] = {}
    for each in ops:
        for name, obstacle in each.obstacles.items():
            if obstacle is not None:
                holds_for.setdefault((name, obstacle), {})[_place(each, name, ops)] = None
    for (name, obstacle), places in holds_for.items():
        yield f"not {name}: {printable(obstacle)}: {', '.join(places)}"


def _place(finding: "OpFinding", name: str, ops: "list[OpFinding]") -> str:
    """Return where a reason holds: the op, and the purpose and dtype where it is not for all."""
    of_op = [each for each in ops if each.op == finding.op]
    if len({each.obstacles[name] for each in of_op}) == 1:
        return finding.op
    of_purpose = [each for each in of_op if each.purpose == finding.purpose]
    if len({each.obstacles[name] for each in of_purpose}) == 1:
        return f"{finding.op} ({finding.purpose})"
    return f"{finding.op} ({finding.purpose} {finding.dtype})"


def _device(device: "Device") -> str:
    parts = [printable(device.description)]
    if device.capability is not None:
        parts.append(f"capability {device.capability}")
    if device.total_bytes is not None and device.available_bytes is not None:
        gigabytes = device.available_bytes / 1e9, device.total_bytes / 1e9
        parts.append("{:,.1f} GB of memory free of {:,.1f}".format(*gigabytes))
    return ", ".join(parts)


def _op_table(device: str, ops: "list[OpFinding]") -> "Table":
    """Return which implementation of each op runs on a device."""
    from rich.table import Table

    table = Table(title=f"what runs on {device}", title_justify="left")
    table.add_column("op")
    columns = list(dict.fromkeys((each.purpose, each.dtype) for each in ops))
    for purpose, dtype in columns:
        table.add_column(f"{purpose}\n{dtype}")
    for op in dict.fromkeys(each.op for each in ops):
        chosen = {(each.purpose, each.dtype): each.chosen or _NONE for each in ops if each.op == op}
        table.add_row(op, *(chosen.get(column, "") for column in columns))
    return table
