import json
from pathlib import Path

import pytest

from receptance.cli.run_data import open_stores, run_batches
from receptance.cli.step_view import step_lines, view_step
from receptance.data import Batch, TokenStore, prepare
from receptance.errors import ConfigError, DataError
from receptance.training import read_config
from tests.cli.conftest import RUN, Command
from tests.cli.two_sources import make_two_sources

SWITCHING = RUN.replace(
    "batch_size = 4\n",
    "batch_size = 4\nsegments = 2\nlater_batch_size = 6\nlater_batch_step = 6\n"
    "reset_at_documents = true\n",
)


AUTHORS = RUN.replace("batch_size = 4\n", 'batch_size = 4\norder = "authors"\n')


@pytest.mark.parametrize("settings", [RUN, SWITCHING, AUTHORS])
def test_every_step_of_a_run_is_what_the_run_then_reads(
    place: Path, settings: str, receptance: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What training asks its batches for is compared with what the command says of each step."""
    from receptance.data import Batches

    (place / "run.toml").write_text(settings)
    read: dict[tuple[int, int, int], Batch] = {}
    original = Batches.batch

    def remember(self: Batches, first_sample: int, n_rows: int, segment: int = 0) -> Batch:
        batch = original(self, first_sample, n_rows, segment)
        read[first_sample, n_rows, segment] = batch
        return batch

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "batch", remember)
        assert receptance("train", "run.toml", "every.sample_steps=0").code == 0
    store = TokenStore.open("store")
    seen = 0
    for step in range(12):
        view = view_step(store, Path("runs/tiny"), step)
        rows = view["samples"]
        batch = read.get((rows[0]["sample"], len(rows), view["segment"]))
        assert batch is not None, f"training never read what step {step} is said to see"
        seen += 1
        assert [row["tokens"] for row in rows] == batch.tokens.tolist()
        assert [row["next_token"] for row in rows] == batch.targets[:, -1].tolist()
        if view["reset_at_documents"]:
            assert [row["resets"] for row in rows] == [
                row.nonzero().flatten().tolist() for row in batch.resets
            ]
    assert seen == 12


def test_the_documents_of_a_sample_are_its_tokens_in_the_store(place: Path) -> None:
    store = TokenStore.open("store")
    sizes = set()
    for step in range(12):
        for sample in view_step(store, place / "run.toml", step)["samples"]:
            tokens = []
            for stretch in sample["documents"]:
                part = store.train.tokens[stretch["first_token"] : stretch["last_token"] + 1]
                tokens += part.tolist()
                text = part[:-1] if stretch["ends"] else part
                assert stretch["text"] == store.tokenizer.decode(text.tolist())
                whole = store.train.document(stretch["document"]).tolist()
                assert store.tokenizer.decode(text.tolist()) in store.tokenizer.decode(whole)
                assert stretch["ends"] == (part[-1] == store.end_of_text)
            assert tokens == sample["tokens"]
            sizes.add(len(sample["documents"]))
    assert sizes == {1, 2}


def test_a_sample_across_the_end_of_the_store_has_its_last_and_its_first_document(
    place: Path,
) -> None:
    store = TokenStore.open("store")
    n = store.train.n_tokens - 1
    (place / "run.toml").write_text(RUN.replace("ctx_len = 16", f"ctx_len = {n}"))
    documents = view_step(store, place / "run.toml", 0)["samples"][0]["documents"]
    numbers = [each["document"] for each in documents]
    last = store.train.n_documents - 1
    assert last in numbers
    assert numbers[numbers.index(last) + 1] == 0


def test_the_command_prints_all_samples_of_the_step_or_as_many_as_are_asked(
    place: Path, receptance: Command
) -> None:
    result = receptance("data", "inspect", "store", "--run", "run.toml", "--step", 3)
    assert result.code == 0
    assert "step 3 of 12, counted from 0: 4 samples of 16 tokens" in result.stdout
    assert [f"sample {number}: epoch" in result.stdout for number in range(11, 17)] == [
        False, True, True, True, True, False,
    ]  # fmt: skip
    fewer = receptance("data", "inspect", "store", "--run", "run.toml", "--samples", 1)
    assert "and 3 more samples" in fewer.stdout
    told = receptance("data", "inspect", "store", "--run", "run.toml", "--step", 3, "--json")
    view = view_step(TokenStore.open("store"), place / "run.toml", 3)
    assert json.loads(told.stdout)["samples"] == view["samples"]


def test_people_read_where_the_state_is_zero_and_where_it_goes_on(place: Path) -> None:
    (place / "run.toml").write_text(SWITCHING)
    store = TokenStore.open("store")
    texts = [
        "\n".join(step_lines(view_step(store, place / "run.toml", step), 9)) for step in (0, 1)
    ]
    assert "segment 0 of 2: the state is zero" in texts[0]
    assert "segment 1 of 2: the state goes on" in texts[1]
    assert "the state is zero before its tokens" in texts[0] + texts[1]
    assert "no reset in it" in texts[0] + texts[1]
    (place / "run.toml").write_text(RUN)
    lines = step_lines(view_step(store, place / "run.toml", 0), 1)
    assert any("documents read on from one another" in line for line in lines)


def test_a_step_after_the_last_is_refused(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"the step must be below 12, .* but it is 12"):
        view_step(TokenStore.open("store"), place / "run.toml", 12)


def test_another_store_than_the_runs_is_refused(place: Path) -> None:
    (place / "run.toml").write_text(
        RUN.replace("ctx_len", f'store_sha256 = "{"0" * 64}"\nctx_len', 1)
    )
    with pytest.raises(DataError, match="must have the sha256 0000"):
        view_step(TokenStore.open("store"), place / "run.toml", 0)


def test_a_run_that_went_back_is_shown_up_to_there(place: Path) -> None:
    folder = place / "runs" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(RUN)
    (folder / "metrics.jsonl").write_text('{"step": 5}\n{"step": 6, "rolled_back_from": 9}\n')
    store = TokenStore.open("store")
    assert view_step(store, folder, 4)["samples"]
    with pytest.raises(DataError, match=r"the step must be below 5, before which .* but it is 5"):
        view_step(store, folder, 5)


@pytest.mark.usefixtures("place")
def test_options_of_another_order_are_refused_beside_a_run(receptance: Command) -> None:
    for option in ("--ctx-len", "--batch-size", "--seed"):
        result = receptance("data", "inspect", "store", "--run", "run.toml", option, 1)
        assert result.code == 2
        assert f"{option} must not be given" in result.stderr


def test_the_shown_order_is_that_of_training(place: Path) -> None:
    store, config = TokenStore.open("store"), read_config(place / "run.toml")
    origins = run_batches({"": store}, config).samples(8, 4)
    view = view_step(store, place / "run.toml", 2)
    assert [sample["first_token"] for sample in view["samples"]] == [
        origin.first_token for origin in origins
    ]


def test_each_row_of_a_mixed_run_is_shown_with_its_source_and_its_text_there(
    place: Path, receptance: Command
) -> None:
    make_two_sources(place)
    config = read_config(place / "run.toml")
    stores = open_stores(config)
    batches = run_batches(stores, config)
    sources = set()
    for step in (0, 11):
        samples = view_step(None, place / "run.toml", step)["samples"]
        assert [each["tokens"] for each in samples] == batches.batch(5 * step, 5).tokens.tolist()
        for sample, origin in zip(samples, batches.samples(5 * step, 5), strict=True):
            assert sample.items() >= origin._asdict().items()
            train = stores[sample["source"]].train
            places = range(sample["first_token"], sample["first_token"] + 16)
            assert sample["tokens"] == train.tokens.take(places, mode="wrap").tolist()
            sources.add(sample["source"])
    assert sources == {"prose", "numbers"}
    shown = receptance("data", "inspect", "--run", "run.toml", "--step", 11)
    assert shown.code == 0
    told = "tokens from {first_token:,} on, of {source}, its sample {place}"
    assert all(told.format(**sample) in shown.stdout for sample in samples)
    refused = receptance("data", "inspect", "store", "--run", "run.toml")
    assert refused.code == 3
    assert "mixes ['prose', 'numbers'], so no store must be given" in refused.stderr


def test_a_step_shows_which_tokens_count(place: Path, receptance: Command) -> None:
    (place / "pairs.jsonl").write_text(
        "\n".join(f'{{"prompt": "{n} + 1 is ", "answer": "{n + 1}."}}' for n in range(40))
    )
    prepare([place / "pairs.jsonl"], "bytes", place / "pairs")
    (place / "run.toml").write_text(RUN.replace('"store"', '"pairs"'))
    store = TokenStore.open("pairs")
    batch = run_batches({"": store}, read_config(place / "run.toml")).batch(0, 4)
    assert batch.counted is not None
    view = view_step(store, place / "run.toml", 0)
    for row, sample in enumerate(view["samples"]):
        assert sample["counted"] == batch.counted[row].int().tolist()
        # The answers are what is shown to count, but for a token that only begins the row.
        for document in sample["documents"]:
            whole = "".join(run["text"] for run in document["runs"])
            assert whole == document["text"]
            for run in document["runs"]:
                if run["counted"]:
                    assert set(run["text"]) <= set("0123456789.")
    shown = receptance("data", "inspect", "--run", "run.toml")
    assert " is ⟧" in shown.stdout
    assert "what is in ⟦ ⟧ is read and not predicted" in shown.stdout
    (place / "run.toml").write_text(RUN)
    assert "⟦" not in receptance("data", "inspect", "--run", "run.toml").stdout


@pytest.mark.usefixtures("place")
def test_a_store_is_needed_where_no_run_names_one(receptance: Command) -> None:
    for options in ([], ["--run", "run.toml", "--verify"]):
        refused = receptance("data", "inspect", *options)
        assert refused.code == 2
        assert "STORE must be given" in refused.stderr
