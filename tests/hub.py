"""A hub of one repository on this machine: what huggingface_hub asks of the real one, and what it asked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

COMMIT = "0123456789012345678901234567890123456789"


@dataclass
class Hub:
    """Its address, and (file, bytes sent) of every request for a file's content."""

    url: str
    sent: list[tuple[str, int]] = field(default_factory=list)


@contextmanager
def serve(folder: Path, repo: str) -> Iterator[Hub]:
    """Serve the files of a folder as `repo` until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            path = self.path.partition("?")[0]
            if "/tree/" in path and path.count("/") > 6:  # a folder inside the repository
                return self._send(404, b"", body, {"X-Error-Code": "EntryNotFound"})
            if path.startswith(f"/api/models/{repo}"):
                names = [{"rfilename": p.name} for p in sorted(folder.iterdir())]
                entries = [{"type": "file", "path": p["rfilename"], "size": 1, "oid": "0"} for p in names]
                info = {"id": repo, "sha": COMMIT, "siblings": names, "private": False}
                return self._send(200, json.dumps(entries if "/tree/" in path else info).encode(), body)
            found = re.fullmatch(rf"/{repo}/resolve/[^/]+/([\w.-]+)", path)
            file = folder / found[1] if found else folder / "nowhere"
            if not file.is_file():
                return self._send(
                    404, b"", body, {"X-Error-Code": "EntryNotFound" if found else "RepoNotFound"}
                )
            content, status, more = (
                file.read_bytes(),
                200,
                {"ETag": f'"{file.name}"', "X-Repo-Commit": COMMIT},
            )
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if asked:
                first, last = int(asked[1]), min(int(asked[2]), len(content) - 1)
                more["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
                content, status = content[first : last + 1], 206
            if body:
                hub.sent.append((file.name, len(content)))
            self._send(status, content, body, more)

        def _send(
            self, status: int, content: bytes, body: bool, headers: dict[str, str] | None = None
        ) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
