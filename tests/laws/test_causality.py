"""Law 4: a token changes what comes after it and nothing before."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from tests.random_models import random_rwkv4, random_tokens
from tests.tolerances import ALGEBRA

T, V = 20, 17
MODEL = random_rwkv4(2, 12, V, dtype=torch.float64).requires_grad_(False)
TOKENS = random_tokens(1, T, V)
LOGITS, _ = MODEL(TOKENS)

law = settings(max_examples=40, deadline=None, derandomize=True)


@law
@given(at=st.integers(0, T - 1), other=st.integers(1, V - 1))
def test_another_token_changes_no_output_before_it_and_every_one_after(at, other):
    tokens = TOKENS.clone()
    tokens[0, at] = (tokens[0, at] + other) % V
    logits, _ = MODEL(tokens)
    assert_close(logits[:, :at], LOGITS[:, :at], **ALGEBRA)
    changes = (logits[:, at:] - LOGITS[:, at:]).abs().amax(-1)
    assert (changes > 1e-6).all()


@law
@given(at=st.integers(1, T - 1), other=st.integers(1, V - 1))
def test_no_token_reaches_over_a_reset(at, other):
    resets = torch.zeros(1, T, dtype=torch.bool)
    resets[0, at] = True
    tokens = TOKENS.clone()
    tokens[0, :at] = (tokens[0, :at] + other) % V
    found, _ = MODEL(tokens, resets=resets)
    expected, _ = MODEL(TOKENS, resets=resets)
    assert_close(found[:, at:], expected[:, at:], **ALGEBRA)


@law
@given(at=st.integers(0, T - 1))
def test_no_gradient_of_an_output_reaches_a_later_token(at):
    x = MODEL.emb(TOKENS).requires_grad_()
    hook = MODEL.emb.register_forward_hook(lambda *_: x)
    try:
        logits, _ = MODEL(TOKENS)
    finally:
        hook.remove()
    (gradient,) = torch.autograd.grad(logits[:, at].sin().sum(), x)
    assert torch.equal(gradient[:, at + 1 :], torch.zeros_like(gradient[:, at + 1 :]))
    assert (gradient[:, : at + 1].abs().amax(-1) > 0).all()
