"""Synapse, XNAT, Hugging Face, Dataverse and Zenodo as far as the project speaks with them, each with a second server where the files are.

Tried by hand, and understood: huggingface_hub 2.4.0 asking for a revision and its tree, synapseclient 4.5.0 for the children of a
folder and the addresses of their files.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from contextlib import ExitStack, contextmanager

from faulty_server import Handler, Server, serving

SECRETS = {
    "SYNAPSE_AUTH_TOKEN": "canary-synapse-6a1f",
    "XNAT_USER": "canary-user-7b2e",
    "XNAT_PASSWORD": "canary-password-8c3d",
    "HF_TOKEN": "hf_canary9d4c",
    "ATLAS_PASSWORD": "canary-atlas-ae5b",
}
BASIC = "Basic " + base64.b64encode(f"{SECRETS['XNAT_USER']}:{SECRETS['XNAT_PASSWORD']}".encode()).decode()
TICKET = "CANARY0TICKET0FB6A"


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tell(handler: Handler, value: object, status: int = 200, **headers: str) -> None:
    handler.reply(status, json.dumps(value).encode(), Content_Type="application/json", **headers)


def question(handler: Handler) -> dict:
    return json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))


class Host:
    """Two servers: `front` is spoken with, `store` has files; `refuse` makes the front answer with a status."""

    def __init__(self, front: Server, store: Server) -> None:
        self.front, self.store, self.refuse = front, store, 0

    def knows(self, handler: Handler, name: str, value: str) -> bool:
        """Whether the request has its credential; answers it if not."""
        if self.refuse or handler.headers.get(name) != value:
            tell(handler, {"reason": "no"}, self.refuse or 401)
        return not self.refuse and handler.headers.get(name) == value


@contextmanager
def synapse(content: bytes):
    """syn1 is a folder, with syn2 `one.zip` in a folder syn3 below it."""
    with ExitStack() as stack:
        store = stack.enter_context(Server(serving(content)))
        host = Host(stack.enter_context(Server(lambda handler: answer(handler))), store)
        children = {
            "syn1": [[("syn3", "inner", "Folder")], [("syn4", "other.zip", "FileEntity")]],
            "syn3": [[("syn2", "one.zip", "FileEntity")]],
        }

        def answer(handler: Handler) -> None:
            asked = question(handler) if handler.command == "POST" else {}
            if not host.knows(handler, "Authorization", f"Bearer {SECRETS['SYNAPSE_AUTH_TOKEN']}"):
                return
            if handler.path.endswith("/entity/children"):
                page = int(asked.get("nextPageToken") or 0)
                pages = children[asked["parentId"]]
                found = [
                    {"id": one, "name": name, "type": f"org.sagebionetworks.repo.model.{kind}"} for one, name, kind in pages[page]
                ]
                tell(handler, {"page": found, "nextPageToken": str(page + 1) if page + 1 < len(pages) else None})
            elif handler.path.endswith("/fileHandle/batch"):
                assert asked["requestedFiles"][0] == {
                    "fileHandleId": "77",
                    "associateObjectId": "syn2",
                    "associateObjectType": "FileEntity",
                }
                facts = {"contentSize": len(content), "contentMd5": hashlib.md5(content).hexdigest(), "fileName": "one.zip"}
                number = sum(one["path"].endswith("/batch") for one in host.front.asked)
                url = f"{store.url}/one.zip?X-Amz-Signature=canary-signature-{number}"
                tell(handler, {"requestedFiles": [{"fileHandleId": "77", "fileHandle": facts, "preSignedURL": url}]})
            elif handler.path.endswith("/entity/syn2"):
                tell(handler, {"id": "syn2", "name": "one.zip", "dataFileHandleId": "77"})
            else:
                tell(handler, {"id": handler.path.rpartition("/")[2], "name": "folder"})

        yield host


@contextmanager
def xnat(sessions: dict[str, dict[str, bytes]]):
    """A project P; the scans of a session by type, each with one file."""
    with ExitStack() as stack:
        store = stack.enter_context(Server(serving(b"")))
        host = Host(stack.enter_context(Server(lambda handler: answer(handler))), store)

        def answer(handler: Handler) -> None:
            path = handler.path.partition("?")[0].removeprefix("/ir/data")
            if path == "/JSESSION":
                if host.knows(handler, "Authorization", BASIC):
                    handler.reply(200, TICKET.encode())
                return
            if not host.knows(handler, "Cookie", f"JSESSIONID={TICKET}"):
                return
            if path == "/archive/projects/P/experiments":
                rows = [{"ID": f"X_{name}", "label": name} for name in sessions]
                tell(handler, {"ResultSet": {"Result": rows, "totalRecords": str(len(rows))}})
                return
            _, _, _, session, _, *rest = path.split("/")
            scans = sessions[session.removeprefix("X_")]
            if not rest:
                tell(handler, {"ResultSet": {"Result": [{"ID": f"sub{n}", "type": kind} for n, kind in enumerate(scans)]}})
                return
            name = session.removeprefix("X_")
            files = {f"{name}/scans/sub{n}-{kind}/resources/NIFTI/files/{name}_{kind}.nii.gz": body
                     for n, (kind, body) in enumerate(scans.items()) if kind in rest[0].split(",")}  # fmt: skip
            handler.reply(200, zipped(files), Content_Type="application/zip", Content_Length="")

        yield host


@contextmanager
def hugging_face(files: dict[str, bytes], needs_token: bool = True):
    """The data set o/n, listed in two pages, its files at another host."""
    with ExitStack() as stack:
        store = stack.enter_context(Server(lambda handler: serving(files[handler.path[1:].partition("?")[0]])(handler)))
        host = Host(stack.enter_context(Server(lambda handler: answer(handler))), store)

        def answer(handler: Handler) -> None:
            if needs_token and not host.knows(handler, "Authorization", f"Bearer {SECRETS['HF_TOKEN']}"):
                return
            path = handler.path
            if path.startswith("/datasets/o/n/resolve/abc123/"):
                name = path.removeprefix("/datasets/o/n/resolve/abc123/")
                handler.reply(302, b"", Location=f"{store.url}/{name}?Signature=canary-signature")
            elif path.startswith("/api/datasets/o/n/revision/main"):
                tell(handler, {"id": "o/n", "sha": "abc123"})
            else:
                assert path.startswith("/api/datasets/o/n/tree/abc123?recursive=true")
                names = sorted(files)
                half = names[2:] if "cursor" in path else names[:2]
                link = "" if "cursor" in path else f'<{host.front.url}{path}&cursor=2>; rel="next"'
                tell(handler, [{"type": "directory", "path": "d", "size": 0, "oid": "0" * 40}, *map(entry, half)], Link=link)

        def entry(name: str) -> dict:
            body, large = files[name], not name.endswith(".csv")
            lfs = {"lfs": {"oid": hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 9}} if large else {}
            return {"type": "file", "path": name, "size": len(body), "oid": "0" * 40} | lfs

        yield host


@contextmanager
def dataverse(files: dict[str, bytes], table: str = ""):
    """The data set doi:10.1/AB; its files by path, at another host. Of the file `table` a rewritten one is listed, its md5 is the original's."""
    with ExitStack() as stack:
        bodies = list(files.values())
        store = stack.enter_context(Server(lambda handler: serving(bodies[int(handler.path.rpartition("/")[2])])(handler)))
        host = Host(stack.enter_context(Server(lambda handler: answer(handler))), store)

        def answer(handler: Handler) -> None:
            path, _, query = handler.path.partition("?")
            if path == "/api/datasets/:persistentId/":
                assert query == "persistentId=doi:10.1/AB"
                version = {"versionNumber": 1, "versionMinorNumber": 2, "files": [entry(*one) for one in enumerate(files)]}
                tell(handler, {"status": "OK", "data": {"id": 7, "latestVersion": version}})
                return
            number = int(path.removeprefix("/api/access/datafile/"))
            assert (query == "format=original") == (list(files)[number] == table)
            handler.reply(303, b"", Location=f"{store.url}/{number}")

        def entry(number: int, path: str) -> dict:
            folder, _, name = path.rpartition("/")
            body = files[path]
            facts = {"id": number, "filename": name, "filesize": len(body), "md5": hashlib.md5(body).hexdigest()}
            if path == table:
                facts |= {"filesize": 1, "originalFileName": name, "originalFileSize": len(body)}
                name = name.replace(".csv", ".tab")
            return {"label": name, "restricted": False, "dataFile": facts} | ({"directoryLabel": folder} if folder else {})

        yield host


@contextmanager
def zenodo(files: dict[str, bytes]):
    """The record 17 with its files by name, at the same host."""

    def answer(handler: Handler) -> None:
        if handler.path == "/api/records/17":
            listed = [entry(name, body) for name, body in files.items()]
            tell(handler, {"id": 17, "files": listed})
            return
        name = handler.path.removeprefix("/api/records/17/files/").removesuffix("/content")
        serving(files[name])(handler)

    def entry(name: str, body: bytes) -> dict:
        links = {"self": f"{server.url}/api/records/17/files/{name}/content"}
        return {"key": name, "size": len(body), "checksum": f"md5:{hashlib.md5(body).hexdigest()}", "links": links}

    with Server(answer) as server:
        yield server
