"""Puts a data set in place: archives that lie ready, a local mirror, the network; then unpacks, converts DICOM, and looks.

Everything goes below the folder of the data set, each archive into a folder of its own name. What a user has put there is
left alone.
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
    """Makes sure that a data set is in place under `root`; a call on what is in place only looks.

    Args:
        dataset: what to get.
        root: its folder.
        incoming: where a user puts archives, and where downloads go. Archives stay there until somebody deletes them.
        mirror: a folder, of any layout, that is searched for an archive before the network is asked.

    Returns:
        What `fetch` returns, and archives: a list of name, size, sha256, md5, source (incoming, mirror, or the address), verified
        (whether a checksum was on record), files and bytes (unpacked).

    Raises:
        UserError: files are missing that only a person can get; an archive is another one than on record; a variable with
            credentials is not set; and all that `download_file`, `unpack` and `convert` refuse.
        NotInPlace: what was unpacked does not have the layout of the data set.
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
        problem, fix = f"cannot read or write: {error.strerror}", "see who may write there, and how much room is left"
        raise UserError(problem, where=error.filename or root, fix=fix) from None
    finally:
        lock.release()


def can_be_had(dataset: Dataset, incoming: Path) -> bool:
    """Whether `download` needs nobody: open data; accounts whose variables are set; or archives that lie ready."""
    if _listed(incoming):
        return True
    needed = {name for archive in dataset.archives for name in hosts.variables(archive, dataset.access)}
    known = bool(dataset.archives) and all(archive.url for archive in dataset.archives)
    return dataset.access in ("auto", "credential") and known and all(os.environ.get(name) for name in needed)


def refuse_without_variables(dataset: Dataset, root: Path, incoming: Path, mirror: Path | None = None) -> None:
    """Before any job: that a download would end at once, since a variable with credentials is not set.

    Where files may be at hand (in `incoming`, `root` or `mirror`), only `download` can tell.

    Raises:
        UserError: names the variable.
    """
    if not (mirror or _listed(incoming) or (root.is_dir() and any(root.iterdir()))):
        for archive in dataset.archives:
            _check_variables(dataset, archive, incoming)


def _placed_by_hand(dataset: Dataset, root: Path, incoming: Path) -> bool:
    """Whether a user has unpacked the data set, so that nothing is to be added to it."""
    if not dataset.archives and _listed(incoming):
        return False
    entries = [path for path in root.iterdir() if not path.name.startswith(".")] if root.is_dir() else []
    if any(archives.made_from(path) for path in entries) or not {path.name for path in entries} - {CONVERTED}:
        return False
    if dicom.series(root):
        return True
    try:
        found = fetch(dataset, root)
    except NotInPlace:
        return False
    print(f"{dataset.name}: {found['volumes']} volumes were placed in {root}; nothing is downloaded", flush=True)
    return True


def _place(dataset: Dataset, root: Path, incoming: Path, mirror: Path | None) -> None:
    """Unpacks every archive that is not unpacked yet, wherever it comes from."""
    wanted = _wanted(dataset, root, incoming)
    known = _Digests(incoming.parent / ".digests.json")
    todo = [archive for archive in wanted if not _is_unpacked(archive, root, incoming, known)]
    found = {archive: _at_hand(archive, incoming, mirror, known) for archive in todo}
    missing = [archive for archive in todo if not found[archive]]
    if not wanted or [archive for archive in missing if not archive.url]:
        raise _ask_for(dataset, root, incoming, missing)
    for archive in missing:
        _check_variables(dataset, archive, incoming)
    for archive in todo:
        folder, at_hand = root / archives.stem(archive.name), found[archive]
        if not at_hand and hosts.is_tree(archive):
            with _naming_variables(dataset, archive):
                _download_tree(archive, folder)
            continue
        if not at_hand:
            path = incoming / archive.name
            with _naming_variables(dataset, archive):
                at_hand = (
                    path,
                    _download_one(archive, path),
                    shown(archive.url) if archive.url.startswith("http") else archive.url,
                )
        path, facts, source = at_hand
        verified = bool(archive.sha256 or archive.md5)
        print(f"{archive.name}: {'as on record' if verified else 'no checksum on record'}, sha256 {facts['sha256']}", flush=True)
        told = {"name": archive.name, "source": source, "verified": verified}
        made = archives.unpack(path, folder, told | facts, unpacked_size=archive.unpacked_size)
        print(f"{archive.name}: {made['files']} files, {made['bytes'] / 1e6:.1f} MB, in {folder}", flush=True)
        if path.parent == incoming:
            print(f"{path} is not needed any more", flush=True)


def _wanted(dataset: Dataset, root: Path, incoming: Path) -> tuple[Archive, ...]:
    """The archives on record; those that lie ready, where there are none; and of a record at Zenodo, those that it lists.

    If Zenodo cannot be asked, what lies ready and what is unpacked already count as all of them.
    """
    at_hand = tuple(Archive(path.name) for path in _listed(incoming))
    if not dataset.archives:
        return at_hand
    wanted: list[Archive] = []
    for archive in dataset.archives:
        if hosts.scheme(archive) != "zenodo":
            wanted.append(archive)
            continue
        try:
            wanted += hosts.zenodo(archive)
        except UserError as error:
            known = {*at_hand, *(Archive(made["name"]) for made in archives.markers(root))}
            if not known:
                raise
            print(f"{archive.name}: {error.problem}; taken for complete with what is at hand", flush=True)
            wanted += sorted(known, key=lambda one: one.name)
    return tuple(wanted)


def _is_unpacked(archive: Archive, root: Path, incoming: Path, known: _Digests) -> bool:
    """Whether its folder is there, made from it or put there by a user.

    Raises:
        UserError: it was made from another file than the one on record or, where none is, than the one in `incoming`.
    """
    folder, lying = root / archives.stem(archive.name), incoming / archive.name
    made = archives.made_from(folder)
    if made and not hosts.is_tree(archive):
        wrong = differs(made, archive)
        if not (archive.sha256 or archive.md5) and lying.is_file() and known.of(lying)["sha256"] != made["sha256"]:
            wrong = f"sha256 is {made['sha256']}, that of {lying} {known.of(lying)['sha256']}"
        if wrong:
            raise UserError(f"this folder was made from another {archive.name}: {wrong}", where=folder, fix="move it away")
    return folder.exists()


def _listed(incoming: Path) -> list[Path]:
    """Archives that lie ready."""
    return sorted(path for path in incoming.glob("*") if archives.is_archive(path.name) and not path.name.startswith("."))


def _at_hand(archive: Archive, incoming: Path, mirror: Path | None, known: _Digests) -> tuple[Path, dict[str, Any], str] | None:
    """Path, digests and source of an archive that need not be downloaded.

    A file with a known checksum is found under any name. Where none is on record, the name has to do. What the network has as a
    collection of files may be at hand as `<name>.zip`.

    Raises:
        UserError: a file with its name lies in `incoming` and is not the one on record.
    """
    if hosts.is_tree(archive):
        archive = Archive(f"{archive.name}.zip")
    size = None if archive.also else archive.size  # that of other versions is not on record
    for folder, source in ((incoming, "incoming"), (mirror, "mirror")):
        for path in _candidates(archive, folder) if folder else ():
            own = path == incoming / archive.name
            if not own and size not in (None, path.stat().st_size):
                continue  # unread
            facts = known.of(path)
            wrong = differs(facts, archive)
            if not wrong:
                return path, facts, source
            if own:
                archives.refuse_page(path)
                fix = "delete it, or look whether the download was complete"
                raise UserError(f"{archive.name} is not the file on record: {wrong}", where=path, fix=fix)
    return None


class _Digests:
    """Digests of files that were read before, also by another process: archives of many GB are read once.

    They are kept in a small file, where one can be written. A file that is replaced is read again: its size or a time changes.
    """

    def __init__(self, note: Path) -> None:
        self.note = note
        try:
            self.kept: dict[str, Any] = read_json(note) if note.exists() else {}
        except (UserError, OSError):
            self.kept = {}

    def of(self, path: Path) -> dict[str, Any]:
        """As `digests`."""
        now = path.stat()
        state, key = [now.st_size, now.st_mtime_ns, now.st_ctime_ns], str(path.resolve())
        if self.kept.get(key, {}).get("state") != state:
            self.kept[key] = {"state": state, "digests": digests(path)}
            with contextlib.suppress(OSError, UserError):
                write_json(self.note, self.kept)
        return dict(self.kept[key]["digests"])


def _candidates(archive: Archive, folder: Path) -> list[Path]:
    """Files that may be the archive: those with its name first, then, if its checksum is known, those of its kind."""
    kind = archive.name.lower().removeprefix(archives.stem(archive.name).lower())
    named, others = [], []
    for here, _, names in os.walk(folder):
        for name in sorted(names):
            path = Path(here) / name
            if not path.is_file():  # such as a link to nothing
                continue
            if name == archive.name:
                named.append(path)
            elif not (archive.sha256 or archive.md5) or name.startswith(".") or name.endswith((".part", ".part.json")):
                continue
            elif name.lower().endswith(kind):  # `unpack` goes by the suffix
                others.append(path)
    return named + others


def _download_one(archive: Archive, path: Path) -> dict[str, Any]:
    if hosts.scheme(archive) == "synapse":
        return hosts.synapse_file(archive, path)
    return download_file(archive.url, path, archive)


def _download_tree(archive: Archive, folder: Path) -> None:
    """A collection of files, in a hidden folder until all of them are there."""
    get = {"hf": hosts.hugging_face, "xnat": hosts.xnat_project, "dataverse": hosts.dataverse}[hosts.scheme(archive)]
    with archives.being_made(folder, keep=True) as making:
        facts = get(archive, making)
        archives.write_marker(making, {"name": archive.name, "source": archive.url, "verified": False} | facts)
    print(f"{archive.name}: {facts['files']} files, {facts['bytes'] / 1e6:.1f} MB, in {folder}", flush=True)


@contextlib.contextmanager
def _naming_variables(dataset: Dataset, archive: Archive) -> Iterator[None]:
    """Says of a host that refuses which variables it was told."""
    try:
        yield
    except Denied as denied:
        if not (names := hosts.variables(archive, dataset.access)):
            raise
        fix = f"see that {' and '.join(names)} {'are' if len(names) > 1 else 'is'} right, and accept the terms at {dataset.page}"
        raise UserError(denied.problem, where=denied.where, fix=fix) from None


def _check_variables(dataset: Dataset, archive: Archive, incoming: Path) -> None:
    """Before the first byte, for every variable that is needed in the end."""
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
    """What a person has to do, to the letter."""
    lines = [f"{'download from' if dataset.access == 'auto' else 'ask for access at'} {dataset.page} ({dataset.licence})"]
    lines.append(f"  put into {incoming}, as delivered:")
    for archive in missing:
        known = {"bytes": archive.size, "sha256": archive.sha256, "md5": archive.md5}
        facts = [f"{name} {value}" for name, value in known.items() if value]
        lines.append(f"    {archive.name}" + (f" ({', '.join(facts)})" if facts else " (any version: no checksum is on record)"))
    if not missing:
        lines.append(f"    all archives of the download, under any names ({', '.join(archives.SUFFIXES)})")
    lines.append(f"  then give this command again. Or unpack by hand into {root}:")
    lines += [f"    {example}" for example in (dataset.layouts[0].examples if dataset.layouts else ())]
    others = [path.name for path in _listed(incoming)]
    found = f"there are only {', '.join(others)}" if others else "there are no archives"
    problem = f"the data set '{dataset.name}' ({dataset.title}) cannot be downloaded without you: {found}"
    return UserError(problem, where=incoming, fix="\n".join(lines))
