"""A hub on this machine, which serves dictionaries as the Hugging Face hub serves repositories."""

import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

MAIN = "a" * 40
OLDER = "b" * 40


@dataclass
class Repository:
    """Commits, each a dictionary of files, and the branches and tags that name them."""

    commits: dict[str, dict[str, bytes]]
    refs: dict[str, str] = field(default_factory=lambda: {"main": MAIN})
    is_gated: bool = False
    is_private: bool = False


class LocalHub:
    """A server of repositories that remembers what was asked of it."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.requests: list[tuple[str, str]] = []
        self.ranges: list[str | None] = []
        self.tokens: set[str | None] = set()
        self.breaks = 0
        """How many of the next answers with a file's bytes break off half-way."""
        self.status: int | None = None
        """What every request is answered with, where it is not None."""
        self.server = _Server(self)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def add(self, name: str, files: dict[str, bytes], **more: Any) -> Repository:
        """Publish a repository with one commit; a data set's name begins with `datasets/`."""
        self.repositories[name] = Repository({MAIN: files}, **more)
        return self.repositories[name]

    def fetched(self) -> list[str]:
        """Return the names of the files whose bytes were asked for."""
        paths = [path for method, path in self.requests if method == "GET" and "/resolve/" in path]
        return sorted({path.split("/resolve/")[1].split("/", 1)[1] for path in paths})

    def __enter__(self) -> "LocalHub":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def lay_out_cache(home: Path, name: str, files: dict[str, bytes], commit: str = MAIN) -> Path:
    """Return the snapshot of a repository, written below HF_HOME as the library writes it."""
    folder = home / "hub" / f"models--{name.replace('/', '--')}"
    snapshot = folder / "snapshots" / commit
    for file, data in files.items():
        blob = folder / "blobs" / hashlib.sha256(data).hexdigest()
        blob.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(data)
        link = snapshot / file
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text(commit)
    return snapshot


class _Server(ThreadingHTTPServer):
    """A server whose handlers know which hub they are of."""

    daemon_threads = True

    def __init__(self, hub: LocalHub) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hub = hub


class _Handler(BaseHTTPRequestHandler):
    """Answers as the hub does, as far as its library asks."""

    protocol_version = "HTTP/1.1"

    @property
    def hub(self) -> "LocalHub":
        assert isinstance(self.server, _Server)
        return self.server.hub

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        self.hub.tokens.add(self.headers["Authorization"])
        if self.hub.status is not None:
            return self._refuse(self.hub.status, "")
        for route in (self._api, self._resolve):
            if route(path):
                return None
        return self._refuse(404, "RepoNotFound")

    def _api(self, path: str) -> bool:
        kind, *parts = path.removeprefix("/api/").split("/")
        if not path.startswith("/api/") or kind not in ("models", "datasets") or len(parts) < 3:
            return False
        name = "/".join(parts[:2])
        repository = self._open(name if kind == "models" else f"datasets/{name}")
        if repository is None:
            return True
        commit = self._commit(repository, "/".join(parts[3:]) or "main")
        if commit is None:
            return True
        files = repository.commits[commit]
        if parts[2] == "tree":
            self._send(json.dumps([_entry(*each) for each in files.items()]).encode())
        else:
            siblings = [{"rfilename": file} for file in files]
            document = {"id": "/".join(parts[:2]), "sha": commit, "siblings": siblings}
            self._send(json.dumps(document).encode())
        return True

    def _resolve(self, path: str) -> bool:
        name, found, rest = path.removeprefix("/").partition("/resolve/")
        if not found:
            return False
        repository = self._open(name)
        if repository is None:
            return True
        revision, _, file = rest.partition("/")
        commit = self._commit(repository, revision)
        if commit is None:
            return True
        if repository.is_gated:
            self._refuse(403, "GatedRepo")
        elif file not in repository.commits[commit]:
            self._refuse(404, "EntryNotFound")
        else:
            self._file(repository.commits[commit][file], commit)
        return True

    def _open(self, name: str) -> Repository | None:
        repository = self.hub.repositories.get(name)
        if repository is None:
            self._refuse(404, "RepoNotFound")
        elif repository.is_private:
            self._refuse(401, "RepoNotFound")
        else:
            return repository
        return None

    def _commit(self, repository: Repository, revision: str) -> str | None:
        commit = repository.refs.get(revision, revision)
        if commit in repository.commits:
            return commit
        self._refuse(404, "RevisionNotFound")
        return None

    def _file(self, data: bytes, commit: str) -> None:
        start, status = 0, 200
        if self.command == "GET":
            self.hub.ranges.append(self.headers["Range"])
        if self.headers["Range"] is not None:
            start, status = int(self.headers["Range"].removeprefix("bytes=").rstrip("-")), 206
        self.send_response(status)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if self.command == "GET" and self.hub.breaks > 0:
            self.hub.breaks -= 1
            self.wfile.write(data[start : start + len(data) // 2])
            self.wfile.flush()
            self.connection.shutdown(2)
            self.close_connection = True
        elif self.command == "GET":
            self.wfile.write(data[start:])

    def _send(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _entry(file: str, data: bytes) -> dict[str, object]:
    """Return how the listing of a repository describes a file."""
    return {"type": "file", "path": file, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
