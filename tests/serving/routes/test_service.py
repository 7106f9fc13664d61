"""What all routes share."""

from dataclasses import replace

import pytest
import torch

from receptance.errors import RequestError
from receptance.inference import LanguageModel
from receptance.serving.app import ServerApp
from receptance.serving.protocol import CompletionBody
from receptance.serving.routes import fingerprint_of
from tests.random_models import random_rwkv4


def test_the_fingerprint_is_of_the_weights_and_their_numbers(lm: LanguageModel):
    tokenizer = lm.tokenizer

    def fingerprint(**options: object) -> str:
        model = random_rwkv4(2, 16, 256, **options)  # pyright: ignore[reportArgumentType]
        return fingerprint_of(LanguageModel(model, tokenizer))

    assert fingerprint() == fingerprint_of(lm)
    assert fingerprint(seed=1) != fingerprint()
    assert fingerprint(dtype=torch.bfloat16) != fingerprint()


def test_a_model_of_another_name_is_taken_if_the_server_is_told_so(app: ServerApp):
    service = app.service
    body = CompletionBody.model_validate({"model": "gpt-5"})
    with pytest.raises(RequestError):
        service.require_served(body, body.model)
    lenient = replace(service, settings=replace(service.settings, any_model_name=True))
    lenient.require_served(body, body.model)
    assert lenient.envelope("cmpl", "gpt-5").model == "gpt-5"
    assert service.envelope("cmpl", "tiny").model == "tiny"


def test_an_unknown_field_is_passed_over_if_the_server_is_told_so(app: ServerApp):
    service = app.service
    body = CompletionBody.model_validate({"model": "tiny", "strange": 1})
    with pytest.raises(RequestError):
        service.require_served(body, body.model)
    lenient = replace(service, settings=replace(service.settings, strict_params=False))
    lenient.require_served(body, body.model)
