"""Tasks give the figures of lm-eval's own adapter on the exported model, item for item."""

from copy import deepcopy

import pytest

from receptance.checkpoint import convert_model
from receptance.inference import load
from tests.evaluation.tasks.words import ITEMS, TEXT, saved_choices, saved_items, saved_model

tasks = pytest.importorskip("receptance.evaluation.tasks", reason="lm-eval is not installed")
theirs = pytest.importorskip("lm_eval.models.huggingface", reason="accelerate is not installed")
instance = pytest.importorskip("lm_eval.api.instance")
lm_eval = pytest.importorskip("lm_eval")
manager = pytest.importorskip("lm_eval.tasks")
last_words = pytest.importorskip("receptance.evaluation.tasks.last_words")
transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-4
"""Two float32 programs."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return saved_model(tmp_path_factory.mktemp("tasks") / "model")


@pytest.fixture(scope="module")
def lm(folder):
    return load(folder)


@pytest.fixture(scope="module")
def reference(folder):
    exported = folder.parent / "exported"
    convert_model(folder, exported, to="huggingface")
    return theirs.HFLM(
        pretrained=transformers.AutoModelForCausalLM.from_pretrained(exported).eval(),
        tokenizer=transformers.AutoTokenizer.from_pretrained(exported),
        batch_size=1,  # of several, it feeds what they are padded with on their left
        device="cpu",
    )


def asked(kind: str, arguments):
    return [instance.Instance(kind, {}, deepcopy(each), i) for i, each in enumerate(arguments)]


@pytest.mark.parametrize("forks", [True, False])
def test_every_continuation(lm, reference, forks):
    words = [" mat", " house of the cat", " t", " the dog ran"]
    pairs = [(context, word) for context, _ in ITEMS for word in words]
    pairs += [("", "the cat"), ("the cat ", "sat"), ("ends with lines\n\n", " mat")]
    written = [
        (context, lm.generate(context, temperature=0.0, max_tokens=2).text) for context, _ in ITEMS
    ]
    pairs += [(context, word) for context, word in written if "�" not in word]

    ours = tasks.HarnessModel(lm, batch_size=3, forks=forks).loglikelihood(
        asked("loglikelihood", pairs)
    )
    expected = reference.loglikelihood(asked("loglikelihood", pairs), disable_tqdm=True)

    assert [each for each, _ in ours] == pytest.approx(
        [each for each, _ in expected], rel=TOLERANCE
    )
    assert [each for _, each in ours] == [each for _, each in expected]
    assert {each for _, each in ours} == {True, False}


def test_every_whole_text(lm, reference):
    texts = [(TEXT,), ("the cat",), (ITEMS[1][0],)]
    requests = asked("loglikelihood_rolling", texts)

    expected = reference.loglikelihood_rolling(requests, disable_tqdm=True)

    found = tasks.HarnessModel(lm).loglikelihood_rolling(requests)
    assert found == pytest.approx(expected, rel=TOLERANCE)


def test_every_text_that_is_written(lm, reference):
    ways = [{"until": ["t", "\n"], "max_gen_toks": 9}, {"until": [], "max_gen_toks": 7}]
    arguments = [(context, way) for context, _ in ITEMS for way in ways]

    expected = reference.generate_until(asked("generate_until", arguments), disable_tqdm=True)

    assert tasks.HarnessModel(lm).generate_until(asked("generate_until", arguments)) == expected


def evaluated(model, task, shots: int | None = None):
    """Run one task; the harness's own, whose list takes seconds to read, are left out."""
    with pytest.MonkeyPatch.context() as patch:
        # Its pool never ends in a process that has a handler for SIGTERM, as other tests leave one.
        patch.setenv("DISABLE_MULTIPROC", "1")
        return lm_eval.simple_evaluate(
            model,
            tasks=[task],
            num_fewshot=shots,
            bootstrap_iters=10,
            task_manager=manager.TaskManager(include_path=".", include_defaults=False),
        )


def test_accuracy_and_perplexity_of_last_words(lm, reference, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task = last_words.last_word_task(saved_items(tmp_path / "items.jsonl"))

    ours, expected = (
        evaluated(each, task) for each in (tasks.HarnessModel(lm, batch_size=2), reference)
    )

    assert len(ours["samples"]["items"]) == len(ITEMS)
    for found, other in zip(ours["samples"]["items"], expected["samples"]["items"], strict=True):
        assert found["arguments"] == other["arguments"]
        assert found["acc"] == other["acc"]
        assert found["perplexity"] == pytest.approx(other["perplexity"], rel=TOLERANCE)
    for metric in ("acc,none", "perplexity,none"):
        assert ours["results"]["items"][metric] == pytest.approx(
            expected["results"]["items"][metric], rel=TOLERANCE
        )


@pytest.mark.parametrize("forks", [True, False])
def test_choices(lm, reference, tmp_path, monkeypatch, forks):
    monkeypatch.chdir(saved_choices(tmp_path / "tasks"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")

    ours, expected = (
        evaluated(each, "choices", shots=1)
        for each in (tasks.HarnessModel(lm, forks=forks), reference)
    )

    for found, other in zip(
        ours["samples"]["choices"], expected["samples"]["choices"], strict=True
    ):
        logprobs, others = ([float(it[0][0]) for it in s["resps"]] for s in (found, other))
        assert len(logprobs) == 4
        assert logprobs == pytest.approx(others, rel=TOLERANCE)
        assert (found["acc"], found["acc_norm"]) == (other["acc"], other["acc_norm"])
    assert ours["results"]["choices"]["acc_norm,none"] == pytest.approx(
        expected["results"]["choices"]["acc_norm,none"]
    )
