"""What figures 4 and 6 compute of their models' losses."""

import pytest
import torch

from paper.figure_4_scaling import (
    PAPER_FURTHER,
    PAPER_OPTIMAL,
    PAPER_R_SQUARED,
    fitted,
    verdict,
)
from paper.harness.places import costs_by_place, mean_in
from paper.harness.statistics import Point, fit_power_law, mean_interval, pareto, r_squared
from paper.harness.training import initial_model
from receptance.evaluation import Document, score_documents
from receptance.models import RWKV4Config


def test_the_line_of_the_paper_and_its_two_r_squared_are_found_in_its_points():
    law = fit_power_law(*zip(*PAPER_OPTIMAL, strict=True))
    assert law.factor == pytest.approx(3.012, abs=5e-4)
    assert law.power == pytest.approx(-0.0567, abs=5e-5)
    found = [r_squared(law, *zip(*each, strict=True)) for each in (PAPER_OPTIMAL, PAPER_FURTHER)]
    assert found == pytest.approx(PAPER_R_SQUARED, abs=1e-3)


def test_a_point_is_optimal_if_none_of_less_compute_has_a_lower_loss():
    points = [Point(1, 3.0), Point(2, 3.5), Point(3, 2.0), Point(3, 2.5), Point(4, 2.0)]
    assert pareto(points) == [Point(1, 3.0), Point(3, 2.0)]


def test_a_law_is_fitted_to_the_lesser_points_and_judged_by_the_others():
    law = [Point(float(c), 5.0 * c**-0.1) for c in (1, 3, 10, 30, 100, 300, 1000)]
    found = fitted([*law, Point(20.0, 9.0)])
    assert (found["factor"], found["power"]) == pytest.approx((5.0, -0.1))
    assert [each.compute for each in found["further"]] == [300, 1000]
    assert found["r_squared"] == pytest.approx(1)
    assert found["r_squared_further"] == pytest.approx(1)
    bent = fitted([*law[:5], Point(300.0, law[4].loss - 0.001), Point(1000.0, law[4].loss - 0.002)])
    assert bent["r_squared"] == pytest.approx(1)
    assert bent["r_squared_further"] < 0
    assert "near a line" in verdict(found)
    assert "it goes on over an order" in verdict(found)
    assert "it does not go on over an order" in verdict(bent)
    assert "it fits less well" in verdict({**bent, "r_squared_further": 0.5})


def test_an_interval_of_three_seeds_is_students():
    # The standard deviation is 1, and 4.303 its quantile for two degrees of freedom.
    mean, half = mean_interval([1.0, 2.0, 3.0])
    assert mean == 2.0
    assert half == pytest.approx(4.303 / 3**0.5)


def test_costs_by_place_add_up_to_what_the_documents_cost():
    model = initial_model(RWKV4Config(n_layer=1, n_embd=8, vocab_size=20), seed=1)
    torch.nn.init.normal_(model.head.weight)
    tokens = torch.randint(20, (3, 300), generator=torch.Generator().manual_seed(1)).numpy()
    documents = [Document(each.astype("uint16"), 300) for each in tokens]
    costs = costs_by_place(model, documents, end_of_text=0)
    score = score_documents(model, documents, end_of_text=0)
    assert float(costs.sum()) == pytest.approx(score.nats, rel=1e-6)
    assert mean_in(costs, 1, 300).value == pytest.approx(score.nats / 900, rel=1e-6)
    assert mean_in(costs, 2, 3).value == pytest.approx(float(costs[:, 1:3].mean()))
