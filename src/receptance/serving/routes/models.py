"""`/v1/models`: what is served."""

import re
from pathlib import Path
from typing import Any

import torch
from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from receptance.errors import RequestError
from receptance.models import RWKV4Config, build
from receptance.quantization import quantization
from receptance.serving.routes.service import Service

_CONTEXT = re.compile(r"(?<![a-z])ctx(\d{1,9})(?!\d)", re.IGNORECASE)


def model_object(service: Service) -> dict[str, Any]:
    """Return the model as OpenAI describes one, and under `meta` what ours is.

    Of tokens the model has `n_vocab` logits, the last of which may be of none; the tokenizer has
    `vocab_size`. `fingerprint` is of the weights, and what states carry; `system_fingerprint`
    changes with them, their dtype and PyTorch, so that a seed may give another text. Where the
    matrices are quantized, `dtype` is that of the rest.
    """
    lm = service.lm
    state = lm.zero_state().tensors.values()
    form = quantization(lm.model)
    return {
        "id": service.model_id,
        "object": "model",
        "created": service.created,
        "owned_by": "receptance",
        "meta": {
            "architecture": lm.model.config.architecture,
            "n_params": _n_params(lm.model.config),
            "n_layer": lm.model.config.n_layer,
            "n_embd": lm.model.config.n_embd,
            "n_vocab": lm.model.config.vocab_size,
            "vocab_size": lm.tokenizer.vocab_size,
            "tokenizer": lm.tokenizer.name,
            "dtype": str(next(lm.model.parameters()).dtype).removeprefix("torch."),
            "quantization": None if form is None else f"int{form.bits}",
            "n_ctx_train": trained_context(lm.path),
            "state_bytes": sum(each.numel() * each.element_size() for each in state),
            "max_prompt_tokens": service.settings.max_prompt_tokens,
            "chat_template": service.template.name,
            "fingerprint": lm.fingerprint,
            "system_fingerprint": service.fingerprint,
        },
    }


def _n_params(config: RWKV4Config) -> int:
    """Return how many numbers a model has, however few bits they are in."""
    with torch.device("meta"):
        return sum(each.numel() for each in build(config).parameters())


def trained_context(path: Path | None) -> int | None:
    """Return how many tokens a text had in training, which is no limit of the model.

    Args:
        path: Of the model. The authors write it into the names of their files, such as
            RWKV-4-World-0.1B-v1-20230803-ctx4096.pth, and none of the formats has it within.

    Returns:
        The number, or None if the name does not say it.
    """
    found = None if path is None else _CONTEXT.search(path.name)
    return None if found is None else int(found[1])


def models_router(service: Service) -> APIRouter:
    """Return the routes."""
    router = APIRouter()
    model = model_object(service)

    @router.get("/v1/models", response_model=None)
    async def list_models() -> Response:
        """List what is served."""
        return JSONResponse({"object": "list", "data": [model]})

    @router.get("/v1/models/{model_id:path}", response_model=None)
    async def retrieve_model(model_id: str) -> Response:
        """Describe the model that is served."""
        if model_id != service.model_id:
            raise RequestError(
                f"the model {model_id[:100]!r} is not served here; GET /v1/models lists what is",
                status=404,
                code="model_not_found",
                param="model",
            )
        return JSONResponse(model)

    return router
