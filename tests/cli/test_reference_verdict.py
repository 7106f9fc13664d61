"""A run is within the band, or it is said where it left it; another run is not judged."""

import math
from dataclasses import replace

import pytest

from receptance.cli.reference_verdict import Departure, curves_of, departures, judge
from receptance.cli.run_reference import Band, read_references
from tests.cli.test_run_reference import config, reference


def lines(shift: float = 0.0, n_steps: int = 40, held_out: float = 2.0, **changed: float):
    levels = (4.0, 3.0, 2.0, 2.0)
    made = [
        {"step": step, "tokens": 64 * step, "bits_per_byte": levels[(step - 1) // 10] + shift}
        for step in range(1, n_steps + 1)
    ]
    if n_steps == 40:
        made[-1]["valid_bits_per_byte"] = held_out
    return [{**line, **changed} for line in made]


@pytest.fixture
def run():
    """The settings of a run on the reference's text."""
    made = config("mine")
    return replace(made, data=replace(made.data, store_sha256="ab"))


def test_a_run_like_the_references_is_within_the_band(run):
    verdict = judge("mine", run, lines(0.1), reference())

    assert verdict.is_within is True
    assert verdict.words == [
        "mine, beside 3 reference runs of made-up (made-up text):",
        "  training: at step 40 2.100 bits per byte, the band is 1.700 to 2.300; within it at 4 of "
        "4 places",
        "  held out: at step 40 2.000 bits per byte, the band is 1.700 to 2.300; within it at 1 of "
        "1 places",
        "  Within the band, as far as it is.",
    ]


def test_where_a_run_left_the_band_and_what_that_means_is_said(run):
    above = judge("mine", run, lines(0.5), reference())
    assert above.is_within is False
    told = "\n".join(above.words)
    assert "above the band from step 10 to 40, by up to 25% from the references' mean" in told
    assert "due to what computes" in told

    below = "\n".join(judge("mine", run, lines(-0.5), reference()).words)
    assert "a loss that sees what it predicts" in below

    text = "\n".join(judge("mine", run, lines(0.0, held_out=1.0), reference()).words)
    assert "below the band at step 40" in text
    assert "is also in the training text" in text


def test_a_run_of_other_settings_or_another_text_is_set_beside_and_not_judged(run):
    other = replace(run, optimizer=replace(run.optimizer, lr=1.0))
    verdict = judge("mine", other, lines(1.0), reference())
    assert verdict.is_within is None
    assert "    `optimizer.lr` was 0.001, now 1.0" in verdict.words
    assert "a learning rate that is too high" in "\n".join(verdict.words)
    assert "above the band" in "\n".join(verdict.words)

    verdict = judge("mine", config(store="gone"), lines(), reference())
    assert verdict.is_within is None
    assert verdict.words[-1] == "  Not judged: it is another run than the references."


def test_a_run_of_a_recipe_without_references_is_told_so_first(run):
    other = replace(run, name="own", optimizer=replace(run.optimizer, lr=1.0))
    words = judge("mine", other, lines(), reference()).words
    assert words[1] == "  there are none of a recipe 'own'; these are the nearest"


def test_a_run_at_work_is_judged_as_far_as_it_is(run):
    assert judge("mine", run, lines(n_steps=9), reference()).is_within is None
    assert judge("mine", run, lines(n_steps=15), reference()).is_within is True


def test_losses_are_judged_until_a_text_is_read_again(run):
    lengths = reference(held_out_names=frozenset({"a.py"}))
    falling = lines(0.1)[:25] + lines(-1.0)[25:]
    verdict = judge("mine", run, falling, lengths)
    assert verdict.words[1].startswith(
        "  training, to step 25, where a text is read again: at step 20"
    )
    assert verdict.is_within is True


def test_a_run_without_bits_per_byte_is_not_judged(run):
    verdict = judge("mine", run, [{"step": 1, "tokens": 64}], reference())
    assert verdict.is_within is None
    assert "no bits per byte" in verdict.words[-1]


def test_a_loss_that_is_not_finite_is_told_wherever_it_is(run):
    verdict = judge("mine", run, lines(0.0, n_steps=10, bits_per_byte=math.nan), reference())
    assert verdict.is_within is False
    assert "not finite" in "\n".join(verdict.words)


def test_a_single_place_outside_may_be_chance_and_two_on_one_side_are_not():
    flat = Band(steps=range(1, 7), low=[1.0] * 6, mean=[2.0] * 6, high=[3.0] * 6)

    def found(*values: float) -> list[Departure]:
        return departures(list(enumerate(map(float, values), start=1)), flat, least=2)

    assert found(2, 4, 2, 2, 2, 2) == []
    assert found(2, 4, 5, 2, 0, 2) == [Departure(2, 3, True, 1.5)]
    assert found(4, 4, 0, 0) == [Departure(1, 2, True, 1.0), Departure(3, 4, False, 1.0)]
    # A single one that is farther off than twice the band, or too many of them, is no chance.
    assert [each.begin for each in found(2, 4.1, 2, 2, 2, 2)] == [2]
    assert [each.begin for each in found(4, 2, 0, 4, 0, 2)] == [1, 3, 4, 5]


def test_what_may_be_chance_is_told_and_not_counted_as_within(run):
    made = [{**line, "bits_per_byte": line["bits_per_byte"] + 0.5} for line in lines()[:10]]
    verdict = judge("mine", run, [*made, *lines()[10:]], reference())
    assert verdict.is_within is True
    assert verdict.words[1].endswith("within it at 3 of 4 places")
    assert "outside it at step 10, each by itself, which may be chance" in verdict.words[2]


def test_a_single_place_is_named_beside_a_stretch_outside(run):
    shifts = (0.5, 0.0, 0.5, 0.5)
    made = [
        {**line, "bits_per_byte": line["bits_per_byte"] + shifts[(line["step"] - 1) // 10]}
        for line in lines()
    ]
    words = judge("mine", run, made, reference()).words
    assert words[1].endswith("within it at 1 of 4 places")
    assert "above the band from step 30 to 40" in words[2]
    assert "outside it at step 10, each by itself" in words[3]


def test_a_run_whose_only_place_is_outside_is_not_judged_yet(run):
    verdict = judge("mine", run, lines(0.5, n_steps=10), reference())
    assert verdict.is_within is None
    assert verdict.words[1].endswith("within it at 0 of 1 places")
    assert verdict.words[-1] == (
        "  Not judged yet: its only place is outside the band, which may be chance."
    )


def test_the_band_is_drawn_over_steps_or_tokens():
    curves = curves_of(reference(), "step")
    assert [curve.style for curve in curves] == ["thin", "thin", "line", "dots"]
    assert list(curves[0].x) == [5, 15, 25, 35]
    assert list(curves_of(reference(), "tokens")[3].x) == [20 * 64, 40 * 64]


def test_each_shipped_run_is_within_the_band_of_the_others():
    for shipped in read_references():
        last = min(run["first_reading"] for run in shipped.runs)
        for run in shipped.runs:
            others = replace(shipped, runs=[each for each in shipped.runs if each is not run])
            training = [
                (shipped.window * (index + 1), value)
                for index, value in enumerate(run["bits_per_byte"])
                if shipped.window * (index + 1) <= last
            ]
            assert departures(training, others.training(), least=2) == []
            held_out = [(step, value) for step, value in run["valid_bits_per_byte"]]
            assert departures(held_out, others.held_out(), least=1) == []
