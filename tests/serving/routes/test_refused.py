"""What other servers have and this one has not."""

import httpx
import pytest

from receptance.serving.routes.refused import REFUSED
from tests.serving.event_streams import refused


@pytest.mark.parametrize("path", list(REFUSED))
def test_an_endpoint_of_another_server_is_refused_by_name(client: httpx.Client, path: str):
    error = refused(client.post(path, json={}), 404)
    assert path in error["message"]
    assert error["code"] == "unknown_endpoint"


def test_other_paths_and_methods_are_refused_in_the_same_form(client: httpx.Client):
    assert refused(client.get("/nothing"), 404)["type"] == "not_found_error"
    assert refused(client.put("/v1/models", json={}), 405)["code"] == "method_not_allowed"
    assert refused(client.get("/v1/completions"), 405)["code"] == "method_not_allowed"
