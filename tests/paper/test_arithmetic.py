"""What the experiments compute beside the models."""

import pytest

from paper import gradient_stability, table_1_complexity, table_2_sizes, table_3_schedules
from paper.harness import Options


def options(tmp_path) -> Options:
    return Options(scale="quick", texts=(), work=tmp_path)


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_the_exponent_of_a_power_law_is_found(power):
    T = (64, 256, 1024)
    assert table_1_complexity.exponent(T, [3.0 * t**power for t in T]) == pytest.approx(power)


def test_the_sizes_of_the_paper_are_found_to_each_of_their_digits(tmp_path):
    section = table_2_sizes.section(table_2_sizes.measure(options(tmp_path)))
    assert "All twelve of the paper's values" in section
    assert "**Not all values agree.**" not in section


def test_the_recipes_have_the_learning_rates_of_the_paper(tmp_path):
    for run in table_3_schedules.measure(options(tmp_path))["runs"]:
        found = run["initial_lr"], run["constant_mini_epochs"], run["final_lr"]
        assert found == pytest.approx(table_3_schedules.PAPER[run["name"]])


def test_gradients_are_within_the_bounds_of_the_appendix():
    found = gradient_stability.gradients(32, seed=1)
    assert 0 < found["of_W_v"] <= found["bound_of_W_v"]
    assert 0 < found["of_W_k"] <= found["bound_of_W_k"]
