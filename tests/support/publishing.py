"""A server on 127.0.0.1 that takes what huggingface_hub publishes: repositories, LFS, commits."""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote, urlsplit

from tests.support.serving import Serving

Files = dict[str, bytes]
KINDS = {"models": "model", "spaces": "space"}


@dataclass
class Commit:
    """One commit: its message, and all files after it."""

    summary: str
    description: str
    files: Files
    touched: list[str]

    @property
    def sha(self) -> str:
        text = repr((self.summary, sorted(self.files), self.touched))
        return hashlib.sha1(text.encode()).hexdigest()


@dataclass
class Repository:
    private: bool
    sdk: str = ""
    commits: list[Commit] = field(default_factory=list)

    @property
    def files(self) -> Files:
        return self.commits[-1].files


class Publisher(Serving):
    """The Hub as one user sees it who has a token.

    owners: whose repositories the token may write. lfs: names of files that are kept by LFS.
    refuse: the status with which the creation of a Space is refused, 0 if it is not.
    """

    def __init__(self, token: str) -> None:
        self.token, self.user = token, "ann"
        self.owners = {"ann"}
        self.lfs = {"model.onnx"}
        self.refuse = 0
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.asked: list[str] = []
        super().__init__(Handler)

    def put(self, kind: str, name: str, files: Files, private: bool = True) -> Repository:
        """Make a repository with these files, as somebody else's commit."""
        made = Repository(private)
        made.commits.append(Commit("initial commit", "", files, list(files)))
        self.repositories[kind, name] = made
        return made


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    @property
    def hub(self) -> Publisher:
        return self.server.world  # type: ignore[attr-defined]

    def read(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"] or 0))

    def reply(self, status: int, content: object = None, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content or {}).encode()
        self.send_response(status)
        named = {"Content_Length": str(len(body)), "Content_Type": "application/json", **headers}
        for key, value in named.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def start(self) -> list[str]:
        """Note the request; the parts of its path."""
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        return path.strip("/").split("/")

    def is_known(self) -> bool:
        return self.headers["Authorization"] == f"Bearer {self.hub.token}"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = self.start()
        if not self.is_known():
            return self.reply(401, {"error": "Invalid credentials in Authorization header"})
        if parts == ["api", "whoami-v2"]:
            return self.reply(200, {"name": self.hub.user, "type": "user"})
        if parts[0] == "api" and parts[1] in KINDS:
            return self.send_info(KINDS[parts[1]], "/".join(parts[2:4]))
        kind = KINDS.get(parts[0], "model")
        parts = parts[1:] if parts[0] in KINDS else parts
        made = self.hub.repositories.get((kind, "/".join(parts[:2])))
        name = "/".join(parts[4:])
        if made is None or name not in made.files:
            return self.reply(404, None, X_Error_Code="EntryNotFound")
        body = made.files[name]
        tag = f'"{hashlib.sha1(body).hexdigest()}"'
        return self.reply(200, body, ETag=tag, X_Repo_Commit=made.commits[-1].sha)

    def send_info(self, kind: str, name: str) -> None:
        made = self.hub.repositories.get((kind, name))
        if made is None:
            return self.reply(401, None, X_Error_Code="RepoNotFound")
        siblings = []
        for file, content in made.files.items():
            about = {"rfilename": file, "size": len(content), "blobId": blob_id(content)}
            if file in self.hub.lfs:
                sha256 = hashlib.sha256(content).hexdigest()
                about["lfs"] = {"sha256": sha256, "size": len(content), "pointerSize": 130}
                about["blobId"] = "0" * 40  # of the pointer
            siblings.append(about)
        told = {"id": name, "sha": made.commits[-1].sha, "private": made.private}
        return self.reply(200, {**told, "siblings": siblings, "tags": [], "downloads": 0})

    def do_PUT(self) -> None:
        parts, body = self.start(), self.read()
        assert hashlib.sha256(body).hexdigest() == parts[-1]
        self.hub.objects[parts[-1]] = body
        self.reply(200)

    def do_POST(self) -> None:
        parts, body = self.start(), self.read()
        if not self.is_known():
            return self.reply(401, {"error": "Invalid credentials"})
        if parts == ["api", "validate-yaml"]:
            content = json.loads(body)["content"]
            errors = [] if content.startswith("---\n") else [{"message": "no front matter"}]
            return self.reply(400 if errors else 200, {"errors": errors, "warnings": []})
        if parts == ["api", "repos", "create"]:
            return self.create(json.loads(body))
        if parts[-1] == "batch":
            return self.offer_uploads(json.loads(body))
        kind, name, action = KINDS[parts[1]], "/".join(parts[2:4]), parts[4]
        made = self.hub.repositories[kind, name]
        if action == "preupload":
            files = [
                {
                    "path": each["path"],
                    "uploadMode": "lfs" if each["path"] in self.hub.lfs else "regular",
                    "shouldIgnore": False,
                }
                for each in json.loads(body)["files"]
            ]
            return self.reply(200, {"files": files})
        assert action == "commit", parts
        return self.commit(made, name, [json.loads(line) for line in body.splitlines()])

    def create(self, asked: dict) -> None:
        kind = asked.get("type", "model")
        owner = asked["organization"] or self.hub.user
        name = f"{owner}/{asked['name']}"
        if kind == "space" and self.hub.refuse:
            return self.reply(self.hub.refuse, {"error": "no"})
        if owner not in self.hub.owners:
            return self.reply(403, {"error": "no rights"})
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        made = self.hub.put(kind, name, {".gitattributes": b""}, private)
        made.sdk = asked.get("sdk", "")
        return self.reply(200, {"url": f"{self.hub.base}/{name}"})

    def offer_uploads(self, asked: dict) -> None:
        objects = []
        for each in asked["objects"]:
            action = {"href": f"{self.hub.base}/put/{each['oid']}", "header": {}}
            known = each["oid"] in self.hub.objects
            objects.append({**each, **({} if known else {"actions": {"upload": action}})})
        self.reply(200, {"objects": objects, "transfer": "basic"})

    def commit(self, made: Repository, name: str, lines: list[dict]) -> None:
        header, *rest = lines
        parent = header["value"].get("parentCommit")
        if parent and parent != made.commits[-1].sha:
            return self.reply(412, {"error": "another commit came first"})
        files, touched = dict(made.files), []
        for line in rest:
            value = line["value"]
            touched.append(value["path"])
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            else:
                del files[value["path"]]
        message = header["value"]
        done = Commit(message["summary"], message["description"], files, touched)
        made.commits.append(done)
        url = f"{self.hub.base}/{name}/commit/{done.sha}"
        return self.reply(200, {"commitUrl": url, "commitOid": done.sha, "success": True})

    def log_message(self, *_: object) -> None:
        pass


def blob_id(content: bytes) -> str:
    """What git calls a file of this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
