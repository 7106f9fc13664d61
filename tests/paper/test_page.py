"""The page is what the results say, and nothing on it was written by hand."""

from paper.experiments import EXPERIMENTS
from paper.harness.results import RESULTS
from paper.page import PAGE, build_page
from tests.policy.source_tree import ROOT


def test_the_page_is_made_of_the_results():
    assert PAGE.read_text(encoding="utf-8") == build_page(RESULTS)


def test_every_experiment_is_the_script_of_its_name():
    for experiment in EXPERIMENTS:
        script = ROOT / "paper" / f"{experiment.name}.py"
        assert "raise SystemExit(main(EXPERIMENT))" in script.read_text(encoding="utf-8")


def test_no_result_and_no_picture_is_left_of_what_is_gone():
    names = {experiment.name for experiment in EXPERIMENTS}
    assert {path.stem for path in RESULTS.iterdir() if path.suffix in (".json", ".png")} <= names
