"""A hub of datasets on this machine: the routes of huggingface.co that streaming one needs.

Written from the requests that `huggingface_hub` 2.4 and `datasets` 5.2 were seen to make. It keeps
nothing of the real one's storage (no redirects to another host, no xet).
"""

from __future__ import annotations

import hashlib
import json
import threading
import urllib.parse
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Repository:
    """A dataset: files by commit, and the commit that each branch points to."""

    commits: dict[str, dict[str, bytes]]
    branches: dict[str, str]
    is_gated: bool = False


@dataclass
class FakeHub:
    """The server; `url` goes where `HF_ENDPOINT` does."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of every request."""
    sent_bytes: dict[str, int] = field(default_factory=dict)
    """Of each file, all requests together."""
    held: set[str] = field(default_factory=set)
    """Files whose content is not sent until `released`."""
    broken: dict[str, int] = field(default_factory=dict)
    """Status that is answered to those who want the file."""
    released: threading.Event = field(default_factory=threading.Event)
    _server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def add(self, name: str, files: dict[str, bytes], *, is_gated: bool = False) -> str:
        """Commit these files as the whole dataset; the commit's hash."""
        digest = hashlib.sha1(name.encode())
        for path, content in sorted(files.items()):
            digest.update(path.encode() + content)
        commit = digest.hexdigest()
        known = self.repositories.setdefault(name, Repository(commits={}, branches={}))
        known.commits[commit] = files
        known.branches["main"] = commit
        known.is_gated = is_gated
        return commit

    def start(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self.released.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (its own name)
            pass

        def do_GET(self) -> None:
            self._answer()

        def do_HEAD(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

        def _answer(self, body: bytes = b"") -> None:
            path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
            hub.asked.append((self.command, path))
            parts = path.strip("/").split("/")
            is_api = parts[0] == "api"
            if is_api:
                parts = parts[1:]
            if len(parts) < 3 or parts[0] != "datasets":
                self._refuse(404, "")
                return
            known = hub.repositories.get("/".join(parts[1:3]))
            if known is None:
                self._refuse(401, "RepoNotFound")
                return
            verb = parts[3] if len(parts) > 3 else "revision"
            asked_for = parts[4] if len(parts) > 4 else "main"
            commit = known.branches.get(asked_for, asked_for)
            if commit not in known.commits:
                self._refuse(404, "RevisionNotFound")
                return
            files, rest = known.commits[commit], "/".join(parts[5:])
            if is_api and verb == "revision":
                self._send_json(
                    {"id": "/".join(parts[1:3]), "sha": commit, "gated": known.is_gated, "tags": []}
                )
            elif is_api and verb == "auth-check":
                if known.is_gated:
                    self._refuse(403 if "Authorization" in self.headers else 401, "GatedRepo")
                else:
                    self._send_json({})
            elif is_api and verb == "tree":
                self._send_json(_tree(files, rest))
            elif is_api and verb == "paths-info":
                wanted = urllib.parse.parse_qs(body.decode()).get("paths", [])
                if self.headers.get("Content-Type", "").startswith("application/json"):
                    wanted = json.loads(body)["paths"]
                self._send_json([_entry(files, name) for name in wanted if _entry(files, name)])
            elif not is_api and verb == "resolve":
                if known.is_gated:
                    self._refuse(403 if "Authorization" in self.headers else 401, "GatedRepo")
                elif rest not in files:
                    self._refuse(404, "EntryNotFound")
                else:
                    self._send_file(files[rest], rest, commit)
            else:
                self._refuse(404, "")

        def _send_file(self, content: bytes, name: str, commit: str) -> None:
            if self.command == "GET":
                if name in hub.held:
                    hub.released.wait(60)
                if name in hub.broken:
                    self._refuse(hub.broken[name], "")
                    return
            status, extra = 200, {"ETag": f'"{_oid(content)}"'}
            given = self.headers.get("Range")
            if given:
                first, _, last = given.removeprefix("bytes=").partition("-")
                start, end = int(first), min(int(last or len(content)), len(content) - 1)
                extra["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
                status, content = 206, content[start : end + 1]
            if self.command == "GET":
                hub.sent_bytes[name] = hub.sent_bytes.get(name, 0) + len(content)
            extra |= {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
            self._send(status, content, "application/octet-stream", extra)

        def _send_json(self, content: Any) -> None:
            self._send(200, json.dumps(content).encode(), "application/json", {})

        def _refuse(self, status: int, code: str) -> None:
            extra = {"X-Error-Code": code, "X-Error-Message": code} if code else {}
            self._send(status, b"{}", "application/json", extra)

        def _send(self, status: int, content: bytes, kind: str, extra: dict[str, str]) -> None:
            try:
                self.send_response(status)
                for name, value in extra.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client was killed, or has had enough

    return Handler


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def _entry(files: dict[str, bytes], name: str) -> dict[str, Any] | None:
    if name in files:
        content = files[name]
        return {"type": "file", "path": name, "size": len(content), "oid": _oid(content)}
    if any(path.startswith(f"{name}/") for path in files):
        return {"type": "directory", "path": name, "oid": _oid(name.encode())}
    return None


def _tree(files: dict[str, bytes], under: str) -> list[dict[str, Any]]:
    """All files and folders below a folder, at any depth, as if asked with `recursive`."""
    prefix = f"{under}/" if under else ""
    names = {path for path in files if path.startswith(prefix)}
    for path in list(names):
        parents = path[len(prefix) :].split("/")[:-1]
        names |= {prefix + "/".join(parents[: depth + 1]) for depth in range(len(parents))}
    return [entry for name in sorted(names) if (entry := _entry(files, name))]
