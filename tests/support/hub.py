"""A server on 127.0.0.1 that speaks the Hub's part, and data sets as people put them there."""

import hashlib
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.serving import Serving
from tests.support.world import picture

Files = dict[str, bytes]
PAGE = 50  # files in one page of a listing


def commit_of(files: Files) -> str:
    """A commit's name: 40 hex digits that depend on its files."""
    digest = hashlib.sha1()
    for name, content in sorted(files.items()):
        digest.update(name.encode() + b"\0" + hashlib.sha1(content).digest())
    return digest.hexdigest()


def shard(
    labels: Sequence[object],
    first: int = 0,
    names: Sequence[str] = (),
    image: str = "image",
    label: str = "label",
    group: int = 4,
    more: dict[str, list] | None = None,
    features: dict[str, dict] | None = None,
) -> bytes:
    """A parquet file as `datasets` writes it: pictures number `first` and on, with these labels.

    names: of the classes, written into the schema; group: rows in a row group; more: columns;
    features: of `more`.
    """
    structure = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": picture(first + i), "path": f"{i}.jpg"} for i in range(len(labels))]
    table = pa.table({image: pa.array(rows, structure), label: pa.array(labels), **(more or {})})
    known: dict[str, dict] = {image: {"_type": "Image"}, **(features or {})}
    if names:
        known[label] = {"names": list(names), "_type": "ClassLabel"}
    schema = {"huggingface": json.dumps({"info": {"features": known}})}
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(schema), buffer, row_group_size=group)
    return buffer.getvalue()


class Hub(Serving):
    """Data sets by `owner/name`: for each revision the files of its commit.

    token: what Authorization must say for the names in `private` and `gated`. cut: how many bytes
    of each next answer with a file are sent before the connection breaks. stall: the name of a file
    of which nothing is sent; `stalled` is set as soon as it is asked for.
    """

    def __init__(self) -> None:
        self.revisions: dict[str, dict[str, Files]] = {}
        self.private: set[str] = set()
        self.gated: set[str] = set()
        self.token = ""
        self.cut: list[int] = []
        self.stall = ""
        self.stalled = threading.Event()
        self.asked: Counter[str] = Counter()
        self.tokens: set[str] = set()
        self.starts: list[int] = []
        self.lock = threading.Lock()
        super().__init__(Handler)

    def put(self, name: str, files: Files, revision: str = "main") -> str:
        """Make these the files of a data set's revision, and of their commit; that commit."""
        commit = commit_of(files)
        known = self.revisions.setdefault(name, {})
        known[revision] = known[commit] = files
        return commit

    def fetched(self) -> list[str]:
        """The names of the files whose content was asked for, in order of their names."""
        return sorted(
            path.split("/", 6)[6] for path in self.asked if path.startswith("GET /datasets/")
        )


def ask_here(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Let huggingface_hub ask this server in this process too, where it may be imported already."""
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub: Hub = self.server.world  # type: ignore[attr-defined]
        address = urlsplit(self.path)
        parts = [unquote(part) for part in address.path.strip("/").split("/")]
        with hub.lock:
            hub.asked[f"{self.command} {unquote(address.path)}"] += 1
            hub.tokens.add(self.headers["Authorization"] or "")
        api = parts[:2] == ["api", "datasets"]
        name = "/".join(parts[2:4] if api else parts[1:3])
        rest = parts[4:] if api else parts[3:]
        allowed = bool(hub.token) and self.headers["Authorization"] == f"Bearer {hub.token}"
        if name not in hub.revisions or (name in hub.private and not allowed):
            return self.reply(401, b"{}", X_Error_Code="RepoNotFound", X_Error_Message="none")
        if name in hub.gated and not allowed and not api:
            return self.reply(403, b"{}", X_Error_Code="GatedRepo", X_Error_Message="gated")
        revision = rest[1] if len(rest) > 1 else "main"
        files = hub.revisions[name].get(revision)
        if files is None:
            return self.reply(404, b"{}", X_Error_Code="RevisionNotFound")
        if api and rest[:1] == ["tree"]:
            return self.send_tree(name, revision, files, address.query)
        if api:
            told = {"id": name, "sha": commit_of(files), "private": False, "gated": False}
            return self.reply(200, json.dumps(told).encode(), Content_Type="application/json")
        return self.send_file(hub, files, "/".join(rest[2:]))

    def send_tree(self, name: str, revision: str, files: Files, query: str) -> None:
        """A page of the listing; a header says where the next one is."""
        start = int(parse_qs(query).get("cursor", ["0"])[0])
        names = sorted(files)
        entries: list[dict] = [
            {"type": "file", "path": each, "size": len(files[each]), "oid": "0" * 40}
            for each in names[start : start + PAGE]
        ]
        if not start:
            entries.insert(0, {"type": "directory", "path": "data", "oid": "0" * 40})
        headers = {"Content_Type": "application/json"}
        if start + PAGE < len(names):
            base = self.server.world.base  # type: ignore[attr-defined]
            following = (
                f"{base}/api/datasets/{name}/tree/{revision}?recursive=True&cursor={start + PAGE}"
            )
            headers["Link"] = f'<{following}>; rel="next"'
        self.reply(200, json.dumps(entries).encode(), **headers)

    def send_file(self, hub: Hub, files: Files, name: str) -> None:
        if name not in files:
            return self.reply(404, b"", X_Error_Code="EntryNotFound")
        body = files[name]
        start = 0
        if self.headers["Range"]:
            start = int(self.headers["Range"].removeprefix("bytes=").split("-")[0])
        headers = {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X_Repo_Commit": commit_of(files)}
        if start:
            headers["Content_Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        if self.command == "GET":
            hub.starts.append(start)
            if name == hub.stall:
                hub.stalled.set()
                while name == hub.stall:
                    time.sleep(0.05)
                self.close_connection = True
                return None
            if hub.cut:
                cut = hub.cut.pop(0)
                self.reply(206 if start else 200, body[start:], cut, **headers)
                self.close_connection = True
                return None
        return self.reply(206 if start else 200, body[start:], **headers)

    def reply(self, status: int, body: bytes, cut: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body if cut is None else body[:cut])

    def log_message(self, *_: object) -> None:
        pass
