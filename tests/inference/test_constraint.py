"""A constraint is whatever has its three members; the engine keeps to it."""

import pytest

from receptance.inference import Constraint, Engine, Request, SamplingParams
from tests.inference.constraints import Broken, OneOf
from tests.inference.engine_runs import run, whole

YES, NO = list(b"yes"), list(b"no")


def test_a_constraint_needs_no_base_class():
    assert isinstance(OneOf([YES]), Constraint)
    assert not isinstance(object(), Constraint)


@pytest.mark.parametrize("options", [{"temperature": 0.0}, {}, {"top_k": 3, "top_p": 0.5}])
def test_a_text_is_one_that_its_constraint_allows(lm, options):
    engine = Engine(lm, max_sequences=8, poison=True)
    params = SamplingParams(seed=0, frequency_penalty=0.5, logit_bias={121: -9.0}, **options)

    ids = engine.fork(Request("?", params, constraint=lambda: OneOf([YES, NO])), 8)
    outputs = run(engine)

    texts = {whole(outputs[id_]).text for id_ in ids}
    assert texts <= {"yes", "no"}
    for id_ in ids:
        generation = whole(outputs[id_])
        assert generation.finish_reason == "stop"
        assert generation.text == "".join(each.text for each in outputs[id_])
        assert generation.tokens == tuple(generation.text.encode())
        expected = lm.prefill("?" + generation.text)
        for name, tensor in generation.state.tensors.items():
            assert tensor.sub(expected.tensors[name]).abs().max() < 1e-4


def test_a_constraint_that_allows_the_end_of_the_text_may_be_ended_by_it(lm):
    engine = Engine(lm)
    end = lm.tokenizer.end_of_text

    id_ = engine.add(Request("?", SamplingParams(seed=0), constraint=lambda: OneOf([[end]])))
    generation = whole(run(engine)[id_])

    assert (generation.text, generation.finish_reason) == ("", "end_of_text")


def test_a_text_that_is_over_before_it_begins_has_no_token(lm):
    engine = Engine(lm)

    id_ = engine.add(Request("abc", constraint=lambda: OneOf([[]])))
    (output,) = run(engine)[id_]

    assert output.generation is not None
    assert (output.token, output.generation.finish_reason) == (None, "stop")
    assert output.prompt is not None
    assert output.prompt.n_tokens == 3


def test_a_limit_cuts_what_a_constraint_would_let_go_on_but_not_its_end(lm):
    engine = Engine(lm)
    cut, whole_ = (
        engine.add(Request("a", SamplingParams(max_tokens=n), constraint=lambda: OneOf([YES])))
        for n in (2, 3)
    )
    outputs = run(engine)

    assert whole(outputs[cut]).finish_reason == "length"
    assert whole(outputs[whole_]).finish_reason == "stop"


@pytest.mark.parametrize("place", ["is_over", "allowed", "accept"])
def test_a_constraint_that_fails_ends_its_own_text_only(lm, place):
    engine = Engine(lm, max_sequences=3, poison=True)
    params = SamplingParams(max_tokens=6, seed=1, logit_bias={0: -100.0})
    good = engine.add(Request("good", params))
    constrained = engine.add(Request("good", params, constraint=lambda: OneOf([YES])))
    bad = engine.add(Request("good", params, constraint=lambda: Broken(place)))
    outputs = run(engine)

    assert whole(outputs[good]).tokens == lm.generate("good", params).tokens
    assert whole(outputs[constrained]).text == "yes"
    (output,) = outputs[bad]
    assert isinstance(output.error, OSError)
    assert str(output.error) == place
    assert engine.n_running == 0
    assert len(engine.fork(Request("a"), 3)) == 3


def test_a_constraint_that_cannot_begin_is_told_to_whoever_adds_it(lm):
    engine = Engine(lm)

    def fail() -> OneOf:
        raise OSError("no grammar")

    with pytest.raises(OSError, match="no grammar"):
        engine.add(Request("a", constraint=fail))
    assert engine.n_waiting == 0


def test_a_constraint_of_another_vocabulary_ends_its_text(lm):
    engine = Engine(lm)
    id_ = engine.add(Request("a", constraint=lambda: OneOf([YES], vocab_size=300)))

    (output,) = run(engine)[id_]

    assert output.error is not None
