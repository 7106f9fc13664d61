"""A reason is told once, with all that it holds for."""

from receptance.cli.doctor_tables import head_lines, reasons, show
from receptance.diagnosis import Device, Disk, Examination, OpFinding, Processor


def finding(op: str, purpose: str, dtype: str, obstacle: str | None) -> OpFinding:
    return OpFinding(
        op=op,
        device="cuda:0",
        purpose=purpose,
        dtype=dtype,
        chosen="fast" if obstacle is None else None,
        obstacles={"fast": obstacle},
    )


def examination(ops: list[OpFinding]) -> Examination:
    gpu = Device(
        name="cuda:0",
        description="A card",
        available_bytes=8 * 10**9,
        total_bytes=16 * 10**9,
        capability="9.0",
    )
    return Examination(
        versions={"python": "3.12.0", "system": "Linux", "torch": "2.13.0", "triton": None},
        processor=Processor(
            machine="x86_64",
            usable_cores=2,
            threads=1,
            instruction_sets=[],
            torch_instruction_set="AVX2",
        ),
        devices=[gpu],
        no_gpu="a reason",
        cache=Disk(folder="/cache\x1b[2J", exists=False, free_bytes=3 * 10**9),
        ops=ops,
        problems=[],
    )


def test_a_reason_names_no_more_than_it_must():
    ops = [
        finding("a", "training", "float32", "no"),
        finding("a", "inference", "float32", "no"),
        finding("b", "training", "float32", "no"),
        finding("b", "training", "bfloat16", "no"),
        finding("b", "inference", "float32", None),
        finding("b", "inference", "bfloat16", "other"),
    ]
    assert list(reasons(ops)) == [
        "not fast: no: a, b (training)",
        "not fast: other: b (inference bfloat16)",
    ]


def test_the_head_says_what_is_not_there():
    lines = "\n".join(head_lines(examination([])))

    assert "torch 2.13.0, no triton" in lines
    assert "our kernels use nothing, PyTorch's AVX2" in lines
    assert "cuda:0      A card, capability 9.0, 8.0 GB of memory free of 16.0" in lines
    assert "no GPU      a reason" in lines
    assert r"/cache\x1b[2J (not there yet), 3.0 GB free on its disk" in lines


def test_an_op_that_nothing_runs_says_none_and_one_that_is_not_asked_nothing(capsys):
    ops = [finding("a", "training", "float32", "no"), finding("b", "inference", "float32", None)]
    show(examination(ops))
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("│")]

    assert [[cell.strip() for cell in row.strip("│").split("│")] for row in rows] == [
        ["a", "none", ""],
        ["b", "", "fast"],
    ]
