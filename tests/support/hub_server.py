"""A hub on this machine: the part of its protocol that a push and a download need.

It keeps repositories in memory: users by token, commits, branches, and large files by
their hash, uploaded by Git LFS. Faults can be set, see `Hub`.
"""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from typing import Any

import yaml

MODEL = r"/api/models/(?P<repo>[^/]+/[^/]+)"
LARGE = 100_000  # bytes from which a file is stored by LFS
REGULAR = (".json", ".md")


class Hub(http.server.ThreadingHTTPServer):
    """The server and its content.

    `users` are names by token. `repositories` hold {private, branches: {name: sha}};
    `commits` the files of each sha. `requests` are those that came in. Faults:
    `cut_upload` and `cut_download` are bytes after which a transfer loses its
    connection; `status` answers all requests whose path matches a pattern.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.users = {"hf_me": "me", "hf_other": "other"}
        self.repositories: dict[str, dict[str, Any]] = {}
        self.commits: dict[str, dict[str, bytes]] = {}
        self.large: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.cut_upload = self.cut_download = 0
        self.status: dict[str, int] = {}

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def commit(self, repo: str, branch: str, files: dict[str, bytes]) -> str:
        text = json.dumps([len(self.commits), repo, sorted(files)])
        sha = hashlib.sha1(text.encode()).hexdigest()
        self.commits[sha] = files
        self.repositories[repo]["branches"][branch] = sha
        return sha

    def create(self, repo: str, *, private: bool = False, **files: bytes) -> None:
        """Makes a repository with files, whose names have __ for dots."""
        self.repositories[repo] = {"private": private, "branches": {}}
        named = {name.replace("__", "."): data for name, data in files.items()}
        self.commit(repo, "main", {".gitattributes": b"", **named})

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        return self.commits[self.repositories[repo]["branches"][revision]]


class Answer(Exception):
    """What a request is answered with."""

    def __init__(self, status: int, value: Any = None, **headers: str):
        super().__init__(status)
        self.status, self.value, self.headers = status, value, headers


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do(self) -> None:
        path = urllib.parse.unquote(self.path.partition("?")[0])
        self.server.requests.append(f"{self.command} {path}")
        try:
            if path.startswith("/lfs/") and self.command == "PUT":
                self.receive(path.removeprefix("/lfs/"))
            body = self.body()
            for pattern, status in self.server.status.items():
                if re.search(pattern, path):
                    raise Answer(status, {"error": "a fault"})
            for method, pattern, handle in ROUTES:
                match = re.fullmatch(pattern, path)
                if method == self.command and match:
                    handle(self, body, **match.groupdict())
            raise Answer(404, {"error": "not found"})
        except Answer as answer:
            self.reply(answer)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_HEAD = do

    def body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def reply(self, answer: Answer) -> None:
        value = answer.value
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(answer.status)
        for name, text in answer.headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = self.server.cut_download
        if cut and "/resolve/" in self.path and len(data) > cut:
            self.wfile.write(data[:cut])
            self.close_connection = True
            return
        self.wfile.write(data)

    def receive(self, oid: str) -> None:
        """Receives a large file, or loses the connection."""
        if self.server.cut_upload:
            length = int(self.headers.get("Content-Length") or 0)
            self.rfile.read(min(length, self.server.cut_upload))
            self.close_connection = True
            self.connection.close()
            raise BrokenPipeError
        data = self.body()
        assert hashlib.sha256(data).hexdigest() == oid
        self.server.large[oid] = data
        raise Answer(200, {})

    @property
    def user(self) -> str:
        """The user of the token, "" without one; a wrong one is refused."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.server.users:
            message = "Invalid credentials in Authorization header"
            raise Answer(401, {"error": message}, X_Error_Message=message)
        return self.server.users.get(token, "")

    def repository(self, repo: str, *, write: bool = False) -> dict[str, Any]:
        owner, user = repo.partition("/")[0], self.user
        found = self.server.repositories.get(repo)
        if found is None or (found["private"] and user != owner):
            message = "Repository not found"
            status = 404 if user else 401
            raise Answer(
                status,
                {"error": message},
                X_Error_Code="RepoNotFound",
                X_Error_Message=message,
            )
        if write and user != owner:
            message = "You don't have the rights"
            raise Answer(403, {"error": message}, X_Error_Message=message)
        return found

    def sha(self, repo: str, revision: str) -> str:
        found = self.repository(repo)
        if revision in self.server.commits:
            return revision
        if revision not in found["branches"]:
            message = f"Invalid rev id: {revision}"
            raise Answer(
                404,
                {"error": message},
                X_Error_Code="RevisionNotFound",
                X_Error_Message=message,
            )
        return found["branches"][revision]


def info(handler: Handler, body: bytes, repo: str, revision: str = "main") -> None:
    sha = handler.sha(repo, revision)
    siblings = [{"rfilename": name} for name in handler.server.commits[sha]]
    private = handler.server.repositories[repo]["private"]
    value = {"id": repo, "modelId": repo, "sha": sha, "private": private}
    raise Answer(200, {**value, "tags": [], "siblings": siblings, "downloads": 0})


def tree(handler: Handler, body: bytes, repo: str, revision: str) -> None:
    files = handler.server.commits[handler.sha(repo, revision)]
    rows = []
    for path, data in files.items():
        oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        row: dict[str, Any] = {"type": "file", "path": path, "size": len(data)}
        if is_large(path, data):
            sha = hashlib.sha256(data).hexdigest()
            row["lfs"] = {"oid": sha, "size": len(data), "pointerSize": 130}
        rows.append({**row, "oid": oid})
    raise Answer(200, rows)


def resolve(handler: Handler, body: bytes, repo: str, revision: str, path: str) -> None:
    sha = handler.sha(repo, revision)
    files = handler.server.commits[sha]
    if path not in files:
        raise Answer(404, {}, X_Error_Code="EntryNotFound", X_Repo_Commit=sha)
    data, headers = files[path], {"X_Repo_Commit": sha}
    large = hashlib.sha256(data).hexdigest()
    small = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    headers["ETag"] = f'"{large if is_large(path, data) else small}"'
    if wanted := re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", "")):
        start = int(wanted[1])
        headers["Content_Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        raise Answer(206, data[start:], **headers)
    raise Answer(200, data, **headers)


def is_large(path: str, data: bytes) -> bool:
    return len(data) > LARGE or not path.endswith(REGULAR)


def create(handler: Handler, body: bytes) -> None:
    wanted, user = json.loads(body), handler.user
    repo = f"{wanted['organization']}/{wanted['name']}"
    if not user:
        raise Answer(401, {"error": "log in"}, X_Error_Message="log in")
    if wanted["organization"] != user:
        message = "You don't have the rights to create a model under this namespace"
        raise Answer(403, {"error": message}, X_Error_Message=message)
    if repo in handler.server.repositories:
        raise Answer(409, {"error": "You already created this model repo"})
    private = wanted.get("visibility") == "private" or wanted.get("private", False)
    handler.server.create(repo, private=private)
    raise Answer(200, {"url": f"{handler.server.address}/{repo}"})


def branch(handler: Handler, body: bytes, repo: str, revision: str) -> None:
    found = handler.repository(repo, write=True)
    found["branches"].setdefault(revision, found["branches"]["main"])
    raise Answer(200, {})


def validate(handler: Handler, body: bytes) -> None:
    content = json.loads(body)["content"]
    front = content.split("---\n")[1] if content.startswith("---\n") else ""
    found = yaml.safe_load(front) or {}
    errors = [{"message": "no licence"}] if "license" not in found else []
    raise Answer(400 if errors else 200, {"errors": errors, "warnings": []})


def preupload(handler: Handler, body: bytes, repo: str, revision: str) -> None:
    handler.repository(repo, write=True)
    handler.sha(repo, revision)
    files = [
        {
            "path": file["path"],
            "uploadMode": "lfs"
            if file["size"] > LARGE or not file["path"].endswith(REGULAR)
            else "regular",
            "shouldIgnore": False,
        }
        for file in json.loads(body)["files"]
    ]
    raise Answer(200, {"files": files})


def batch(handler: Handler, body: bytes, repo: str) -> None:
    handler.repository(repo, write=True)
    objects = []
    for wanted in json.loads(body)["objects"]:
        if wanted["oid"] not in handler.server.large:
            href = f"{handler.server.address}/lfs/{wanted['oid']}"
            wanted = {**wanted, "actions": {"upload": {"href": href}}}
        objects.append(wanted)
    raise Answer(200, {"transfer": "basic", "objects": objects})


def commit(handler: Handler, body: bytes, repo: str, revision: str) -> None:
    handler.repository(repo, write=True)
    parent = handler.sha(repo, revision)
    files = dict(handler.server.commits[parent])
    for line in body.splitlines():
        item = json.loads(line)
        key, value = item["key"], item["value"]
        if key == "header" and value.get("parentCommit") not in (None, parent):
            raise Answer(412, {"error": "the branch has moved"})
        if key == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif key == "lfsFile":
            files[value["path"]] = handler.server.large[value["oid"]]
        elif key == "deletedFile":
            del files[value["path"]]
    sha = handler.server.commit(repo, revision, files)
    url = f"{handler.server.address}/{repo}/commit/{sha}"
    raise Answer(200, {"success": True, "commitUrl": url, "commitOid": sha})


ROUTES = (
    ("GET", MODEL, info),
    ("GET", rf"{MODEL}/revision/(?P<revision>.+)", info),
    ("GET", rf"{MODEL}/tree/(?P<revision>[^/]+)", tree),
    ("POST", "/api/repos/create", create),
    ("POST", "/api/validate-yaml", validate),
    ("POST", rf"{MODEL}/branch/(?P<revision>.+)", branch),
    ("POST", rf"{MODEL}/preupload/(?P<revision>.+)", preupload),
    ("POST", rf"{MODEL}/commit/(?P<revision>.+)", commit),
    ("POST", r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", batch),
    *(
        (
            method,
            r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)",
            resolve,
        )
        for method in ("GET", "HEAD")
    ),
)


@contextlib.contextmanager
def running() -> Iterator[Hub]:
    """A hub that answers until the block ends."""
    with Hub() as hub:
        hub.daemon_threads = True
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
