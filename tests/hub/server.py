"""A hub for the tests, on loopback: what huggingface_hub 2.4.0 asks, and every way to misbehave.

Two servers, so that the hub and its CDN are two origins. Faults are taken from queues, one for each
answer; an empty queue is an honest server. The requests are kept, with the bytes that were sent.
"""

import hashlib
import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub.searching import found

COMMIT = "c" * 40
_PIECE = 64 * 1024


@dataclass
class Fault:
    """How one answer differs from an honest one. Unset fields change nothing."""

    status: int | None = None
    headers: dict[str, str | None] = field(default_factory=dict)
    """Replaced or, with None, left out."""
    body: bytes | None = None
    cut: int | None = None
    """Bytes of the body after which `end` happens."""
    end: str = "rst"
    """`rst`, `fin`, or `stall` (silent until the hub is closed)."""
    flip: int | None = None
    """Offset in the file of a byte that arrives wrong."""
    ignore_range: bool = False
    extra: bytes = b""
    """Follows the body; counted in Content-Length when `lie` is not set."""
    lie: bool = False
    rate: float | None = None
    """Bytes a second: a slow connection."""
    at: tuple[int, Callable[[], None]] | None = None
    """After that many bytes of the body, call."""


@dataclass
class Request:
    """One request as it came."""

    server: str
    method: str
    path: str
    headers: dict[str, str]


class Hub:
    """Repositories in memory, served on two ports. A context manager."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.commits: dict[str, str] = {}
        self.renamed: dict[str, str] = {}
        """Old name to new one: answered with 307, as the real hub does."""
        self.facts: dict[str, dict[str, object]] = {}
        """What a search says of a repository: downloads, tags, gguf and the rest."""
        self.gated: set[str] = set()
        """Repositories whose files ask for a licence to be accepted; a token is an acceptance."""
        self.requests: list[Request] = []
        self.sent = 0
        """Bytes of files that went out."""
        self.open_files = 0
        """Answers of files under way."""
        self.most_at_once = 0
        self.hub_faults: deque[Fault] = deque()
        self.cdn_faults: deque[Fault] = deque()
        self.always: Fault | None = None
        """Applied to each CDN answer when the queue is empty."""
        self.token: str | None = None
        self.direct = False
        """A mirror that sends files itself, without a redirect."""
        self.signature = 0
        """Counts up: each redirect is another address."""
        self.cdn_gate = threading.Event()
        """Files wait for it: a test may finish its preparations first."""
        self.cdn_gate.set()
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._servers: list[ThreadingHTTPServer] = []
        self.endpoint = self._listen("hub")
        self.cdn = self._listen("cdn")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def put(self, repo: str, files: dict[str, bytes], commit: str = COMMIT) -> None:
        """Publish files as one commit, the `main` of a repository."""
        self.repos[repo] = files
        self.commits[repo] = commit

    def close(self) -> None:
        """End both servers and every connection that waits."""
        self.closing.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def count(self, server: str, method: str) -> int:
        """How many requests of a kind came."""
        return sum(r.server == server and r.method == method for r in self.requests)

    def note(self, request: Request) -> None:
        """Keep a request."""
        with self._lock:
            self.requests.append(request)

    def add_sent(self, count: int) -> None:
        """Count bytes of a file."""
        with self._lock:
            self.sent += count

    def add_open(self, count: int) -> None:
        """An answer of a file began or ended."""
        with self._lock:
            self.open_files += count
            self.most_at_once = max(self.most_at_once, self.open_files)

    def next_fault(self, server: str) -> Fault:
        """What the next answer shall do."""
        with self._lock:
            queue = self.hub_faults if server == "hub" else self.cdn_faults
            if queue:
                return queue.popleft()
        return (self.always if server == "cdn" else None) or Fault()

    def _listen(self, name: str) -> str:
        handler = type(f"{name.title()}Handler", (_Handler,), {"hub": self, "name": name})
        server = _Server(("127.0.0.1", 0), handler)
        # What waits in buffers when a client dies counts as sent: keep it small.
        server.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 128 * 1024)
        self._servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub
    name: str

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.hub.note(Request(self.name, self.command, self.path, headers))
        fault = self.hub.next_fault(self.name)
        if fault.status is not None and fault.status >= 300 and not _is_redirect(fault):
            self._send(fault.status, {}, fault.body or b"", fault)
        elif self.name == "cdn":
            self._file_bytes(fault)
        else:
            self._hub(fault)

    def _hub(self, fault: Fault) -> None:
        path = urlsplit(self.path).path
        parts = unquote(path).strip("/").split("/")
        old = next((name for name in self.hub.renamed if name in unquote(path)), None)
        if old is not None:
            where = self.path.replace(old, self.hub.renamed[old], 1)
            self._send(307, {"Location": where}, b"", fault)
        elif self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            self._missing(401, "RepoNotFound", fault)
        elif parts[:3] == ["api", "resolve-cache", "models"]:
            self._small("/".join(parts[3:5]), "/".join(parts[6:]), fault)
        elif parts == ["api", "models"]:
            self._search(fault)
        elif parts[:2] == ["api", "models"]:
            self._api("/".join(parts[2:4]), parts[4:] or ["revision", "main"], fault)
        elif len(parts) > 4 and parts[2] == "resolve":
            self._resolve("/".join(parts[:2]), parts[3], "/".join(parts[4:]), fault)
        else:
            self._missing(404, "", fault)

    def _search(self, fault: Fault) -> None:
        page, following = found(self.hub, urlsplit(self.path).query)
        link = f'<{self.hub.endpoint}/api/models?{following}>; rel="next"'
        self._json(page, fault, {"Link": link} if following else {})

    def _api(self, repo: str, rest: list[str], fault: Fault) -> None:
        files = self.hub.repos.get(repo)
        if files is None:
            self._missing(401, "RepoNotFound", fault)
        elif rest[0] == "revision":
            commit = self.hub.commits[repo]
            if rest[1] not in ("main", commit):
                self._missing(404, "RevisionNotFound", fault)
                return
            siblings = [_sibling(name, _entry(name, content)) for name, content in files.items()]
            self._json({"id": repo, "sha": commit, "siblings": siblings}, fault)
        elif rest[0] == "paths-info":
            form = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
            asked = parse_qs(form).get("paths", [])
            self._json([_entry(name, files[name]) for name in asked if name in files], fault)
        elif rest[0] == "refs":
            branch = {"name": "main", "ref": "refs/heads/main", "targetCommit": COMMIT}
            self._json({"branches": [branch], "converts": [], "tags": []}, fault)
        else:
            self._tree(files, fault)

    def _tree(self, files: dict[str, bytes], fault: Fault) -> None:
        """Pages of three entries, so that following `Link` is part of every test."""
        page = int(parse_qs(urlsplit(self.path).query).get("page", ["0"])[0])
        names = sorted(files)
        entries = [_entry(name, files[name]) for name in names[page * 3 : page * 3 + 3]]
        headers: dict[str, str | None] = {}
        if len(names) > page * 3 + 3:
            path = urlsplit(self.path).path
            headers["Link"] = (
                f'<{self.hub.endpoint}{path}?recursive=true&page={page + 1}>; rel="next"'
            )
        self._json(entries, fault, headers)

    def _resolve(self, repo: str, commit: str, path: str, fault: Fault) -> None:
        files = self.hub.repos.get(repo)
        if files is None:
            self._missing(401, "RepoNotFound", fault)
        elif repo in self.hub.gated and not self.headers.get("Authorization"):
            self._missing(401, "GatedRepo", fault)
        elif path not in files:
            self._missing(404, "EntryNotFound", fault)
        elif not _is_lfs(path):
            where = f"/api/resolve-cache/models/{repo}/{self.hub.commits[repo]}/{path}"
            self._send(fault.status or 307, {"Location": where}, b"", fault)
        elif self.hub.direct:
            self._file_bytes(fault, files[path])
        else:
            content = files[path]
            self.hub.signature += 1
            headers: dict[str, str | None] = {
                "Location": f"{self.hub.cdn}/{repo}/{path}?signature={self.hub.signature}",
                "X-Repo-Commit": self.hub.commits[repo],
                "X-Linked-ETag": f'"{_sha256(content)}"',
                "X-Linked-Size": str(len(content)),
                "Accept-Ranges": "bytes",
            }
            self._send(fault.status or 302, headers, b"", fault)

    def _small(self, repo: str, path: str, fault: Fault) -> None:
        """A file that git itself holds: no CDN, its name is git's hash."""
        content = self.hub.repos[repo][path]
        headers: dict[str, str | None] = {
            "ETag": f'"{_git_sha1(content)}"',
            "X-Repo-Commit": self.hub.commits[repo],
        }
        self._send(fault.status or 200, headers, content, fault)

    def _file_bytes(self, fault: Fault, content: bytes | None = None) -> None:
        if content is None:
            parts = unquote(urlsplit(self.path).path).strip("/").split("/")
            content = self.hub.repos["/".join(parts[:2])]["/".join(parts[2:])]
        start, end, status = 0, len(content), fault.status or 200
        headers: dict[str, str | None] = {"ETag": '"cdn-has-its-own"'}
        asked = self.headers.get("Range")
        if asked and not fault.ignore_range:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last) + 1 if last else len(content), len(content))
            if start >= len(content):
                self._send(416, {"Content-Range": f"bytes */{len(content)}"}, b"", fault)
                return
            status = fault.status or 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        body = bytearray(content[start:end])
        if fault.flip is not None and start <= fault.flip < end:
            body[fault.flip - start] ^= 1
        self._send(status, headers, bytes(body), fault, is_file=True)

    def _missing(self, status: int, code: str, fault: Fault) -> None:
        headers: dict[str, str | None] = {"X-Error-Code": code} if code else {}
        self._send(status, headers, json.dumps({"error": "\x1b]0;no\x07"}).encode(), fault)

    def _json(
        self, value: object, fault: Fault, headers: dict[str, str | None] | None = None
    ) -> None:
        body = json.dumps(value).encode() if fault.body is None else fault.body
        more = {"Content-Type": "application/json"} | (headers or {})
        self._send(fault.status or 200, more, body, fault)

    def _send(
        self,
        status: int,
        headers: dict[str, str | None],
        body: bytes,
        fault: Fault,
        *,
        is_file: bool = False,
    ) -> None:
        body += b"" if fault.lie else fault.extra
        if is_file:
            self.hub.cdn_gate.wait(30)
        headers = {"Content-Length": str(len(body)), **headers, **fault.headers}
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        self.hub.add_open(is_file)
        try:
            self._body(body + (fault.extra if fault.lie else b""), fault, is_file)
        finally:
            self.hub.add_open(-is_file)

    def _body(self, body: bytes, fault: Fault, is_file: bool) -> None:
        end = len(body) if fault.cut is None else min(fault.cut, len(body))
        alarm = fault.at
        place = 0
        while place < end:
            stop = min(place + _PIECE, end)
            if alarm is not None and place <= alarm[0] < stop:
                stop = max(alarm[0], place + 1)
            self.wfile.write(body[place:stop])
            if is_file:
                self.hub.add_sent(stop - place)
            place = stop
            if fault.rate is not None:
                self.hub.closing.wait(_PIECE / fault.rate)
            if alarm is not None and place >= alarm[0]:
                alarm[1]()
                alarm = None
        if fault.cut is not None:
            self._break(fault.end)

    def _break(self, how: str) -> None:
        self.close_connection = True
        if how == "stall":
            self.hub.closing.wait(30)
        elif how == "rst":
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.connection.close()


def _is_redirect(fault: Fault) -> bool:
    return fault.status in (301, 302, 303, 307, 308)


@lru_cache(maxsize=256)
def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _sibling(name: str, entry: dict[str, Any]) -> dict[str, object]:
    """The entry as `model_info` gives it."""
    lfs = entry.get("lfs")
    told = {"rfilename": name, "size": entry["size"], "blobId": entry["oid"]}
    return told | ({"lfs": {**lfs, "sha256": lfs["oid"]}} if lfs else {})


@lru_cache(maxsize=256)
def _git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _is_lfs(name: str) -> bool:
    """Whether a repository keeps such a file outside git."""
    return name.lower().endswith((".gguf", ".bin", ".safetensors"))


def _entry(name: str, content: bytes) -> dict[str, object]:
    if not _is_lfs(name):
        size = len(content)
        return {"type": "file", "oid": _git_sha1(content), "size": size, "path": name}
    digest = _sha256(content)
    return {
        "type": "file",
        "oid": hashlib.sha1(digest.encode()).hexdigest(),
        "size": len(content),
        "path": name,
        "lfs": {"oid": digest, "size": len(content), "pointerSize": 134},
    }
