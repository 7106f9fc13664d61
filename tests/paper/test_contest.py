"""The contest of the two models is held whole, and told by what was found."""

import pytest

from paper.harness import Options, text_of
from paper.harness.contest import Size, hold
from paper.harness.contest_report import draw, section

pytest.importorskip("transformers")

SIZE = Size(1, 64, 16, 2, 10, 5, 2, (1e-3, 2e-3), 400)
RATES = {"rwkv4": 2e-3, "gpt-neox": 1e-3}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("contest")
    lines = [f"Line {i} of {i * i} has {i % 7} and {i % 11} in it.\n" for i in range(1200)]
    files = [folder / f"{i}.txt" for i in range(60)]
    for i, file in enumerate(files):
        file.write_text("".join(lines[20 * i : 20 * (i + 1)]))
    options = Options(scale="quick", texts=tuple(files), work=folder / "work")
    return hold(options, text_of(options), SIZE, name="contest", rates=RATES)


def test_both_are_trained_with_each_seed_at_the_rates_that_are_given(found):
    assert [(run["kind"], run["seed"], run["lr"]) for run in found["runs"]] == [
        (kind, seed, RATES[kind]) for seed in (1, 2) for kind in RATES
    ]
    assert [each["chosen"] for each in found["tuning"]] == list(RATES.values())
    assert all([step for step, _ in run["valid"]] == [2, 4, 6, 8, 10] for run in found["runs"])
    assert all(run["valid"][-1][1] == run["bits_per_byte"] for run in found["runs"])
    assert all(run["valid"][-1][1] < run["valid"][0][1] for run in found["runs"])


def test_what_the_places_of_a_window_cost_is_told(found):
    for run in found["runs"]:
        assert [(each["first"], each["last"]) for each in run["by_place"]] == [(1, 8), (9, 16)]
        assert all(0 < each["nats"] < 12 for each in run["by_place"])
    assert "| 1 to 8 |" in section(found)


def test_who_is_ahead_is_told_of_what_was_found(found):
    behind = {"rwkv4": [2.0, 2.2], "gpt-neox": [1.0, 1.1]}
    told = section(_with_costs(found, behind))
    assert "RWKV-4 is behind by more than 3%: the claim does not hold here." in told
    assert "Seed by seed it is 2.000, 2.000: RWKV-4 is behind in 2 of 2." in told
    assert "Learning rates: 0.002 for RWKV-4, 0.001 for GPT-NeoX." in told
    ahead = dict(zip(behind, reversed(behind.values()), strict=True))
    assert "RWKV-4 is ahead: all of the interval" in section(_with_costs(found, ahead))
    even = {"rwkv4": [1.0, 1.1], "gpt-neox": [1.1, 1.0]}
    assert "neither is shown to be ahead" in section(_with_costs(found, even))


def test_learning_by_heart_is_told_of_a_text_that_is_read_again_alone(found):
    learnt = _with_costs(found, {"rwkv4": [2.0, 2.2], "gpt-neox": [1.0, 1.1]})
    losses = {"rwkv4": 1.0, "gpt-neox": 2.0}
    learnt["runs"] = [{**run, "last_loss": losses[run["kind"]]} for run in learnt["runs"]]
    assert "by heart" not in section({**learnt, "train_tokens": 10**6})
    assert "its loss is 50% lower at the end" in section({**learnt, "train_tokens": 100})


def test_both_curves_are_drawn_of_both(found):
    training, held_out = draw(found).axes[:2]
    assert [each.get_label() for each in training.get_lines()] == ["RWKV-4", "GPT-NeoX"]
    assert [each.get_label() for each in held_out.get_lines()] == ["RWKV-4", "GPT-NeoX"]


def _with_costs(found, costs):
    """Return the result with other costs of held-out text, by kind and seed."""
    runs = [
        {
            **run,
            "bits_per_byte": (cost := costs[run["kind"]][run["seed"] - 1]),
            "valid": [(1, cost)],
        }
        for run in found["runs"]
    ]
    return {**found, "runs": runs}
