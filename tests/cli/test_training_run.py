"""A run of the command line is trained, measured, shown, and ended by a signal without loss."""

import json
import math
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from receptance.cli.run_data import open_stores, run_batches
from receptance.cli.training_run import _stop_signals, run_training
from receptance.data import TokenStore, prepare
from receptance.errors import ConfigError, DataError, MemoryShortageError
from receptance.evaluation import held_out_documents, score_documents
from receptance.inference import load
from receptance.training import RunConfig, read_config
from receptance.training.trainer import Trainer
from tests.cli.two_sources import make_two_sources


@pytest.fixture
def config(place: Path) -> RunConfig:
    return read_config(place / "run.toml")


def test_a_run_leaves_a_model_that_every_verb_opens(config, place):
    outcome = run_training(config, place / "run", resume="auto")

    assert outcome == (True, place / "run" / "model", 12, True)
    lm = load(outcome.model_folder)
    assert lm.tokenizer.name == "bytes"
    assert lm.generate("the ", max_tokens=3, seed=0).generated_tokens == 3
    names = sorted(path.name for path in (place / "run").iterdir())
    assert names == ["checkpoints", "config.toml", "metrics.jsonl", "model"]


def test_the_held_out_figure_is_that_of_the_model(config, place):
    outcome = run_training(config, place / "run", resume="auto")

    last = json.loads((place / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    store = TokenStore.open("store")
    score = score_documents(
        load(outcome.model_folder).model,
        held_out_documents(store.valid, 200),
        end_of_text=store.end_of_text,
    )
    assert last["valid_bits_per_byte"] == pytest.approx(score.bits_per_byte, rel=1e-6)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_measuring_and_sampling_change_no_bit(place, precision):
    weights = []
    for name, every in (("loud", 1), ("quiet", 0)):
        settings = [f"every.{what}_steps={every}" for what in ("validation", "sample")]
        settings.append(f"training.precision={precision}")
        config = read_config(place / "run.toml", settings)
        outcome = run_training(config, place / name, resume="auto")
        weights.append((outcome.model_folder / "model.safetensors").read_bytes())

    assert weights[0] == weights[1]


def test_samples_and_lines_go_to_stderr(config, place, capsys):
    run_training(config, place / "run", resume="auto")

    out, err = capsys.readouterr()
    assert out == ""
    assert "after step 6:\nthe " in err
    assert "after step 12:\nthe " in err
    assert "step 12/12: loss " in err


def test_a_finished_run_is_not_trained_again_and_its_model_is_made_again(config, place):
    outcome = run_training(config, place / "run", resume="auto")
    weights = (outcome.model_folder / "model.safetensors").read_bytes()
    metrics = (place / "run" / "metrics.jsonl").read_bytes()
    (outcome.model_folder / "model.safetensors").unlink()

    assert run_training(config, place / "run", resume="auto").is_finished
    assert (outcome.model_folder / "model.safetensors").read_bytes() == weights
    assert (place / "run" / "metrics.jsonl").read_bytes() == metrics


def test_a_store_without_held_out_text_is_trained_on_without_measuring(place):
    prepare([place / "run.toml"], "bytes", place / "all", valid_fraction=0.0)
    config = read_config(place / "run.toml", ["data.store=all"])

    assert run_training(config, place / "run", resume="auto").is_finished
    assert "valid_bits_per_byte" not in (place / "run" / "metrics.jsonl").read_text()


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        (["data.store=none"], DataError, "no token store at 'none'"),
        (["data.ctx_len=100000"], DataError, "must have at least 100001 tokens for one sample"),
        (["model.vocab_size=100"], ConfigError, "`model.vocab_size` must be at least 256"),
        (["model.n_layer=-1"], ConfigError, "`n_layer` must be a positive integer, got -1"),
    ],
)
def test_what_cannot_be_trained_leaves_no_folder(place, settings, error, words):
    config = read_config(place / "run.toml", settings)

    with pytest.raises(error) as caught:
        run_training(config, place / "runs" / "tiny", resume="auto")

    assert words in str(caught.value)
    assert not (place / "runs").exists()


def test_a_store_that_became_another_is_refused(config, place):
    run_training(config, place / "run", resume="auto")
    before = {file: file.read_bytes() for file in (place / "run").rglob("*") if file.is_file()}
    (place / "store").unlink()
    prepare([place / "run.toml"], "train:270", place / "store")

    with pytest.raises(ConfigError, match=r"`data.store_sha256` was '\w{64}', now '\w{64}'"):
        run_training(config, place / "run", resume="auto")

    assert {file: file.read_bytes() for file in before} == before


def test_a_store_that_moved_is_the_same(config, place):
    run_training(config, place / "run", resume="auto")
    (place / "store").rename(place / "moved")
    data = replace(config.data, store=str(place / "moved"))

    assert run_training(replace(config, data=data), place / "run", resume="auto").is_finished


def test_a_store_that_is_not_the_one_of_the_recipe_is_refused(config, place):
    data = replace(config.data, store_sha256="0" * 64)

    with pytest.raises(DataError, match=r"must have the sha256 0{64}, as `data.store_sha256` says"):
        run_training(replace(config, data=data), place / "run", resume="auto")
    assert not (place / "run").exists()


@pytest.fixture
def handlers() -> Iterator[None]:
    """Check that the handlers of signals are afterwards what they were."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_asks_to_stop_and_a_second_one_ends_at_once(number):
    told: list[str] = []
    with _stop_signals(lambda: told.append("stopping")) as stopped:
        assert not stopped()
        signal.raise_signal(number)
        assert stopped()
        assert told == ["stopping"]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("handlers")
def test_a_run_that_fails_gives_the_signals_back(config, place):
    (place / "run").mkdir()
    (place / "run" / "metrics.jsonl").write_text("not JSON\nnor this\n")

    with pytest.raises(DataError, match="line 1, must be a JSON object"):
        run_training(config, place / "run", resume="auto")


@pytest.fixture
def pairs(place):
    """Return a run on pairs, in some of whose steps no token counts."""
    lines = [
        json.dumps({"prompt": f"what is {number} and its square? ", "answer": str(number**2)})
        for number in range(60)
    ]
    (place / "pairs.jsonl").write_text("\n".join(lines))
    prepare([place / "pairs.jsonl"], "bytes", place / "pairs", valid_fraction=0.2)
    return read_config(place / "run.toml", ["data.store=pairs", "data.batch_size=1"])


def test_a_run_on_pairs_is_measured_by_its_answers(pairs, place):
    outcome = run_training(pairs, place / "run", resume="auto")

    lines = [
        json.loads(line) for line in (place / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    store = TokenStore.open("pairs")
    documents = held_out_documents(store.valid, tokenizer=store.tokenizer)
    assert sum(each.n_bytes for each in documents) < store.valid.n_bytes / 5
    score = score_documents(
        load(outcome.model_folder).model,
        held_out_documents(store.valid, 200, tokenizer=store.tokenizer),
        end_of_text=store.end_of_text,
    )
    assert lines[-1]["valid_bits_per_byte"] == pytest.approx(score.bits_per_byte, rel=1e-6)
    mask = store.manifest.splits.train.mask
    assert mask is not None
    for line in lines:
        if "skipped" in line:  # no token of its batch counts
            continue
        bits = line["loss"] / math.log(2) * mask.tokens / mask.bytes
        assert line["bits_per_byte"] == pytest.approx(bits)


def two_sources(place, **changed):
    make_two_sources(place)
    return read_config(place / "run.toml", [f"{key}={value}" for key, value in changed.items()])


@pytest.mark.parametrize("kind", ["pairs", "sources", "segments"])
def test_a_run_goes_on_with_the_same_bits(kind, pairs, place, monkeypatch):
    if kind != "pairs":
        segments = {"data.segments": 3} if kind == "segments" else {}
        pairs = two_sources(place, **segments)
    whole = run_training(pairs, place / "whole", resume="auto")
    step = Trainer.step

    def interrupted(self: Trainer):
        if self.progress.step == 7:
            raise KeyboardInterrupt
        return step(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_training(pairs, place / "cut", resume="auto")
    again = run_training(pairs, place / "cut", resume="auto")

    one, other = ((each.model_folder / "model.safetensors").read_bytes() for each in (whole, again))
    assert one == other
    assert losses(place / "cut") == losses(place / "whole")


def losses(folder):
    """Return all figures of each step of a run that are no measure of time."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    told = ("step", "loss", "loss_by_source", "loss_average", "bits_per_byte")
    told += ("valid_bits_per_byte", "valid_bits_per_byte_by_source", "grad_norm")
    return [{key: line.get(key) for key in told} for line in lines]


def test_each_source_has_its_loss_and_its_held_out_figure(place):
    outcome = run_training(two_sources(place), place / "run", resume="auto")

    lines = [
        json.loads(line) for line in (place / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    counts = {"prose": 0, "numbers": 0}
    batches = run_batches(open_stores(config := read_config(place / "run.toml")), config)
    for step, line in enumerate(lines):
        each = [sample._asdict()["source"] for sample in batches.samples(5 * step, 5)]
        assert line["loss_by_source"].keys() == set(each)
        mean = sum(line["loss_by_source"][name] for name in each) / 5
        assert line["loss"] == pytest.approx(mean, rel=1e-6)
        counts = {name: counts[name] + each.count(name) for name in counts}
    assert counts == {"prose": 42, "numbers": 18}
    model = load(outcome.model_folder).model
    for name, n_tokens in (("prose", 140), ("numbers", 60)):
        store = TokenStore.open(config.data.stores[name])
        documents = held_out_documents(store.valid, n_tokens)
        score = score_documents(model, documents, end_of_text=store.end_of_text)
        found = lines[-1]["valid_bits_per_byte_by_source"][name]
        assert found == pytest.approx(score.bits_per_byte, rel=1e-6)


def test_a_step_without_a_counted_token_has_no_loss_and_costs_no_state(pairs, place, monkeypatch):
    config = replace(pairs, data=replace(pairs.data, segments=4))
    carried: list[bool] = []
    step = Trainer.step

    def watched(self: Trainer):
        result = step(self)
        if result.verdict.reason and self.progress.step % 4:  # between two segments
            carried.append(self._carried is not None)
        return result

    monkeypatch.setattr(Trainer, "step", watched)
    run_training(config, place / "run", resume="auto")

    lines = [
        json.loads(line) for line in (place / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    silent = [line for line in lines if "skipped" in line]
    assert {line["skipped"] for line in silent} == {"no token of the batch counts"}
    assert {line["loss"] for line in silent} == {None}
    assert set(carried) == {True}
    applied = [line["loss"] for line in lines if "skipped" not in line]
    assert min(applied) < lines[-1]["loss_average"] < max(applied)


def test_a_run_on_sources_keeps_their_hashes_and_refuses_others(place):
    config = two_sources(place)
    run_training(config, place / "run", resume="auto")
    saved = read_config(place / "run" / "config.toml")
    stores = {name: TokenStore.open(path) for name, path in config.data.stores.items()}
    assert [each.store_sha256 for each in saved.data.sources] == [
        each.sha256 for each in stores.values()
    ]
    prepare([place / "run.toml"], "bytes", place / "numbers", valid_fraction=0.0, replace=True)

    with pytest.raises(ConfigError, match=r"`data.sources.numbers.store_sha256` was '\w{64}'"):
        run_training(config, place / "run", resume="auto")


def test_the_record_of_a_spike_names_the_sources(place):
    config = two_sources(place, **{"spikes.warmup_steps": 3, "spikes.grad_norm_ratio": 1e-3})

    with pytest.raises(ConfigError, match="diverged"):
        run_training(config, place / "run", resume="auto")

    record = json.loads((place / "run" / "spike-00000004.json").read_text())
    batches = run_batches(open_stores(config), config)
    assert record["samples"] == [each._asdict() for each in batches.samples(15, 5)]
    assert {each["source"] for each in record["samples"]} == {"prose", "numbers"}


def test_a_trained_state_is_what_the_held_out_figure_and_the_verbs_begin_with(config, place):
    base = run_training(config, place / "run", resume="auto").model_folder
    settings = ["finetune.method=state", f"training.init_from={base}", "optimizer.lr=0.1"]
    tuning = read_config(place / "run.toml", settings)

    outcome = run_training(tuning, place / "tuned", resume="auto")

    last = json.loads((place / "tuned" / "metrics.jsonl").read_text().splitlines()[-1])
    store = TokenStore.open("store")
    documents = held_out_documents(store.valid, 200)
    lm = load(outcome.model_folder)
    score, before = (
        score_documents(lm.model, documents, end_of_text=store.end_of_text, start=start)
        for start in (lm.start_state(None), lm.zero_state())
    )
    assert last["valid_bits_per_byte"] == pytest.approx(score.bits_per_byte, rel=1e-6)
    assert score.bits_per_byte < before.bits_per_byte
    state = load(base).load_state(outcome.model_folder / "initial_state.safetensors")
    written = [
        each.generate("the ", state=given, max_tokens=8, seed=0).text
        for each, given in ((lm, None), (load(base), state))
    ]
    assert written[0] == written[1]


def test_a_run_that_does_not_fit_says_what_to_change(config, place, monkeypatch):
    monkeypatch.setattr(Trainer, "step", lambda _: torch.empty(2**50))
    wanted = "^training must have another .* GB of memory on cpu, .*; lower `data.micro_batch_size`"
    with pytest.raises(MemoryShortageError, match=wanted):
        run_training(config, place / "run", resume="never")
