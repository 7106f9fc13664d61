"""`receptance train`: what it says, and that no signal and no kill costs a run its numbers."""

import json
import os
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest

from receptance.training import list_checkpoints, run_lock


def steps(place: Path) -> list[int]:
    lines = (place / "runs" / "tiny" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["step"] for line in lines]


def test_from_text_to_written_text(receptance, place):
    (place / "a.txt").write_text("one two three " * 40)
    (place / "b.txt").write_text("one two four " * 40)
    prepared = receptance("data", "prepare", "a.txt", "b.txt", "--tokenizer", "bytes", "--out", "s")
    trained = receptance("train", "run.toml", "data.store=s", "name=my run")
    written = receptance("generate", "runs/my run/model", "one", "--max-tokens", 5, "--seed", 1)

    assert (prepared.code, trained.code, written.code) == (0, 0, 0)
    assert trained.stdout == ""
    assert trained.stderr.endswith(
        "trained: runs/my run/model\nlet it write: receptance generate 'runs/my run/model' Once\n"
    )
    assert len(written.stdout.removesuffix("\n")) <= 5


def test_the_same_command_again_is_done_at_once(receptance, place):
    receptance("train", "run.toml")

    result = receptance("train", "run.toml")

    assert result.code == 0
    assert result.stderr.startswith("going on after step 12\ntrained: runs/tiny/model\n")
    assert steps(place) == list(range(1, 13))


def test_a_dry_run_says_what_would_be_trained_and_leaves_nothing(receptance, place):
    result = receptance("train", "run.toml", "model.n_embd=32", "--dry-run")

    assert result.code == 0
    assert result.stderr == ""
    assert "RWKV-4, L1 D32 V256, 30,176 parameters\n" in result.stdout
    assert " 12 of 4 × 16 tokens\n" in result.stdout
    assert not (place / "runs").exists()


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["none.toml"], 3, "'none.toml' does not exist"),
        (["store"], 3, "by a TOML file, but 'store' is a folder"),
        (["store/train.bin"], 3, "store/train.bin must be TOML"),
        (["run.toml", "training.steps=0"], 3, "`training.steps` must be at least 1, got 0"),
        (["run.toml", "optimizer.lrr=1"], 3, "did you mean 'optimizer.lr'?"),
        (["run.toml", "--bits"], 2, "No such option"),
        (["run.toml", "bits"], 3, "a setting must be written key=value, got 'bits'"),
        (["run.toml", "data.store=none"], 3, "no token store at 'none'"),
        (["run.toml", "data.ctx_len=99999"], 3, "must have at least 100000 tokens"),
        (["run.toml", "model.vocab_size=10"], 3, "`model.vocab_size` must be at least 256"),
    ],
)
@pytest.mark.parametrize("dry", [False, True])
def test_what_is_wrong_is_one_message_and_leaves_nothing(receptance, place, args, code, words, dry):
    result = receptance("train", *args, *["--dry-run"] * dry)

    assert result.code == code
    assert words in result.stderr
    assert result.stderr.lower().count("error: ") == 1
    assert result.stdout == ""
    assert not (place / "runs").exists()


def test_a_checkpoint_that_is_not_there_leaves_nothing(receptance, place):
    result = receptance("train", "run.toml", "--resume", "nowhere")

    assert result.code == 4
    assert "no training checkpoint at 'nowhere'" in result.stderr
    assert not (place / "runs").exists()


@pytest.mark.usefixtures("place")
def test_settings_that_changed_are_refused(receptance):
    receptance("train", "run.toml")

    result = receptance("train", "run.toml", "optimizer.lr=1e-3")

    assert result.code == 3
    assert "`optimizer.lr` was 0.0006, now 0.001. Change them back, or choose" in result.stderr


def test_a_damaged_checkpoint_is_told_and_the_one_before_it_is_used(receptance, place, caplog):
    receptance("train", "run.toml")
    weights = (place / "runs/tiny/model/model.safetensors").read_bytes()
    _, newest = list_checkpoints(place / "runs" / "tiny" / "checkpoints")
    (newest / "training.json").write_bytes(b"{")

    result = receptance("train", "run.toml")

    assert result.code == 0
    assert "step-00000012 IS DAMAGED and is not used: 'runs/tiny/checkpoints/" in caplog.text
    assert "going on after step 10" in result.stderr
    assert steps(place) == list(range(1, 13))
    assert (place / "runs/tiny/model/model.safetensors").read_bytes() == weights


def test_checkpoints_that_are_all_damaged_are_code_4(receptance, place):
    receptance("train", "run.toml")
    for path in list_checkpoints(place / "runs" / "tiny" / "checkpoints"):
        (path / "training.json").write_bytes(b"{")

    for _ in range(2):
        result = receptance("train", "run.toml")
        assert result.code == 4
        assert "no checkpoint in 'runs/tiny/checkpoints' is whole" in result.stderr


def test_a_run_that_another_process_trains_is_code_3(receptance, place):
    with run_lock(place / "runs" / "tiny"):
        result = receptance("train", "run.toml")

    assert result.code == 3
    assert f"by one process at a time, but process {os.getpid()} on" in result.stderr
    assert not (place / "runs").exists()


@pytest.mark.parametrize("every", ["validation", "sample"])
def test_a_run_that_diverges_is_one_message_and_its_figures_stay_json(receptance, place, every):
    off = {"validation": "sample", "sample": "validation"}[every]
    settings = ("optimizer.lr=1e30", f"every.{every}_steps=1", f"every.{off}_steps=0")

    result = receptance("train", "run.toml", *settings, "training.precision=bfloat16")

    assert result.code == 3
    assert "must be finite" in result.stderr or "must stay finite" in result.stderr
    assert result.stderr.splitlines()[-1].endswith("from a checkpoint of this one (--resume PATH)")
    written = [file.read_text() for file in place.glob("runs/tiny/metrics.jsonl")]
    assert "NaN" not in "".join(written)


def test_a_disk_that_stays_full_is_code_1_at_the_end_and_leaves_the_checkpoint_before(
    receptance, place, caplog
):
    receptance("train", "run.toml", "every.checkpoint_steps=4")
    checkpoints = place / "runs" / "tiny" / "checkpoints"
    shutil.rmtree(list_checkpoints(checkpoints)[-1])
    shutil.rmtree(place / "runs" / "tiny" / "model")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # a limit stands for the disk
    try:
        result = receptance("train", "run.toml")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))

    assert (
        "NO CHECKPOINT after step 10: 'runs/tiny/checkpoints/step-00000010' cannot" in caplog.text
    )
    assert "File too large; those before it are kept" in caplog.text
    assert steps(place) == list(range(1, 13))
    assert result.code == 1
    assert result.stderr.endswith(
        "'runs/tiny/checkpoints/step-00000012' cannot be written: File too large\n"
    )
    assert sorted(path.name for path in checkpoints.iterdir()) == ["latest", "step-00000008"]
    assert receptance("train", "run.toml").code == 0
    assert steps(place) == list(range(1, 13))


def wait_for_step(process, place: Path, step: int) -> None:
    """Wait until a run that goes on has told of a step."""
    file = place / "runs" / "tiny" / "metrics.jsonl"
    while process.poll() is None:
        if file.exists() and file.read_text().count("\n") >= step:
            return
        time.sleep(0.005)
    raise AssertionError(process.stderr.read())


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("order", ["permuted", pytest.param("authors", marks=pytest.mark.slow)])
def test_a_run_that_is_stopped_and_killed_comes_to_the_numbers_of_one_that_is_not(
    receptance, start, place, order
):
    settings = (
        "training.steps=300",
        "every.sample_steps=0",
        "every.checkpoint_steps=40",
        f"data.order={order}",
    )
    whole = receptance("train", "run.toml", "name=whole", *settings)
    assert whole.code == 0

    for number, step in ((signal.SIGINT, 3), (signal.SIGTERM, 40), (signal.SIGKILL, 90)):
        with start("train", "run.toml", *settings) as process:
            wait_for_step(process, place, step)
            process.send_signal(number)
            _, errors = process.communicate()
        if number == signal.SIGKILL:
            assert process.returncode == -signal.SIGKILL
            continue
        assert process.returncode == 75, errors
        assert not (place / "runs" / "tiny" / "model").exists()
        done = steps(place)[-1]
        assert errors.endswith(
            f"stopped after step {done}; go on with: python -m receptance train run.toml "
            f"{' '.join(settings)}\n"
        )
        newest = list_checkpoints(place / "runs" / "tiny" / "checkpoints")[-1]
        assert newest.name == f"step-{done:08d}"
    finished = receptance("train", "run.toml", *settings)

    assert finished.code == 0
    assert "going on after step " in finished.stderr
    assert steps(place) == list(range(1, 301))
    files = [Path("runs", name, "model", "model.safetensors") for name in ("tiny", "whole")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_dry_run_says_where_it_begins_and_refuses_what_the_run_would(receptance, place):
    assert "runs/tiny, a new one" in receptance("train", "run.toml", "--dry-run").stdout
    assert receptance("train", "run.toml").code == 0
    assert "from step-00000012 on" in receptance("train", "run.toml", "--dry-run").stdout

    refused = (["optimizer.lr=1e-5"], ["--resume", "never"], [f"data.store_sha256={'0' * 64}"])
    for each in refused:
        result = receptance("train", "run.toml", "--dry-run", *each)
        assert result.code == 3, each
        assert result.stderr.startswith("error: ")
    assert sorted(path.name for path in (place / "runs").iterdir()) == ["tiny"]


def test_the_figures_are_mirrored_for_tensorboard_only_where_that_is_wanted(receptance, place):
    assert receptance("train", "run.toml", "name=plain").code == 0
    assert receptance("train", "run.toml", "--tensorboard").code == 0

    assert not (place / "runs" / "plain" / "tensorboard").exists()
    (mirror,) = (place / "runs" / "tiny" / "tensorboard").iterdir()
    assert b"bits_per_byte/held_out" in mirror.read_bytes()


def test_an_adapter_goes_from_its_training_through_every_verb(receptance, place):
    receptance("train", "run.toml")
    base = "runs/tiny/model"
    settings = ("name=adapted", "finetune.method=lora", f"training.init_from={base}")

    trained = receptance("train", "run.toml", *settings, "optimizer.lr=0.05")

    file = "runs/adapted/adapter.safetensors"
    assert trained.stderr.endswith(
        f"trained: {file}\nlet it write: receptance generate {base} Once --adapter {file}\n"
    )
    with_adapter = ("--adapter", file)
    merged = receptance("convert", base, "merged", *with_adapter)
    assert merged.code == 0
    (place / "text").write_text("the cat of house 3 sat on the mat.\n")
    figures = [
        json.loads(receptance("eval", *args, "--text", "text", "--json").stdout)["bits_per_byte"]
        for args in ((base, *with_adapter), ("merged",), (base,))
    ]
    assert figures[0] == figures[1] < figures[2]
    chosen = ("the ", "--max-tokens", 9, "--seed", 1)
    written = [
        receptance("generate", *args).stdout
        for args in ((base, *chosen, *with_adapter), ("merged", *chosen))
    ]
    assert written[0] == written[1]
    refused = receptance("generate", "merged", *chosen, *with_adapter)
    assert (refused.code, "must be an adapter of this model" in refused.stderr) == (4, True)


# The state of one layer of 16 channels can hold little.
@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(("method", "share"), [("state", 0.998), ("lora", 0.9)])
def test_the_recipes_for_fine_tuning_lower_the_loss_of_another_text(
    receptance, place, method, share
):
    sizes = ("model.n_layer=1", "model.n_embd=16", "model.vocab_size=256", "data.ctx_len=16")
    receptance("train", "run.toml", "training.steps=100", "optimizer.lr=1e-2")
    (place / "other").mkdir()
    for number in range(20):
        (place / "other" / f"{number}.txt").write_text(f"mat {number} sat the, the " * 9)
    receptance("data", "prepare", "other", "--tokenizer", "bytes", "--out", "others")
    recipe = Path(__file__).parents[2] / "recipes" / f"finetune-{method}.toml"
    base = "runs/tiny/model"

    trained = receptance(
        *("train", recipe, *sizes, "data.store=others", f"training.init_from={base}"),
        *("training.steps=60", "every.validation_tokens=300", "training.precision=float32"),
    )

    assert trained.code == 0, trained.stderr
    given = {
        "state": (f"runs/finetune-{method}/model",),
        "lora": (base, "--adapter", f"runs/finetune-{method}/adapter.safetensors"),
    }
    text = ("--text", "other/3.txt", "--json")
    after, before = (
        json.loads(receptance("eval", *args, *text).stdout)["bits_per_byte"]
        for args in (given[method], (base,))
    )
    assert after < share * before
