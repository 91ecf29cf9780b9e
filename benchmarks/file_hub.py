"""`python -m benchmarks.file_hub FILE`: a hub of one file, as fast as the kernel sends it.

Speaks what a pull and `hf download` ask (tests/hub/server.py is the whole of it), from a process of
its own, so that it takes no time of theirs but the processor's. Prints its address.
"""

import hashlib
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "c" * 40
REPO = "bench/model-GGUF"
NAME = "model-Q8_0.gguf"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    path_on_disk: Path
    digest: str
    cdn: str

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: it would be measured."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        size = self.path_on_disk.stat().st_size
        if "/revision/" in self.path:
            self._json({"id": REPO, "sha": COMMIT, "siblings": []})
        elif "/tree/" in self.path:
            lfs = {"oid": self.digest, "size": size, "pointerSize": 134}
            entry = {"type": "file", "path": NAME, "oid": "a" * 40, "size": size, "lfs": lfs}
            self._json([entry])
        elif "/resolve/" in self.path:
            self.send_response(302)
            self.send_header("Location", f"{self.cdn}/{NAME}")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("X-Linked-ETag", f'"{self.digest}"')
            self.send_header("X-Linked-Size", str(size))
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._send_file(size)

    def _json(self, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_file(self, size: int) -> None:
        first, _, last = (self.headers.get("Range") or "bytes=0-")[6:].partition("-")
        start, end = int(first), int(last) + 1 if last else size
        self.send_response(206 if self.headers.get("Range") else 200)
        self.send_header("Content-Length", str(end - start))
        self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.end_headers()
        with self.path_on_disk.open("rb") as file:
            while start < end and self.command == "GET":
                start += os.sendfile(self.connection.fileno(), file.fileno(), start, end - start)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has what it wanted from this connection goes away."""


def main() -> None:
    """Serve the file named on the command line until the process is ended."""
    path = Path(sys.argv[1])
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    facts = {"path_on_disk": path, "digest": digest}
    servers = []
    for _ in range(2):
        handler = type("Handler", (_Handler,), facts)
        server = _Server(("127.0.0.1", 0), handler)
        facts["cdn"] = f"http://127.0.0.1:{server.server_address[1]}"
        servers.append(server)
    threading.Thread(target=servers[0].serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{servers[1].server_address[1]}", flush=True)
    servers[1].serve_forever()


if __name__ == "__main__":
    main()
