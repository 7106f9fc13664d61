"""The harness gets from the adapter what the model itself says."""

import math

import pytest

from receptance.errors import ConfigError, DataError
from receptance.inference import SamplingParams, load
from tests.evaluation.tasks.words import saved_model

tasks = pytest.importorskip("receptance.evaluation.tasks", reason="lm-eval is not installed")
registry = pytest.importorskip("lm_eval.api.registry")
instance = pytest.importorskip("lm_eval.api.instance")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return saved_model(tmp_path_factory.mktemp("adapter") / "model")


@pytest.fixture(scope="module")
def lm(model):
    return load(model)


def requests(kind: str, *arguments: tuple):
    return [instance.Instance(kind, {}, each, index) for index, each in enumerate(arguments)]


def score(lm, context: list[int], continuation: list[int]):
    return pytest.approx(math.fsum(lm.score(context, continuation)), rel=1e-5)


def test_the_prefix_comes_before_every_context(lm):
    adapter = tasks.HarnessModel(lm, context_prefix=[7, 8])
    encode = lm.tokenizer.encode
    asked = requests("loglikelihood", ("the cat", " sat"), ("", "the dog"), ("the cat", " ran"))

    found = [logprob for logprob, _ in adapter.loglikelihood(asked)]

    assert found == [
        score(lm, [7, 8, *encode("the cat")], encode(" sat")),
        score(lm, [7, 8], encode("the dog")),
        score(lm, [7, 8, *encode("the cat")], encode(" ran")),
    ]
    rolling = requests("loglikelihood_rolling", ("the cat",))
    assert adapter.loglikelihood_rolling(rolling) == [score(lm, [7, 8], encode("the cat"))]


def test_without_a_prefix_the_end_of_a_text_precedes_what_has_no_context(lm):
    adapter = tasks.HarnessModel(lm)
    tokens = lm.tokenizer.encode("the dog")

    assert adapter.loglikelihood(requests("loglikelihood", ("", "the dog")))[0][0] == score(
        lm, [0], tokens
    )
    rolling = requests("loglikelihood_rolling", ("the dog",), ("",))
    assert adapter.loglikelihood_rolling(rolling) == [score(lm, [0], tokens), 0]


def test_a_text_longer_than_any_window_is_read_from_its_beginning(lm):
    text = "the cat sat on the mat. " * 150
    adapter = tasks.HarnessModel(lm)

    found = adapter.loglikelihood_rolling(requests("loglikelihood_rolling", (text,)))

    tokens = lm.tokenizer.encode(text)
    assert len(tokens) > 1024
    assert found == [score(lm, [0], tokens)]


def test_what_is_written_is_what_the_model_writes(lm):
    adapter = tasks.HarnessModel(lm, context_prefix=[5], batch_size=2)
    asked = [
        ("the cat", {"until": ["t"], "max_gen_toks": 9}),
        ("the dog ran to", {"until": [], "max_gen_toks": 6, "do_sample": False}),
        ("", {"until": "a", "max_gen_toks": 5, "temperature": 0}),
    ]

    found = adapter.generate_until(requests("generate_until", *asked))

    stops, lengths = (("t",), (), ("a",)), (9, 6, 5)
    assert found == [
        lm.generate(
            [5, *lm.tokenizer.encode(context)], temperature=0.0, max_tokens=n, stop=stop
        ).text
        for (context, _), n, stop in zip(asked, lengths, stops, strict=True)
    ]


def test_how_a_task_wants_to_be_written():
    assert tasks.sampling_params({"until": ["\n", ""]}) == SamplingParams(
        max_tokens=256, temperature=0.0, stop=("\n",), seed=0
    )
    assert tasks.sampling_params(
        {"do_sample": True, "temperature": 0.5, "top_k": 3, "top_p": 0.9, "num_beams": 1}, seed=4
    ) == SamplingParams(max_tokens=256, temperature=0.5, top_k=3, top_p=0.9, seed=4)


@pytest.mark.parametrize("wrong", ["num_beams", "typical_p"])
def test_a_way_of_writing_that_there_is_not_is_refused(wrong):
    with pytest.raises(ConfigError, match=f"among until, .* but there is '{wrong}'"):
        tasks.sampling_params({wrong: 2})


def test_a_number_out_of_its_range_is_refused():
    with pytest.raises(ConfigError, match=r"`generation_kwargs` of a task: `top_p` must be above"):
        tasks.sampling_params({"do_sample": True, "top_p": 2})


def test_a_continuation_without_tokens_is_refused(lm):
    adapter = tasks.HarnessModel(lm)
    with pytest.raises(DataError, match=r"must add a token to its context, but '' adds none"):
        adapter.loglikelihood(requests("loglikelihood", ("the cat", "")))


def test_the_harness_makes_it_by_its_name(model, lm):
    arguments = f"path={model},context_prefix=7,forks=False"
    adapter = registry.get_model("receptance").create_from_arg_string(
        arguments, {"batch_size": "4", "device": None, "max_batch_size": None}
    )

    assert isinstance(adapter, tasks.HarnessModel)
    rolling = requests("loglikelihood_rolling", ("the cat",))
    expected = score(lm, [7], lm.tokenizer.encode("the cat"))
    assert adapter.loglikelihood_rolling(rolling) == [expected]


@pytest.mark.parametrize("arguments", ["", "path=x,pretrained=y", "path=x,batch_size=auto"])
def test_an_unknown_argument_is_refused(arguments):
    with pytest.raises(ConfigError, match="the arguments of the model 'receptance' must be"):
        tasks.HarnessModel.create_from_arg_string(arguments)
