"""`/v1/models`: what is served."""

from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from receptance.errors import RequestError
from receptance.serving.routes.service import Service


def model_object(service: Service) -> dict[str, Any]:
    """Return the model as OpenAI describes one, and under `meta` what ours is.

    Of tokens the model has `n_vocab` logits, the last of which may be of none; the tokenizer has
    `vocab_size`. `fingerprint` is of the weights, and what states carry; `system_fingerprint`
    changes with them, their dtype and PyTorch, so that a seed may give another text.
    """
    lm = service.lm
    parameters = list(lm.model.parameters())
    state = lm.zero_state().tensors.values()
    return {
        "id": service.model_id,
        "object": "model",
        "created": service.created,
        "owned_by": "receptance",
        "meta": {
            "architecture": lm.model.config.architecture,
            "n_params": sum(each.numel() for each in parameters),
            "n_layer": lm.model.config.n_layer,
            "n_embd": lm.model.config.n_embd,
            "n_vocab": lm.model.config.vocab_size,
            "vocab_size": lm.tokenizer.vocab_size,
            "tokenizer": lm.tokenizer.name,
            "dtype": str(parameters[0].dtype).removeprefix("torch."),
            "state_bytes": sum(each.numel() * each.element_size() for each in state),
            "max_prompt_tokens": service.settings.max_prompt_tokens,
            "chat_template": service.template.name,
            "fingerprint": lm.fingerprint,
            "system_fingerprint": service.fingerprint,
        },
    }


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
