"""A Transformer of as many parameters is trained by the steps that train our model."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from paper import parity_read_once
from paper.harness import Options, read_result
from paper.harness.contest import TOLERANCE, tune
from paper.harness.places import costs_in_windows
from paper.harness.results import RESULTS
from paper.harness.training import run_config
from paper.harness.transformer import (
    TransformerReader,
    matched_gpt_neox,
    n_parameters,
    score_in_windows,
    train_transformer,
)
from paper.parity_with_transformer import SIZES
from receptance.data import TokenStore, prepare
from receptance.evaluation import Document
from receptance.models import RWKV4Config

pytest.importorskip("transformers")

SETTINGS = {
    "model": {"n_layer": 1, "n_embd": 64},
    "data": {"ctx_len": 16, "batch_size": 2},
    "training": {"steps": 4, "auxiliary_loss": 0.0},
    "optimizer": {"lr": 1e-3},
    "every": {"checkpoint_steps": 1},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> TokenStore:
    folder = tmp_path_factory.mktemp("text")
    (folder / "a.txt").write_text("The quick brown fox jumps over the lazy dog.\n" * 20)
    return prepare([folder / "a.txt"], "bytes", folder / "store")


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_it_has_as_many_parameters_as_ours_at_every_scale(size):
    config = RWKV4Config(n_layer=size.n_layer, n_embd=size.n_embd, vocab_size=1024)
    model = matched_gpt_neox(size.n_layer, size.n_embd, 1024, size.ctx_len, seed=1)
    assert n_parameters(model) == pytest.approx(config.n_parameters, rel=TOLERANCE)


def test_a_text_that_would_be_read_twice_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("The quick brown fox jumps over the lazy dog.\n" * 20)
    options = Options(scale="quick", texts=(tmp_path / "a.txt",), work=tmp_path)
    with pytest.raises(SystemExit, match=r"must have 30,720 tokens to train on.*--text"):
        parity_read_once.measure(options)


def test_rates_that_are_given_are_those_that_were_best_on_the_first_text():
    tuned = read_result(RESULTS, "parity_with_transformer").found["tuning"]
    assert {each["kind"]: each["chosen"] for each in tuned} == parity_read_once.RATES["small"]


def test_a_killed_run_ends_with_the_same_numbers(store, tmp_path):
    config = run_config("run", store, SETTINGS)

    def run(name, until=None):
        model = matched_gpt_neox(1, 64, store.vocab_size, 16, seed=1)
        return train_transformer(
            config, store, model, tmp_path / name, validate=lambda _: 1.5, until=until
        )

    whole = run("whole")
    run("killed", until=2)
    resumed = run("killed")
    assert resumed.losses == whole.losses
    assert resumed.valid == [(1, 1.5), (2, 1.5), (3, 1.5), (4, 1.5)]
    for ours, theirs in zip(
        resumed.model.state_dict().values(), whole.model.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs)
    assert whole.losses[-1] < whole.losses[0]


def test_a_run_of_other_settings_is_not_gone_on_with(store, tmp_path):
    for seed in (1, 2):
        config = run_config("run", store, {**SETTINGS, "seed": seed})
        model = matched_gpt_neox(1, 64, store.vocab_size, 16, seed=1)
        if seed == 1:
            train_transformer(config, store, model, tmp_path, until=1)
        else:
            with pytest.raises(SystemExit, match="other settings"):
                train_transformer(config, store, model, tmp_path)


def random_tokens(n):
    return torch.randint(50, (n,), generator=torch.Generator().manual_seed(1))


def document_of(tokens):
    return Document(tokens.numpy().astype(np.uint16), len(tokens))


def costs_of_transformers(model, tokens, begin, end):
    """Return what each of these tokens costs, those before them from `begin` on read, in nats."""
    fed = torch.cat([torch.zeros(1, dtype=torch.long), tokens[:-1]])[begin:end]
    with torch.no_grad():
        return F.cross_entropy(
            model(fed[None]).logits[0], tokens[begin:end], reduction="none"
        ).double()


def test_its_cost_of_a_document_is_the_cross_entropy_of_transformers():
    model, tokens = matched_gpt_neox(1, 64, 50, 8, seed=1), random_tokens(8)
    score = score_in_windows(
        TransformerReader(model), [document_of(tokens)], end_of_text=0, window=8
    )
    expected = costs_of_transformers(model, tokens, 0, 8).sum()
    assert score.nats == pytest.approx(float(expected), rel=1e-5)


def test_what_a_place_of_a_window_costs_is_the_mean_over_windows():
    model, tokens = matched_gpt_neox(1, 64, 50, 8, seed=1), random_tokens(20)
    costs = costs_in_windows(
        TransformerReader(model), [document_of(tokens)], end_of_text=0, window=8
    )
    first, second, third = (
        costs_of_transformers(model, tokens, begin, end)
        for begin, end in ((0, 8), (8, 16), (16, 20))
    )
    torch.testing.assert_close(costs[:4], (first[:4] + second[:4] + third) / 3, rtol=1e-5, atol=0)
    torch.testing.assert_close(costs[4:], (first[4:] + second[4:]) / 2, rtol=1e-5, atol=0)


def test_tuning_goes_on_until_the_best_rate_is_between_others():
    tried = dict(tune((1.0, 2.0, 4.0), lambda rate: abs(rate - 16.0)))
    assert sorted(tried) == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    assert min(tried, key=tried.__getitem__) == 16.0
    assert sorted(dict(tune((1.0, 2.0, 4.0), lambda rate: abs(rate - 2.0)))) == [1.0, 2.0, 4.0]
