"""Puts a data set in place: finds or downloads its archives, unpacks them, converts DICOM, and verifies the result.

An archive is taken from the folder `incoming`, a local mirror, or its host, in this order. Each archive is unpacked into a folder
of its own name below the folder of the data set. Files that a user has put there are not touched.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from brainpretrain import locks
from brainpretrain.datasets.base import CONVERTED, Archive, Dataset, NotInPlace
from brainpretrain.download import archives, dicom, hosts
from brainpretrain.download.fetch import fetch
from brainpretrain.download.http import Denied, differs, digests, download_file, shown
from brainpretrain.errors import UserError
from brainpretrain.files import read_json, write_json


def download(dataset: Dataset, root: Path, incoming: Path, mirror: Path | None = None) -> dict[str, Any]:
    """Puts a data set in place under `root`. If it is in place already, it is only verified.

    Args:
        dataset: the description of the data set.
        root: folder of its files.
        incoming: folder for archives, both downloaded and placed by a user. Archives are not deleted.
        mirror: a folder with any layout that is searched for an archive before it is downloaded.

    Returns:
        The result of `fetch`, and `archives`: the markers of the unpacked archives, with name, size, sha256, md5, source
        ('incoming', 'mirror', or the address), verified (whether a checksum is on record), files (count) and bytes (unpacked).

    Raises:
        UserError: only a person can get a missing file; an archive differs from the one on record; an environment variable with
            credentials is not set; or `download_file`, `unpack` or `dicom.convert` refuses.
        NotInPlace: the unpacked files do not have the layout of the data set.
    """
    try:
        incoming.mkdir(parents=True, exist_ok=True)
        lock, _ = locks.take(incoming / ".lock", f"another download of {dataset.name} is under way; waiting for it")
    except OSError as error:
        raise UserError(f"cannot write there: {error.strerror}", where=incoming, fix="choose another folder") from None
    try:
        if not _placed_by_hand(dataset, root, incoming):
            _place(dataset, root, incoming, mirror)
        dicom.convert(root)
        return fetch(dataset, root) | {"archives": archives.markers(root)}
    except OSError as error:
        problem, fix = f"cannot read or write: {error.strerror}", "check the permissions and the free space"
        raise UserError(problem, where=error.filename or root, fix=fix) from None
    finally:
        lock.release()


def can_be_had(dataset: Dataset, incoming: Path) -> bool:
    """True if `download` needs no person: open data, accounts whose variables are set, or archives in `incoming`."""
    if _archives_in(incoming):
        return True
    needed = {name for archive in dataset.archives for name in hosts.variables(archive, dataset.access)}
    has_addresses = bool(dataset.archives) and all(archive.url for archive in dataset.archives)
    return dataset.access in ("auto", "credential") and has_addresses and all(os.environ.get(name) for name in needed)


def refuse_without_variables(dataset: Dataset, root: Path, incoming: Path, mirror: Path | None = None) -> None:
    """Refuses a download before any job runs if an environment variable with credentials is not set.

    If there may be files in `incoming`, `root` or `mirror`, nothing is refused here, since only `download` reads them.

    Raises:
        UserError: a variable is not set; the message names it.
    """
    if not (mirror or _archives_in(incoming) or (root.is_dir() and any(root.iterdir()))):
        for archive in dataset.archives:
            _check_variables(dataset, archive, incoming)


def _placed_by_hand(dataset: Dataset, root: Path, incoming: Path) -> bool:
    """True if a user has unpacked the data set, so that no files may be added."""
    if not dataset.archives and _archives_in(incoming):
        return False
    entries = [path for path in root.iterdir() if not path.name.startswith(".")] if root.is_dir() else []
    if any(archives.made_from(path) for path in entries) or not {path.name for path in entries} - {CONVERTED}:
        return False
    if dicom.series(root):
        return True
    try:
        facts = fetch(dataset, root)
    except NotInPlace:
        return False
    print(f"{dataset.name}: {facts['volumes']} volumes were placed in {root}; nothing is downloaded", flush=True)
    return True


def _place(dataset: Dataset, root: Path, incoming: Path, mirror: Path | None) -> None:
    """Unpacks every archive that is not unpacked yet; downloads those that are neither in `incoming` nor in the mirror."""
    needed = _needed(dataset, root, incoming)
    cache = _Digests(incoming.parent / ".digests.json")
    todo = [archive for archive in needed if not _is_unpacked(archive, root, incoming, cache)]
    local = {archive: _find(archive, incoming, mirror, cache) for archive in todo}
    missing = [archive for archive in todo if not local[archive]]
    if not needed or [archive for archive in missing if not archive.url]:
        raise _ask_for(dataset, root, incoming, missing)
    for archive in missing:
        _check_variables(dataset, archive, incoming)
    for archive in todo:
        folder, source_file = root / archives.stem(archive.name), local[archive]
        if not source_file and hosts.is_tree(archive):
            with _naming_variables(dataset, archive):
                _download_tree(archive, folder)
            continue
        if not source_file:
            path = incoming / archive.name
            with _naming_variables(dataset, archive):
                facts = _download_one(archive, path)
            source_file = path, facts, shown(archive.url) if archive.url.startswith("http") else archive.url
        path, facts, source = source_file
        verified = bool(archive.sha256 or archive.md5)
        print(f"{archive.name}: {'as on record' if verified else 'no checksum on record'}, sha256 {facts['sha256']}", flush=True)
        facts = {"name": archive.name, "source": source, "verified": verified} | facts
        marker = archives.unpack(path, folder, facts, unpacked_size=archive.unpacked_size)
        print(f"{archive.name}: {marker['files']} files, {marker['bytes'] / 1e6:.1f} MB, in {folder}", flush=True)
        if path.parent == incoming:
            print(f"{path} is no longer needed", flush=True)


def _needed(dataset: Dataset, root: Path, incoming: Path) -> tuple[Archive, ...]:
    """The archives of a data set: those on record, or all in `incoming` if none is on record. Zenodo lists those of its records.

    If Zenodo cannot be reached, the archives in `incoming` and those already unpacked are assumed to be complete.
    """
    placed = tuple(Archive(path.name) for path in _archives_in(incoming))
    if not dataset.archives:
        return placed
    needed: list[Archive] = []
    for archive in dataset.archives:
        if hosts.scheme(archive) != "zenodo":
            needed.append(archive)
            continue
        try:
            needed += hosts.zenodo(archive)
        except UserError as error:
            local = {*placed, *(Archive(marker["name"]) for marker in archives.markers(root))}
            if not local:
                raise
            print(f"{archive.name}: {error.problem}; the local archives are assumed to be complete", flush=True)
            needed += sorted(local, key=lambda archive: archive.name)
    return tuple(needed)


def _is_unpacked(archive: Archive, root: Path, incoming: Path, cache: _Digests) -> bool:
    """True if the folder of the archive exists, whether it was unpacked here or put there by a user.

    Raises:
        UserError: the folder was unpacked from another file than the one on record or, without a record, the one in `incoming`.
    """
    folder, placed = root / archives.stem(archive.name), incoming / archive.name
    marker = archives.made_from(folder)
    if marker and not hosts.is_tree(archive):
        difference = differs(marker, archive)
        if not (archive.sha256 or archive.md5) and placed.is_file() and cache.of(placed)["sha256"] != marker["sha256"]:
            difference = f"sha256 is {marker['sha256']}, that of {placed} {cache.of(placed)['sha256']}"
        if difference:
            raise UserError(f"this folder was made from another {archive.name}: {difference}", where=folder, fix="move it away")
    return folder.exists()


def _archives_in(incoming: Path) -> list[Path]:
    """The archives in the folder `incoming`, sorted."""
    return sorted(path for path in incoming.glob("*") if archives.is_archive(path.name) and not path.name.startswith("."))


def _find(archive: Archive, incoming: Path, mirror: Path | None, cache: _Digests) -> tuple[Path, dict[str, Any], str] | None:
    """Path, digests and source of an archive that need not be downloaded; None if there is none.

    A file with the checksum on record is found under any name; without a checksum on record, by its name alone. A collection of
    files may be present as `<name>.zip`.

    Raises:
        UserError: a file in `incoming` has the name of the archive and differs from the one on record.
    """
    if hosts.is_tree(archive):
        archive = Archive(f"{archive.name}.zip")
    size = None if archive.also else archive.size  # the size of the other versions is not on record
    for folder, source in ((incoming, "incoming"), (mirror, "mirror")):
        for path in _candidates(archive, folder) if folder else ():
            has_name = path == incoming / archive.name
            if not has_name and size not in (None, path.stat().st_size):
                continue  # without reading the file
            facts = cache.of(path)
            difference = differs(facts, archive)
            if not difference:
                return path, facts, source
            if has_name:
                archives.refuse_page(path)
                fix = "delete it, or check whether the download was complete"
                raise UserError(f"{archive.name} is not the file on record: {difference}", where=path, fix=fix)
    return None


class _Digests:
    """A cache of digests on disk, so that archives of many GB are read only once, also by other processes.

    A file whose size or times have changed is read again. If the cache cannot be written, it is kept in memory only.
    """

    def __init__(self, note: Path) -> None:
        self.note = note
        try:
            self.kept: dict[str, Any] = read_json(note) if note.exists() else {}
        except (UserError, OSError):
            self.kept = {}

    def of(self, path: Path) -> dict[str, Any]:
        """The result of `digests` for a file."""
        now = path.stat()
        state, key = [now.st_size, now.st_mtime_ns, now.st_ctime_ns], str(path.resolve())
        if self.kept.get(key, {}).get("state") != state:
            self.kept[key] = {"state": state, "digests": digests(path)}
            with contextlib.suppress(OSError, UserError):
                write_json(self.note, self.kept)
        return dict(self.kept[key]["digests"])


def _candidates(archive: Archive, folder: Path) -> list[Path]:
    """Files that may be the archive: those with its name, then, if a checksum is on record, those with its suffix."""
    suffix = archive.name.lower().removeprefix(archives.stem(archive.name).lower())
    named, others = [], []
    for here, _, names in os.walk(folder):
        for name in sorted(names):
            path = Path(here) / name
            if not path.is_file():  # such as a broken link
                continue
            if name == archive.name:
                named.append(path)
            elif not (archive.sha256 or archive.md5) or name.startswith(".") or name.endswith((".part", ".part.json")):
                continue
            elif name.lower().endswith(suffix):  # `unpack` chooses the format by the suffix
                others.append(path)
    return named + others


def _download_one(archive: Archive, path: Path) -> dict[str, Any]:
    if hosts.scheme(archive) == "synapse":
        return hosts.synapse_file(archive, path)
    return download_file(archive.url, path, archive)


def _download_tree(archive: Archive, folder: Path) -> None:
    """Downloads a collection of files, in a hidden folder until all of them are complete."""
    get = {"hf": hosts.hugging_face, "xnat": hosts.xnat_project, "dataverse": hosts.dataverse}[hosts.scheme(archive)]
    with archives.being_made(folder, keep=True) as making:
        facts = get(archive, making)
        archives.write_marker(making, {"name": archive.name, "source": archive.url, "verified": False} | facts)
    print(f"{archive.name}: {facts['files']} files, {facts['bytes'] / 1e6:.1f} MB, in {folder}", flush=True)


@contextlib.contextmanager
def _naming_variables(dataset: Dataset, archive: Archive) -> Iterator[None]:
    """Adds the names of the environment variables to the error of a host that denies access."""
    try:
        yield
    except Denied as denied:
        if not (names := hosts.variables(archive, dataset.access)):
            raise
        fix = f"check {' and '.join(names)}, and accept the terms at {dataset.page}"
        raise UserError(denied.problem, where=denied.where, fix=fix) from None


def _check_variables(dataset: Dataset, archive: Archive, incoming: Path) -> None:
    """Refuses a download, before its first byte, if a variable is not set or the scheme of the address is unknown."""
    if unset := [name for name in hosts.variables(archive, dataset.access) if not os.environ.get(name)]:
        raise UserError(
            f"to download {archive.name} of '{dataset.name}', set the environment variable {' and '.join(unset)}",
            where=archive.url,
            fix=f"register and accept the terms at {dataset.page}; or get the file there and put it into {incoming}",
        )
    if archive.url and hosts.scheme(archive) not in ("http", "https", *hosts.VARIABLES):
        raise UserError(f"there is no way to get an address like {archive.url}", where=f"datasets/{dataset.name}.py",
                        fix="https:, synapse:, xnat:, hf:, dataverse: and zenodo: are known")  # fmt: skip


def _ask_for(dataset: Dataset, root: Path, incoming: Path, missing: list[Archive]) -> UserError:
    """The error for files that only a person can get, with complete instructions."""
    lines = [f"{'download from' if dataset.access == 'auto' else 'ask for access at'} {dataset.page} ({dataset.licence})"]
    lines.append(f"  put into {incoming}, as delivered:")
    for archive in missing:
        on_record = {"bytes": archive.size, "sha256": archive.sha256, "md5": archive.md5}
        facts = [f"{name} {value}" for name, value in on_record.items() if value]
        lines.append(f"    {archive.name}" + (f" ({', '.join(facts)})" if facts else " (any version: no checksum is on record)"))
    if not missing:
        lines.append(f"    all archives of the download, under any names ({', '.join(archives.SUFFIXES)})")
    lines.append(f"  then give this command again. Or unpack by hand into {root}:")
    lines += [f"    {example}" for example in (dataset.layouts[0].examples if dataset.layouts else ())]
    others = [path.name for path in _archives_in(incoming)]
    present = f"there are only {', '.join(others)}" if others else "there are no archives"
    problem = f"the data set '{dataset.name}' ({dataset.title}) cannot be downloaded without you: {present}"
    return UserError(problem, where=incoming, fix="\n".join(lines))
