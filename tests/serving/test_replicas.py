"""Two replicas behind nginx, by the very file of the guide: each key has its own replica."""

import asyncio
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from receptance.serving.access import KeyRing
from receptance.serving.app import ServerApp, create_app
from receptance.serving.settings import Settings
from tests.serving.live import Live, live

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
CONFIG = Path(__file__).parents[2] / "docs" / "guides" / "deployment" / "nginx.conf"
KEYS = [f"user-{i:02}:key-of-user-{i:02}-0123" for i in range(24)]
NAME = "models.example.com"

pytestmark = pytest.mark.skipif(NGINX is None, reason="needs nginx, which is not installed")


class Pair(NamedTuple):
    """The proxy's address, and what is behind it."""

    client: httpx.Client
    replicas: list[Live]
    apps: list[ServerApp]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def certificate(folder: Path) -> list[Path]:
    """Return a certificate that its own key signed, and the key."""
    files = [folder / "crt", folder / "key"]
    options = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subject = ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME},IP:127.0.0.1"]
    command = ["openssl", "req", *options, *subject, "-out", str(files[0]), "-keyout"]
    subprocess.run([*command, str(files[1])], check=True, capture_output=True)
    return files


def replaced(text: str, **values: object) -> str:
    """Return the guide's file with places of this test; each of them must be there once."""
    for old, new in values.items():
        assert text.count(old) == 1, old
        text = text.replace(old, str(new))
    return text


@pytest.fixture
def pair(lm, tmp_path) -> Iterator[Pair]:
    """Two replicas whose models have the names "one" and "two", and nginx before them."""
    keys = KeyRing(KEYS)
    settings = Settings(
        port=0,
        allowed_hosts=(NAME,),
        any_model_name=True,
        chunk_tokens=64,
        state_folder=tmp_path / "states",
    )
    with ExitStack() as stack:
        apps, replicas = [], []
        for name in ("one", "two"):
            apps.append(create_app(lm, settings, keys=keys, model_name=name))
            replicas.append(stack.enter_context(live(apps[-1], settings, apps[-1].room)))
        port = free_port()
        crt, key = certificate(tmp_path)
        site = replaced(
            CONFIG.read_text(),
            **{
                "127.0.0.1:8001": f"127.0.0.1:{replicas[0].port}",
                "127.0.0.1:8002": f"127.0.0.1:{replicas[1].port}",
                "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
                f"/etc/nginx/{NAME}.crt": crt,
                f"/etc/nginx/{NAME}.key": key,
            },
        )
        (tmp_path / "site.conf").write_text(site)
        stack.enter_context(nginx(tmp_path, port))
        address = f"https://127.0.0.1:{port}"
        context = ssl.create_default_context(cafile=str(crt))
        with httpx.Client(base_url=address, verify=context, headers={"Host": NAME}) as client:
            yield Pair(client, replicas, apps)


@contextmanager
def nginx(folder: Path, port: int) -> Iterator[None]:
    """Run nginx with the site of a folder, and with nothing of this machine's own."""
    assert NGINX is not None
    temporary = [f"{each}_temp_path {folder}/{each};" for each in ("client_body", "proxy")]
    others = [f"{each}_temp_path {folder}/{each};" for each in ("fastcgi", "uwsgi", "scgi")]
    http = ["access_log off;", *temporary, *others, f"include {folder}/site.conf;"]
    first = ["daemon off;", f"pid {folder}/pid;", f"error_log {folder}/errors warn;"]
    (folder / "nginx.conf").write_text(
        "\n".join([*first, "worker_processes 1;", "events { }", "http {", *http, "}"])
    )
    process = subprocess.Popen(
        [NGINX, "-e", f"{folder}/errors", "-p", str(folder), "-c", f"{folder}/nginx.conf"],
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + 10
        while True:
            errors = (folder / "errors").read_text() if (folder / "errors").exists() else ""
            assert process.poll() is None, errors
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert time.monotonic() < deadline, errors
            time.sleep(0.01)
        yield
    finally:
        process.terminate()
        process.communicate(timeout=10)


def key_of(line: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {line.partition(':')[2]}"}


def replica_of(pair: Pair, line: str) -> str:
    answer = pair.client.get("/v1/models", headers=key_of(line))
    assert answer.status_code == 200, answer.text
    return answer.json()["data"][0]["id"]


def ask(pair: Pair, line: str, prompt: str, **fields: object) -> httpx.Response:
    body = {"model": "any", "prompt": prompt, "max_tokens": 4, "seed": 1, **fields}
    return pair.client.post("/v1/completions", json=body, headers=key_of(line))


def stop(replica: Live) -> None:
    """End a replica, and wait until its socket is closed."""
    replica.server.stop()
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", replica.port)) != 0:
                return
        time.sleep(0.01)


def test_a_key_stays_with_its_replica_until_that_is_gone(pair):
    homes = {line: replica_of(pair, line) for line in KEYS}
    assert set(homes.values()) == {"one", "two"}
    assert homes == {line: replica_of(pair, line) for line in KEYS}

    stop(pair.replicas[0])

    assert {replica_of(pair, line) for line in KEYS} == {"two"}
    assert all(ask(pair, line, "a").status_code == 200 for line in KEYS)


def test_a_replica_that_takes_no_requests_any_more_hands_them_to_the_other(pair):
    assert {replica_of(pair, line) for line in KEYS} == {"one", "two"}

    asyncio.run(pair.apps[0].room.drain(1.0))  # it listens, and says 503

    assert all(ask(pair, line, "a").status_code == 200 for line in KEYS)


def test_the_next_turn_finds_what_its_key_has_said(pair):
    for line in KEYS[:4]:
        said = f"{line} said this before; " * 3
        first = ask(pair, line, said).json()
        second = ask(pair, line, f"{said} and goes on.").json()
        assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
        assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == len(said)


def test_replicas_that_share_a_folder_find_each_others_states(pair):
    line = next(each for each in KEYS if replica_of(pair, each) == "one")
    made = pair.client.post(
        "/v1/states", json={"model": "any", "prompt": "a document"}, headers=key_of(line)
    )
    state = made.json()["id"]
    before = ask(pair, line, " more", state=state).json()["choices"]

    stop(pair.replicas[0])

    assert replica_of(pair, line) == "two"
    assert ask(pair, line, " more", state=state).json()["choices"] == before
    other = next(each for each in KEYS if each != line)
    assert ask(pair, other, " more", state=state).status_code == 404


def test_a_stream_comes_as_it_is_written_and_a_client_that_leaves_ends_it(pair):
    line = KEYS[0]
    app = pair.apps[["one", "two"].index(replica_of(pair, line))]
    body = {"model": "any", "prompt": "a", "max_tokens": 60_000, "stream": True, "temperature": 2}
    with pair.client.stream("POST", "/v1/completions", json=body, headers=key_of(line)) as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("data: {")
        assert app.room.n_running == 1  # the first words are here, and the text goes on
    deadline = time.monotonic() + 10
    while app.room.n_running:
        assert time.monotonic() < deadline, "the text went on without a reader"
        time.sleep(0.01)


def test_what_is_refused_comes_through_in_the_servers_own_words(pair):
    unknown = pair.client.get("/v1/models", headers=key_of("x:not-a-key-of-anybody"))
    assert unknown.json()["error"]["code"] == "invalid_api_key"
    other = pair.client.get("/v1/models", headers={**key_of(KEYS[0]), "Host": "evil.example"})
    assert other.json()["error"]["code"] == "host_not_allowed"
    assert ask(pair, KEYS[0], "a", tools=[{}]).json()["error"]["param"] == "tools"
    assert pair.client.get("/metrics", headers=key_of(KEYS[0])).status_code == 404
    assert pair.client.get("/health").json() == {"status": "ok"}
