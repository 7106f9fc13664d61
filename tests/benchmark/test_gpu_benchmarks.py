"""The programs for a GPU run on the CPU too, so that they work on the day when there is one."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks" / "gpu"
NAMES = ("measuring", "bench_wkv4", "bench_training", "bench_decode", "targets", "run")
QUICK = ["--device", "cpu", "--quick", "--out"]


@pytest.fixture(scope="module")
def programs() -> Iterator[dict[str, Any]]:
    """The programs, by name; none of them stays imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield {name: importlib.import_module(name) for name in NAMES}
    for name in NAMES:
        del sys.modules[name]


def figures(program: Any, folder: Path) -> dict[str, Any]:
    """Return what a program writes that is run to try it."""
    assert program.main([*QUICK, str(folder)]) == 0
    (path,) = folder.glob("*.json")
    return json.loads(path.read_text())


def test_wkv4_is_set_beside_a_copy_in_every_dtype(programs, tmp_path):
    found = figures(programs["bench_wkv4"], tmp_path)

    assert found["left_out"] == []
    assert found["torch"] == torch.__version__
    assert {row["dtype"] for row in found["rows"]} == {"float32", "bfloat16", "float16"}
    for row in found["rows"]:
        B, T, C = row["shape"]
        nbytes = B * T * C * (4 if row["dtype"] == "float32" else 2)
        moved = row["of_copy"] * row["copy_bytes_per_s"] * row["forward_and_backward_s"]
        assert moved == pytest.approx(8 * nbytes)
        moved = row["forward_of_copy"] * row["copy_bytes_per_s"] * row["forward_s"]
        assert moved == pytest.approx(3 * nbytes)


def test_a_training_step_is_set_beside_the_matrix_rate(programs, tmp_path):
    found = figures(programs["bench_training"], tmp_path)
    shape = programs["bench_training"].shape("tiny")

    assert [row["checkpointed"] for row in found["rows"]] == [False, True]
    for row in found["rows"]:
        flops = row["of_matrix"] * row["matrix_flops_per_s"] * row["step_s"]
        assert flops == pytest.approx(3 * shape.flops_per_token * row["rows"] * row["tokens"])


def test_a_batch_that_does_not_fit_is_halved_until_it_does(programs, tmp_path, monkeypatch):
    program = programs["bench_training"]
    run = programs["measuring"].bench("x", "", [*QUICK, str(tmp_path)])
    tried: list[int] = []

    def fits_one(_run: object, _case: object, rows: int) -> dict[str, int]:
        tried.append(rows)
        if rows > 1:
            raise torch.OutOfMemoryError("no memory")
        return {"rows": rows}

    monkeypatch.setattr(program, "measure_batch", fits_one)
    monkeypatch.setattr(run, "quick", False)
    case = {"tokens": program.TOKENS_A_STEP // 4}
    assert program.measure(run, case) == {"rows": 1}
    assert tried == [4, 2, 1]


def test_decoding_is_set_beside_a_copy_and_beside_one_sequence(programs, tmp_path):
    found = figures(programs["bench_decode"], tmp_path)

    pairs = [(row["format"], row["batch"]) for row in found["rows"]]
    assert pairs == [("float32", 1), ("float32", 3), ("int8", 1), ("int8", 3)]
    for row in found["rows"]:
        assert row["tokens_per_s"] == pytest.approx(row["batch"] / row["step_s"])
        read = row["of_copy"] * row["copy_bytes_per_s"] * row["step_s"]
        assert read == pytest.approx(row["weight_bytes_per_step"])
        assert (row["times_batch_1"] == 1.0) == (row["batch"] == 1)


class TooLargeError(Exception):
    """Of no kind that PyTorch has, as Triton's errors are."""


def test_what_no_program_measured_says_why(programs, tmp_path):
    """A case that fails, of whatever, is told, and the others are measured all the same."""
    run = programs["measuring"].bench("x", "", [*QUICK, str(tmp_path)])

    def measure(case: dict[str, int]) -> dict[str, int]:
        if case["n"] == 0:
            raise torch.OutOfMemoryError("too large\nby far")
        if case["n"] == 1:
            raise TooLargeError("a kernel")
        run.seconds = 0.0
        return {"found": 7}

    run.measure([{"n": n} for n in range(4)], measure, str)
    written = json.loads((tmp_path / "x.json").read_text())

    assert written["rows"] == [{"n": 2, "found": 7}]
    assert [each["why"] for each in written["left_out"]] == [
        "OutOfMemoryError: too large", "TooLargeError: a kernel", "the 0 seconds were over",
    ]  # fmt: skip
    assert run.has_failed


def test_figures_of_an_earlier_run_are_not_taken_for_this_ones(programs, tmp_path):
    (tmp_path / "x.json").write_text('{"rows": [{"n": 1}]}')
    run = programs["measuring"].bench("x", "", [*QUICK, str(tmp_path)])

    def measure(_case: dict[str, int]) -> dict[str, int]:
        assert json.loads((tmp_path / "x.json").read_text())["rows"] == []
        return {"found": 7}

    run.measure([{"n": 0}], measure, str)
    assert not run.has_failed


def write_figures(folder: Path, **rows: list[dict[str, Any]]) -> None:
    for subject, theirs in rows.items():
        (folder / f"{subject}.json").write_text(json.dumps({"rows": theirs}))


def test_each_target_of_the_benchmarks_is_one_of_their_cases(programs):
    """A target of a shape that nothing measures would never be met."""
    for target in programs["targets"].TARGETS:
        cases = programs[f"bench_{target.subject}"].cases(quick=False)
        assert [each for each in cases if target.of.items() <= each.items()]


def test_what_is_aimed_at_stands_beside_what_was_seen(programs, tmp_path, capsys):
    shape = {"shape": [8, 4096, 4096], "dtype": "bfloat16"}
    step = {"size": "1.5b", "tokens": 1024}
    token = {"size": "7b", "batch": 1, "times_batch_1": 1.0}
    write_figures(
        tmp_path,
        wkv4=[{**shape, "dtype": "float32", "of_copy": 0.9}, {**shape, "of_copy": 0.70}],
        training=[
            {**step, "compiled": True, "of_matrix": 0.5},
            {**step, "compiled": False, "of_matrix": 0.4},
        ],
        decode=[
            {**token, "format": "bfloat16", "of_copy": 0.79, "tokens_per_s": 100.0},
            {**token, "format": "int8", "of_copy": 0.5, "tokens_per_s": 170.0},
            {**token, "format": "int4", "of_copy": 0.5, "tokens_per_s": 279.0},
        ],
    )
    assert programs["targets"].main(["--device", "cpu", "--out", str(tmp_path)]) == 0

    found = json.loads((tmp_path / "targets.json").read_text())
    assert [(each["at_least"], each["seen"], each["is_met"]) for each in found] == [
        (0.70, 0.70, True),
        (0.45, 0.5, True),
        (0.45, None, False),
        (0.80, 0.79, False),
        (1.7, pytest.approx(1.7), True),
        (2.8, pytest.approx(2.79), False),
        (60.0, None, False),
    ]
    assert found[1]["row"]["compiled"]
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("0.7 of copying; aimed at 0.7 of copying: met")
    assert said[2].endswith("not measured; aimed at 0.45 of the matrix rate: not met")


def test_without_figures_no_target_is_met(programs, tmp_path):
    programs["targets"].main(["--device", "cpu", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "targets.json").read_text())
    assert len(found) == 7
    assert not any(each["is_met"] for each in found)


def test_levels_beside_no_bfloat16_are_not_compared(programs, tmp_path):
    row = {"size": "7b", "format": "int8", "batch": 1, "tokens_per_s": 9.0, "of_copy": 0.5}
    write_figures(tmp_path, decode=[row])
    programs["targets"].main(["--device", "cpu", "--out", str(tmp_path)])
    assert not any(each["is_met"] for each in json.loads((tmp_path / "targets.json").read_text()))


def test_large_shapes_are_not_for_the_cpu(programs):
    with pytest.raises(SystemExit, match="2"):
        programs["bench_wkv4"].main(["--device", "cpu"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_a_program_says_who_knows_why(programs, capsys):
    with pytest.raises(SystemExit, match="1"):
        programs["bench_decode"].main([])
    assert "sees no GPU; see: receptance doctor" in capsys.readouterr().err


def test_all_that_is_missing_is_named_at_once(programs):
    missing = programs["run"].missing_packages(
        ["torch>=99.1", "torch>=2.10", "no-such>=3", "a-b>=1"]
    )
    assert missing == [f"torch>=99.1 (it has {torch.__version__})", "no-such>=3", "a-b>=1"]


def test_what_is_missing_ends_it_before_anything_is_begun(programs, monkeypatch, capsys):
    run = programs["run"]
    monkeypatch.setattr(run, "FOR_TESTS", ("no-such>=3",))
    monkeypatch.setattr(run, "find_spec", lambda _: None)
    monkeypatch.setattr(run, "missing_tools", lambda: ["cmake>=3.26"])
    assert run.main([]) == 2
    assert capsys.readouterr().err.endswith(" must have: no-such>=3, cmake>=3.26, triton\n")


def test_a_package_without_its_own_ends_it_as_well(programs, monkeypatch, capfd):
    run = programs["run"]
    monkeypatch.setattr(run, "missing_packages", lambda _: [])
    monkeypatch.setattr(run, "missing_tools", list)
    monkeypatch.setattr(run, "find_spec", lambda _: True)
    monkeypatch.setattr(run, "IMPORTED", ("receptance.errors", "no_such_core"))
    assert run.main([]) == 2
    said = capfd.readouterr().err
    assert "No module named 'no_such_core'" in said
    assert said.endswith(" lacks what its packages need, as it says above\n")


def test_a_build_that_takes_too_long_is_stopped(programs, monkeypatch, capsys):
    run = programs["run"]
    monkeypatch.setattr(run, "cmake", lambda: "sleep")
    monkeypatch.setattr(run, "BUILD_SECONDS", 0.05)
    run_for_long = partial(subprocess.run, ["sleep", "60"])
    monkeypatch.setattr(run.subprocess, "run", lambda _, **options: run_for_long(**options))
    assert not run.build()
    assert "stopped after 0 s: sleep -S" in capsys.readouterr().out


def test_tests_are_shared_among_processes_where_that_can_be(programs, monkeypatch):
    run = programs["run"]
    monkeypatch.setattr(run.os, "cpu_count", lambda: 16)
    assert run.workers() == ["-n", "8", "--dist", "worksteal"]
    monkeypatch.setattr(run, "find_spec", lambda _: None)
    assert run.workers() == []


def test_versions_are_compared_by_their_numbers(programs):
    numbers = programs["run"].numbers
    assert numbers("2.11.0+cu130") == [2, 11, 0] > numbers("2.9.1")
    assert numbers("3.26") <= numbers("3.26.0rc1")


def test_only_files_with_tests_for_a_gpu_are_imported(programs, tmp_path):
    (tmp_path / "ops").mkdir()
    (tmp_path / "ops" / "test_one.py").write_text("@pytest.mark.gpu\ndef test(): ...")
    (tmp_path / "test_two.py").write_text("def test_it(triton_device): ...")
    (tmp_path / "test_three.py").write_text("import fastapi")
    names = [path.name for path in programs["run"].gpu_tests(tmp_path)]
    assert names == ["test_one.py", "test_two.py"]


def test_what_takes_too_long_is_stopped_and_has_failed(programs, capsys):
    assert not programs["run"].python(["-c", "import time; time.sleep(60)"], 1.0)
    assert "stopped after 1 s" in capsys.readouterr().out
    assert not programs["run"].python(["-c", "raise SystemExit(3)"], 60.0)
    assert programs["run"].python(["-c", "import receptance.errors"], 60.0)


@pytest.mark.parametrize(
    ("arguments", "command"),
    [((), ".venv/bin/python "), (("PYTHON=python3.12",), "python3.12 ")],
)
def test_make_installs_nothing_for_another_python(arguments, command):
    """`make gpu` sets up .venv, but not where a Python is named."""
    call = ["make", "--dry-run", "--always-make", "gpu", *arguments]
    # The make that runs these tests must not be taken for its parent.
    env = {name: it for name, it in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        call, cwd=FOLDER.parents[1], env=env, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()

    assert lines[-1] == f"{command}benchmarks/gpu/run.py"
    assert any("pip" in line for line in lines) == (not arguments)
