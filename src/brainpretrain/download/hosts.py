"""Hosts with an interface of their own: Synapse, XNAT, Hugging Face, Dataverse and Zenodo.

Each function here asks an interface for the addresses of files, which `download_file` then downloads. Credentials are read from
environment variables only: SYNAPSE_AUTH_TOKEN; XNAT_USER and XNAT_PASSWORD; HF_TOKEN. They are sent to their own host only, over
https, and are never written to a file.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from brainpretrain.datasets.base import Archive
from brainpretrain.download import archives
from brainpretrain.download.http import differs, digests, download_file, read
from brainpretrain.errors import UserError
from brainpretrain.files import read_json, write_json

SYNAPSE = "https://repo-prod.prod.sagebase.org/repo/v1"
SYNAPSE_FILES = "https://file-prod.prod.sagebase.org/file/v1"
HUGGING_FACE = "https://huggingface.co"  # unless HF_ENDPOINT is set
STREAMS = 8  # parallel downloads of a data set of many small files

VARIABLES = {
    "synapse": ("SYNAPSE_AUTH_TOKEN",),
    "xnat": ("XNAT_USER", "XNAT_PASSWORD"),
    "hf": ("HF_TOKEN",),
    "dataverse": (),
    "zenodo": (),
}


def scheme(archive: Archive) -> str:
    """The scheme of an archive's address: 'http', 'https', or a key of VARIABLES; '' if only a person can get it."""
    return archive.url.partition(":")[0] if archive.url else ""


def variables(archive: Archive, access: str) -> tuple[str, ...]:
    """The environment variables that are needed to download or to decrypt an archive."""
    password = (archives.PASSWORD,) if archive.name.endswith(archives.ENCRYPTED) else ()
    open_to_all = scheme(archive) == "hf" and access == "auto"
    return password + (() if open_to_all else VARIABLES.get(scheme(archive), ()))


def is_tree(archive: Archive) -> bool:
    """Whether an archive is a collection of files on its host instead of one file."""
    return scheme(archive) in ("xnat", "hf", "dataverse")


def synapse_file(archive: Archive, path: Path) -> dict[str, Any]:
    """Downloads the file `synapse:<id>`, or the file `archive.name` below the folder or project `<id>`.

    Returns:
        The result of `digests`.

    Raises:
        UserError: as `download_file`; or there is no such file, or its terms have not been accepted.
    """
    secrets = {"Authorization": f"Bearer {os.environ['SYNAPSE_AUTH_TOKEN']}"}
    entity = _synapse_entity(archive.url.partition(":")[2], archive.name, secrets)
    handle = _synapse_handle(entity, secrets)
    facts = handle["fileHandle"]
    if archive.size and archive.size != facts["contentSize"]:
        problem = f"Synapse has {facts['contentSize']} bytes of {archive.name}, on record are {archive.size}"
        raise UserError(problem, where=archive.url, fix="look at the page of the data set")
    described = replace(archive, size=facts["contentSize"], md5=archive.md5 or facts.get("contentMd5"))
    return download_file(lambda: _synapse_handle(entity, secrets)["preSignedURL"], path, described)


def _synapse_entity(identifier: str, name: str, secrets: Mapping[str, str]) -> dict[str, Any]:
    """The entity of the file itself, or of the file with this name below a folder."""
    entity = _ask(f"{SYNAPSE}/entity/{identifier}", secrets)
    if "dataFileHandleId" in entity:
        return entity
    folders, others = [identifier], []
    while folders:
        for child in _synapse_children(folders.pop(), secrets):
            if child["type"].endswith("Folder"):
                folders.append(child["id"])
            elif child["name"] == name:
                return _ask(f"{SYNAPSE}/entity/{child['id']}", secrets)
            else:
                others.append(child["name"])
    listed = ", ".join(sorted(others)[:9]) or "no file that you may see"
    raise UserError(f"Synapse has no {name} below {identifier}, but {listed}",
                    where=f"synapse:{identifier}", fix="register and accept the terms on the page of the data set")  # fmt: skip


def _synapse_children(folder: str, secrets: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    question: dict[str, Any] = {"parentId": folder, "includeTypes": ["folder", "file"]}
    while True:
        answer = _ask(f"{SYNAPSE}/entity/children", secrets, question)
        yield from answer["page"]
        if not answer.get("nextPageToken"):
            return
        question["nextPageToken"] = answer["nextPageToken"]


def _synapse_handle(entity: Mapping[str, Any], secrets: Mapping[str, str]) -> dict[str, Any]:
    """Size, md5 and a new address of a file."""
    file = {
        "fileHandleId": entity["dataFileHandleId"],
        "associateObjectId": entity["id"],
        "associateObjectType": "FileEntity",
    }
    question = {"requestedFiles": [file], "includeFileHandles": True, "includePreSignedURLs": True}
    handle = _ask(f"{SYNAPSE_FILES}/fileHandle/batch", secrets, question)["requestedFiles"][0]
    if "preSignedURL" not in handle:
        raise UserError(
            f"Synapse does not hand out {entity['name']}: {handle.get('failureCode', 'no address')}",
            where=f"synapse:{entity['id']}",
            fix="accept the terms on the page of the data set; the token needs the permission to download",
        )
    return handle


def hugging_face(archive: Archive, folder: Path) -> dict[str, Any]:
    """Downloads all files of the data set `hf:<owner>/<name>` into `folder`; existing files are kept.

    Returns:
        `revision` of the data set on its host, number of `files`, and `bytes`.

    Raises:
        UserError: as `download_file`; or a file name leads out of the folder.
    """
    token = os.environ.get("HF_TOKEN")
    secrets = {"Authorization": f"Bearer {token}"} if token else {}
    host = _safe(os.environ.get("HF_ENDPOINT", HUGGING_FACE).rstrip("/"), secrets)
    name = archive.url.partition(":")[2]
    revision = _ask(f"{host}/api/datasets/{name}/revision/main", secrets)["sha"]
    listed, page = [], f"{host}/api/datasets/{name}/tree/{revision}?recursive=true"
    while page:
        content, headers = read(_same_host(page, host), secrets)
        listed += [entry for entry in json.loads(content) if entry["type"] == "file"]
        following = re.search(r'<([^>]+)>;\s*rel="next"', headers.get("Link", ""))
        page = urljoin(page, following[1]) if following else ""
    resolve = f"{host}/datasets/{name}/resolve/{revision}"
    files = [
        Archive(entry["path"], f"{resolve}/{quote(entry['path'])}", entry["size"], (entry.get("lfs") or {}).get("oid"))
        for entry in listed
    ]
    return _collection(name, revision, files, folder, secrets)


def dataverse(archive: Archive, folder: Path) -> dict[str, Any]:
    """Downloads all files of the data set `dataverse:<server>/<doi>` into `folder`; existing files are kept.

    Returns:
        `revision`: the data set's version on its host, number of `files`, and `bytes`.

    Raises:
        UserError: as `download_file`; or a file name leads out of the folder.
    """
    server, _, identifier = archive.url.removeprefix("dataverse:").rpartition("/doi:")
    host = server if "://" in server else f"https://{server}"
    question = f"{host}/api/datasets/:persistentId/?persistentId=doi:{quote(identifier)}"
    version = _ask(question, {})["data"]["latestVersion"]
    files = [_dataverse_file(entry, host) for entry in version["files"]]
    revision = f"{version['versionNumber']}.{version['versionMinorNumber']}"
    return _collection(f"doi:{identifier}", revision, files, folder, {})


def _dataverse_file(entry: Mapping[str, Any], host: str) -> Archive:
    """Path and address of a file. Of a table that Dataverse has converted, the original is downloaded: it has the stated md5."""
    facts = entry["dataFile"]
    name, size, url = entry["label"], facts["filesize"], f"{host}/api/access/datafile/{facts['id']}"
    if "originalFileSize" in facts:
        name, size, url = facts["originalFileName"], facts["originalFileSize"], f"{url}?format=original"
    path = "/".join(filter(None, [entry.get("directoryLabel"), name]))
    return Archive(path, url, size, md5=facts.get("md5"))


def zenodo(archive: Archive) -> tuple[Archive, ...]:
    """The files of the record `zenodo:<server>/<number>`, with the size and checksum that the host states.

    Raises:
        UserError: the host refuses, or does not respond; or a file name leads out of the folder.
    """
    server, _, number = archive.url.removeprefix("zenodo:").rpartition("/")
    host = server if "://" in server else f"https://{server}"
    return tuple(_zenodo_file(entry) for entry in _ask(f"{host}/api/records/{number}", {})["files"])


def _zenodo_file(entry: Mapping[str, Any]) -> Archive:
    kind, _, checksum = entry["checksum"].partition(":")
    name = PurePosixPath(entry["key"]).name
    return Archive(name, entry["links"]["self"], entry["size"], md5=checksum if kind == "md5" else None)


def _collection(name: str, revision: str, files: list[Archive], folder: Path, secrets: Mapping[str, str]) -> dict[str, Any]:
    """Downloads the files of one revision, each to its name below `folder`; `files` has the host's sizes and checksums."""
    size = sum(file.size or 0 for file in files)
    archives.check_space(folder, size - _size_of(folder))
    note = folder / ".revision.json"
    same = note.exists() and read_json(note)["revision"] == revision
    if not same:
        write_json(note, {"revision": ""})  # stays empty until every file has been compared with this revision

    def get(file: Archive) -> None:
        path = _below(folder, file.name)
        exists = path.exists() and path.stat().st_size == file.size and (same or not differs(digests(path), file))
        if not exists:
            download_file(file.url, path, file, secrets, quiet=True)

    _in_parallel(get, files, name)
    write_json(note, {"revision": revision})
    return {"revision": revision, "files": len(files), "bytes": size}


def xnat_project(archive: Archive, folder: Path) -> dict[str, Any]:
    """Downloads the scans of all MR sessions of `xnat:<server>/<project>` into `folder`; existing sessions are kept.

    Only scans of the types `archive.scans` are downloaded. Their files become `<session>/<scan>/<file>`, the layout of the
    official scripts of OASIS.

    Returns:
        Number of `files`, and `bytes`.

    Raises:
        UserError: as `download_file` and `unpack`; or the project has no sessions that the user may see.
    """
    server, _, project = archive.url.removeprefix("xnat:").rpartition("/")
    login = f"{os.environ['XNAT_USER']}:{os.environ['XNAT_PASSWORD']}".encode()
    basic = {"Authorization": f"Basic {base64.b64encode(login).decode()}"}
    server = _safe(server if "://" in server else f"https://{server}", basic)
    ticket = read(f"{server}/data/JSESSION", basic)[0].decode(errors="replace").strip()
    if not re.fullmatch(r"[A-Za-z0-9.:_-]{8,}", ticket):
        raise UserError("the XNAT server gives no session", where=server, fix="check XNAT_USER and XNAT_PASSWORD")
    secrets = {"Cookie": f"JSESSIONID={ticket}"}
    query = "xsiType=xnat:mrSessionData&format=json&columns=ID,label"
    sessions = _ask(f"{server}/data/archive/projects/{project}/experiments?{query}", secrets)["ResultSet"]["Result"]
    if not sessions:
        raise UserError(f"the project {project} has no session that you may see", where=server, fix="ask for access to it")
    types: set[str] = set()
    for number, session in enumerate(sorted(sessions, key=lambda session: session["label"]), 1):
        path = _below(folder, session["label"])
        if not archives.made_from(path):
            scans = f"{server}/data/archive/experiments/{quote(session['ID'])}/scans"
            types |= _xnat_session(scans, archive.scans, path, secrets)
            print(f"{project}: session {number}/{len(sessions)}, {session['label']}", flush=True)
    markers = [archives.made_from(folder / session["label"]) or {} for session in sessions]
    totals = {name: sum(marker[name] for marker in markers) for name in ("files", "bytes")}
    if not totals["files"]:
        wanted, available = ", ".join(archive.scans), ", ".join(sorted(types))
        problem = f"no scan in {len(sessions)} sessions is of the types {wanted}; there are {available}"
        raise UserError(problem, where=f"{server}: {project}", fix="download by hand, with the scripts of the data set's owners")
    return totals


def _xnat_session(scans: str, wanted_types: tuple[str, ...], path: Path, secrets: Mapping[str, str]) -> set[str]:
    """Creates the folder of a session, empty if it has no scan of `wanted_types`. Returns all scan types of the session."""
    types = {scan["type"] for scan in _ask(f"{scans}?format=json", secrets)["ResultSet"]["Result"]}
    wanted = ",".join(quote(kind) for kind in wanted_types if kind in types)
    if not wanted:
        with archives.being_made(path) as making:
            archives.write_marker(making, {"name": path.name, "files": 0, "bytes": 0})
        return types
    packed = path.with_name(f".{path.name}.zip")
    facts = download_file(f"{scans}/{wanted}/files?format=zip", packed, Archive(packed.name), secrets, quiet=True)
    archives.unpack(packed, path, {"name": path.name} | facts, rename=_xnat_name)
    packed.unlink()
    return types


def _xnat_name(name: str) -> str:
    """`<session>/scans/anat1-T1w/resources/NIFTI/files/x.nii.gz` becomes `anat1/x.nii.gz`."""
    match = re.fullmatch(r"[^/]+/scans/([^/-]+)[^/]*/resources/[^/]+/files/(.+)", name)
    return f"{match[1]}/{match[2]}" if match else name


def _ask(url: str, secrets: Mapping[str, str], question: Any = None) -> Any:
    """The JSON response of an interface."""
    content, _ = read(_safe(url, secrets), secrets, question)
    try:
        return json.loads(content)
    except ValueError:
        raise UserError("the host responds with something else than JSON", where=url.partition("?")[0],
                        fix="its interface may have changed: place the files by hand") from None  # fmt: skip


def _safe(url: str, secrets: Mapping[str, str]) -> str:
    """Returns the address if secrets may be sent to it."""
    parts = urlsplit(url)
    if secrets and parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost"):
        raise UserError("credentials are sent over https only", where=url.partition("?")[0], fix="write the address with https")
    return url


def _same_host(url: str, host: str) -> str:
    if not url.startswith(host + "/"):
        raise UserError("the host's list goes on at another host", where=urlsplit(url).netloc, fix="place the files by hand")
    return url


def _below(folder: Path, name: str) -> Path:
    """The path below `folder` of a file that the host calls `name`."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts or any(part.startswith(".making-") for part in pure.parts):
        raise UserError(f"a name on the host leads out of the folder: {name!r}", where=folder, fix="place the files by hand")
    return folder / pure


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _in_parallel(get: Callable[[Archive], None], files: list[Archive], name: str) -> None:
    """Calls `get` for each file, STREAMS at a time. The first error stops all."""
    with ThreadPoolExecutor(STREAMS) as pool:
        futures = [pool.submit(get, file) for file in files]
        try:
            for number, future in enumerate(futures, 1):
                future.result()
                if number * 10 // len(futures) > (number - 1) * 10 // len(futures):
                    print(f"{name}: {number}/{len(futures)} files", flush=True)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
