"""Which endpoints there are."""

import httpx

PATHS = {
    *("/v1/chat/completions", "/v1/completions", "/v1/embeddings"),
    *("/v1/states", "/v1/states/import", "/v1/states/{state_id}"),
    *("/v1/states/{state_id}/fork", "/v1/states/{state_id}/content"),
    *("/v1/models", "/v1/models/{model_id}", "/tokenize", "/detokenize", "/tokenizer_info"),
    *("/health", "/v1/health", "/ready", "/metrics", "/version"),
}


def test_the_description_names_every_endpoint_and_the_form_of_errors(client: httpx.Client):
    description = client.get("/openapi.json").json()
    assert set(description["paths"]) == PATHS
    for path in description["paths"].values():
        for operation in path.values():
            assert {"200", "4XX", "5XX"} == set(operation["responses"])
    assert "text/plain" in description["paths"]["/metrics"]["get"]["responses"]["200"]["content"]
