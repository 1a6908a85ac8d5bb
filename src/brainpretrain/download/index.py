"""Finds the volumes of a data set by their file names; no volume is opened."""

from __future__ import annotations

import os
import re
import shlex
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from brainpretrain.datasets.base import (
    CORRECT_NAMES,
    EXTENSIONS,
    UNPACK_AGAIN,
    Dataset,
    Layout,
    NotInPlace,
    Pattern,
    Review,
    Row,
    Scan,
    duplicates,
    how_to_place,
    nfc,
    refuse,
    same_names,
    some,
    volume_id,
)
from brainpretrain.errors import UserError
from brainpretrain.files import is_utf8, shown
from brainpretrain.words import count

READ = (*EXTENSIONS, ".csv", ".tsv", ".json", ".nrrd", ".nhdr", ".mha", ".mhd", ".gipl", ".mgz", ".mgh")


class Match(NamedTuple):
    """An image file that fits a pattern of a layout."""

    path: str
    pattern: Pattern
    groups: re.Match[str]


def index(dataset: Dataset, root: Path | str) -> list[Row]:
    """Lists the volumes of a data set under `root`.

    Returns:
        One row per volume, sorted by `volume`, with paths relative to `root` (POSIX):

        - volume: unique id, its parts joined by `_`
        - subject, and patient: the subject, or the common name of a patient who appears as several subjects
        - session ('' if there is none), sequence, subset, site
        - path, and label ('' if there is none)
        - channel: index into a 4-D file, else ''
        - source_bytes: size of image and label, so that replacing a file changes the index

        Broken links are left out; `scan` names them.

    Raises:
        NotInPlace: no file fits a layout.
        UserError: two files give the same volume, a labelled image lacks its label, or a subject lacks a required sequence; the
            message lists all of these.
    """
    return with_sizes(scan(dataset, root).rows, root)


def with_sizes(rows: list[Row], root: Path | str) -> list[Row]:
    """Adds `source_bytes` to index rows, in place, and returns them."""
    for row in rows:
        row["source_bytes"] = sum((Path(root) / row[name]).stat().st_size for name in ("path", "label") if row[name])
    return rows


def scan(dataset: Dataset, root: Path | str) -> Scan:
    """As `index`, without the sizes, together with the name of the layout and the files that were not used."""
    root = Path(root)
    if dataset.lister:
        return dataset.lister(dataset, root)
    files, dangling = list_files(root)
    reasons: dict[str, list[str]] = {}
    for layout in dataset.layouts:
        candidates = [path for path in files if not any(re.fullmatch(rule, path) for rule in layout.unused)]
        review = layout.review(root, candidates) if layout.review else Review({}, [])
        matches = [match for path in candidates if path not in review.excluded and (match := _first_match(layout, path))]
        if matches or review.problems:
            return _scan_layout(dataset, layout, root, candidates, set(files), matches, dangling, review)
        reasons |= Scan("", [], [], [], excluded=review.excluded).by_reason()
    raise NotInPlace(
        f"the data set '{dataset.name}' ({dataset.title}) is not in place: {_summary(files, dangling)}"
        + "".join(f"\n  {line}" for line in excluded_lines(reasons)),
        where=root,
        fix=how_to_place(dataset, root),
    )


def recognises(dataset: Dataset, paths: Iterable[str]) -> str:
    """Name of the first layout that at least one path fits, or ''."""
    paths = list(paths)
    fitting = (layout for layout in dataset.layouts if any(_first_match(layout, path) for path in paths))
    return next((layout.name for layout in fitting), "")


def channels_of(dataset: Dataset, paths: Iterable[str]) -> tuple[str, tuple[str, ...]] | None:
    """The first path that fits the layout `decathlon` of a data set, and the sequences of its channels; None without one."""
    for layout in dataset.layouts:
        if layout.name == "decathlon":
            for path in paths:
                if match := _first_match(layout, path):
                    return path, match.pattern.channels or (_sequence(match.pattern, match.groups.groupdict(default="")),)
    return None


def list_files(root: Path) -> tuple[list[str], list[str]]:
    """Relative POSIX paths of all files, and of broken links, which datalad leaves for files that it has not fetched.

    Each linked folder is visited once. Hidden files, such as the `._*` of macOS, are left out.
    """
    files, dangling, visited, prefix = [], set(), set(), len(os.fspath(root))
    for folder, subfolders, names in os.walk(root, followlinks=True):
        here = os.stat(folder)
        if (here.st_dev, here.st_ino) in visited:
            subfolders.clear()
            continue
        visited.add((here.st_dev, here.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        below = folder[prefix:].lstrip("/")
        paths = {name: f"{below}/{name}" if below else name for name in names if not name.startswith(".")}
        with os.scandir(folder) as entries:  # recognises links without a system call per file
            links = [entry.name for entry in entries if entry.name in paths and entry.is_symlink()]
        dangling |= {paths[name] for name in links if not os.path.exists(os.path.join(folder, name))}
        files += paths.values()
    return _utf8(sorted(set(files) - dangling), root), _utf8(sorted(dangling), root)


def _utf8(paths: list[str], root: Path) -> list[str]:
    """Paths that can be written into tables and pages. A file that nothing reads may have any name; it is listed with escapes.

    Raises:
        UserError: the name of a volume or a table, or of the folder, is not UTF-8.
    """
    odd = [path for path in paths if not is_utf8(path) and path.lower().endswith(READ)]
    if odd or not is_utf8(root):
        which = f"the names of {len(odd)} files are" if odd else "the name of the folder is"
        names = f": {some([shown(path) for path in odd])}" if odd else ""
        fix = f"rename them; for names in ISO 8859-1: convmv -r -f latin1 -t utf8 --notest {shlex.quote(shown(root))}"
        raise UserError(f"{which} not UTF-8{names}", where=shown(root), fix=fix)
    return [path if is_utf8(path) else shown(path) for path in paths]


def excluded_lines(reasons: Mapping[str, list[str]]) -> list[str]:
    """A line for each reason why volumes are left out, with their number and the first of them."""
    return [f"left out, {reason}: {count(len(paths), 'volume')} ({some(paths, 3)})" for reason, paths in reasons.items()]


def to_fetch(dangling: list[str]) -> str:
    """A line that names broken links and how to fetch their files."""
    return f"{len(dangling)} links to nothing, left out: fetch them first (datalad get): {some(dangling)}"


def _first_match(layout: Layout, path: str) -> Match | None:
    name = nfc(path)
    if any(pattern.masks and _groups(pattern.masks, name) for pattern in layout.patterns):
        return None
    for pattern in layout.patterns:
        groups = _groups(pattern.image, name)
        if groups and (callable(pattern.sequence) or isinstance(pattern.sequence, str) or groups["sequence"] in pattern.sequence):
            return Match(path, pattern, groups)
    return None


def _groups(pattern: str, name: str) -> re.Match[str] | None:
    return re.fullmatch(rf"(?P<top>(?:.+/)?){pattern}\.nii(?:\.gz)?", name)


def _scan_layout(
    dataset: Dataset,
    layout: Layout,
    root: Path,
    candidates: list[str],
    present: set[str],
    matches: list[Match],
    dangling: list[str],
    review: Review,
) -> Scan:
    used, rows, left_out, problems = set(), [], [], [*review.problems, *_spellings(candidates)]
    spelled = {nfc(path): path for path in present}
    masks = {pattern.masks: _by_groups(pattern.masks, candidates) for pattern in layout.patterns if pattern.masks}
    for match in matches:
        used.add(match.path)
        if not _selected(match):
            left_out.append(match.path)
            continue
        if match.pattern.masks:
            label, expected_label, several = _mask(match, masks[match.pattern.masks])
            problems += several
        else:
            label, expected_label = _label(match, spelled)
        used.add(label)
        for row in _rows(dataset, match):
            on_grid = row["sequence"] in dataset.label_sequences
            row["label"] = label if on_grid else ""
            if expected_label and not label and match.pattern.partly:
                row["subset"] = "unlabelled"
            elif expected_label and not label and on_grid:
                problems.append(f"label missing: {expected_label} (of {match.path})")
            rows.append(row)
    excluded = {path: reason for path, reason in review.excluded.items() if path not in used}
    unexpected = [path for path in candidates if path not in used and path not in excluded]
    problems = [*dict.fromkeys(problems), *_incomplete(matches), *duplicates(rows)]
    if not dataset.page:
        problems += same_names(rows)
    if problems and dangling:
        problems.append(to_fetch(dangling))
    refuse(dataset.name, root, problems, unexpected, fix=UNPACK_AGAIN if dataset.page else CORRECT_NAMES)
    rows.sort(key=lambda row: row["volume"])
    return Scan(layout.name, rows, unexpected, left_out, dangling, excluded)


def _incomplete(matches: list[Match]) -> list[str]:
    """A line for every subject and session that lacks a sequence required by its pattern."""
    present: dict[tuple, set[str]] = defaultdict(set)
    example = {}
    for path, pattern, match in matches:
        if pattern.required:
            groups = match.groupdict(default="")
            key = (pattern.required, groups["top"], groups["subject"], groups.get("session", ""))
            present[key].add(_sequence(pattern, groups))
            example.setdefault(key, path)
    lines = []
    for (required, top, subject, session), sequences in sorted(present.items()):
        for name in (name for name in required if name not in sequences):
            where = f"{subject}, session {session}" if session else subject
            lines.append(f"{name} missing of {where} (next to {example[required, top, subject, session]})")
    return lines


def _selected(match: Match) -> bool:
    pattern = match.pattern
    if not (pattern.accept or pattern.reject):
        return True
    series = match.groups["series"].lower()
    accepted = not pattern.accept or any(word in series for word in pattern.accept)
    return accepted and not any(word in series for word in pattern.reject)


def _spellings(paths: list[str]) -> list[str]:
    """A line for every two files whose names look the same, since they differ in the Unicode form alone."""
    same: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        same[nfc(path)].append(path)
    return [f"two spellings of one name: {' and '.join(map(ascii, found))}" for found in same.values() if len(found) > 1]


def _label(match: Match, spelled: Mapping[str, str]) -> tuple[str, str]:
    """Path of the label ('' if it is missing), and the expected path ('' for an unlabelled pattern).

    Args:
        spelled: the path of each file by its NFC form.
    """
    if match.pattern.label is None:
        return "", ""
    stem = nfc(match.pattern.label.format(**match.groups.groupdict(default="")))
    candidates = sorted((stem + extension for extension in EXTENSIONS), key=lambda path: path[-3:] != match.path[-3:])
    return next((spelled[path] for path in candidates if path in spelled), ""), candidates[0]


def _by_groups(masks: str, paths: list[str]) -> dict[tuple[str, ...], list[tuple[str, str]]]:
    """The label files that fit a pattern, as leading folders and path, by the values of its groups."""
    found: dict[tuple[str, ...], list[tuple[str, str]]] = defaultdict(list)
    names = sorted(re.compile(masks).groupindex)
    for path in paths:
        if groups := _groups(masks, nfc(path)):
            found[tuple(groups[name] or "" for name in names)].append((groups["top"], path))
    return found


def _mask(match: Match, masks: Mapping[tuple[str, ...], list[tuple[str, str]]]) -> tuple[str, str, list[str]]:
    """As `_label`, from the label files by their groups; and a line for the problems if there are several for the image."""
    groups, pattern = match.groups.groupdict(default=""), match.pattern.masks or ""
    found = masks.get(tuple(groups[name] for name in sorted(re.compile(pattern).groupindex)), [])
    near = [path for top, path in found if top == groups["top"]]
    paths = near or [path for _, path in found]
    problem = [f"several label files of {match.path}: {', '.join(paths)}"] if len(paths) > 1 else []
    return paths[0] if paths else "", f"a file like {pattern}", problem


def _rows(dataset: Dataset, match: Match) -> Iterable[Row]:
    pattern, groups = match.pattern, match.groups.groupdict(default="")
    subject, session = groups["subject"].replace("/", "-"), groups.get("session", "").replace("/", "-")
    run = "-".join(value for name, value in groups.items() if name.startswith("run") and value)
    sequences = pattern.channels or (_sequence(pattern, groups),)
    for channel, sequence in enumerate(sequences):
        yield {
            "volume": volume_id(subject, session, run, sequence),
            "subject": subject,
            "patient": dataset.aliases.get(subject, subject),
            "session": session,
            "sequence": sequence,
            "subset": pattern.subset,
            "site": groups.get("site", ""),
            "path": match.path,
            "label": "",
            "channel": channel if pattern.channels else "",
        }


def _sequence(pattern: Pattern, groups: dict[str, str]) -> str:
    if isinstance(pattern.sequence, str):
        return pattern.sequence
    if callable(pattern.sequence):
        return pattern.sequence(groups["sequence"])
    return pattern.sequence[groups["sequence"]]


def _summary(files: list[str], dangling: list[str]) -> str:
    if dangling:
        return to_fetch(dangling)
    if not files:
        return "there are no files"
    return f"none of {len(files)} files fits a layout, such as {', '.join(files[:3])}"
