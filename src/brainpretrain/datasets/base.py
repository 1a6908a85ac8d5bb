"""What a data set is: access, licence, layouts of files, labels; and `index`, which reads file names."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from brainpretrain.errors import UserError

Access = Literal["auto", "credential", "place", "embedded"]
Row = dict[str, Any]

EXTENSIONS = (".nii.gz", ".nii")

# In this order: the first rule that is found in a scanner's name of a series decides.
SERIES_RULES = (
    (r"minip", "minIP"),
    (r"t1.*flair", "T1w"),
    (r"flair", "FLAIR"),
    (r"swi", "SWI"),
    (r"adc", "ADC"),
    (r"dwi|dti|diff", "DWI"),
    (r"angio|tof|mra(?!g)", "angio"),
    (r"(?<!ana)t2.?star|t2\*|gre(?![a-z])", "T2starw"),
    (r"(?<!ana)t1|mp-?rage|mpr|spgr", "T1w"),
    (r"(?<!ana)t2|hippocamp", "T2w"),
    (r"pd", "PDw"),
)


@dataclass(frozen=True)
class Archive:
    """A file to download or to ask for. Size in bytes; a checksum is None where none has been read."""

    name: str
    url: str = ""
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None


@dataclass(frozen=True)
class Pattern:
    """One family of image files within a layout.

    `image`: a regular expression for the path below the root, without the folders that lead to it and without
    the extension `.nii.gz` or `.nii`. Named groups: `subject`; optional `session`, `site`, `sequence`, `series`,
    and one or more `run...`, which tell apart volumes of one subject, session and sequence.
    `sequence`: a fixed name, or the name for each value of the group `sequence` (another value is no match),
    or a function of that group.
    `label`: path of the label file, without extension, in terms of the groups (`{top}` is what leads to the
    image); None for an unlabelled family.
    `channels`: sequences of a 4-D file, one row for each.
    `accept`, `reject`: substrings of the group `series` in lower case; a volume is used if it holds one of
    `accept` (or `accept` is empty) and none of `reject`.
    """

    image: str
    subset: str
    sequence: str | Mapping[str, str] | Callable[[str], str] = ""
    label: str | None = None
    channels: tuple[str, ...] = ()
    accept: tuple[str, ...] = ()
    reject: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """One way in which the files of a data set are laid out. `examples`: the files of one or two subjects."""

    name: str
    patterns: tuple[Pattern, ...]
    examples: tuple[str, ...]


@dataclass(frozen=True)
class Dataset:
    """All that the project knows about a source of volumes; one module each.

    `expected`: volumes, and subjects where counted, of the complete release (None where a config decides).
    `brains45k`: subjects, sessions and volumes that the source gives to BRAINS-45K (AMAES, Table 1).
    `n_shards`: a constant, so that jobs can be planned before there are data; one for 256 expected volumes.
    `label_sequences`: the sequences on whose grid the label file lies.
    `aliases`: further names of one patient; the value is the name to use.
    """

    name: str
    title: str
    access: Access
    page: str
    licence: str
    licence_url: str
    citation: str
    redistribution: bool
    archives: tuple[Archive, ...]
    layouts: tuple[Layout, ...]
    labels: Mapping[int, str]
    label_sequences: tuple[str, ...]
    expected: Mapping[str, int] | None
    n_shards: int
    brains45k: Mapping[str, int] | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Scan:
    """What is under a root: index rows, paths that no row uses, images left out by `accept` and `reject`."""

    layout: str
    rows: list[Row]
    unexpected: list[str]
    left_out: list[str]


class NotInPlace(UserError):
    """The files of a data set are not where they should be."""


def index(dataset: Dataset, root: Path | str) -> list[Row]:
    """The volumes of a data set under `root`, read off file names; no file is opened.

    Returns:
        One row per volume, sorted by `volume`: volume (unique id, parts joined by `_`), subject, session (''
        if none), sequence, subset, site, path, label ('' if none), channel (index into a 4-D file, else ''),
        source_bytes (size of the image and its label: a file that was replaced changes the index).
        Paths are relative to `root`, POSIX.

    Raises:
        NotInPlace: no layout matches any file.
        UserError: two files make the same volume, or a labelled image lacks its label; lists all of them.
    """
    rows = scan(dataset, root).rows
    for row in rows:
        row["source_bytes"] = sum((Path(root) / row[name]).stat().st_size for name in ("path", "label") if row[name])
    return rows


def scan(dataset: Dataset, root: Path | str) -> Scan:
    """As `index`, with the name of the layout and the files that were not used."""
    root = Path(root)
    files = _files(root)
    for layout in dataset.layouts:
        found = [(path, *matched) for path in files if (matched := _first_match(layout, path))]
        if found:
            return _scan_layout(dataset, layout, root, files, found)
    raise NotInPlace(
        f"the data set '{dataset.name}' ({dataset.title}) is not in place: {_summary(files)}",
        where=root,
        fix=_how_to_place(dataset, root),
    )


def _how_to_place(dataset: Dataset, root: Path | str) -> str:
    """What a user does to get the files of a data set and where they go."""
    if dataset.access == "embedded":
        return "make it: run the fetch step of the workflow"
    get = {
        "auto": "download from",
        "credential": "register and accept the terms at",
        "place": "ask for access at",
    }[dataset.access]
    lines = [f"{get} {dataset.page} ({dataset.licence}), unpack into {root}"]
    for archive in dataset.archives:
        facts = {"bytes": archive.size, "sha256": archive.sha256, "md5": archive.md5}
        known = [f"{name} {value}" for name, value in facts.items() if value]
        lines.append("  archive " + " ".join(filter(None, [archive.name, archive.url, *known])))
    for layout in dataset.layouts:
        lines.append(f"  files, layout '{layout.name}':")
        lines += [f"    {example}" for example in layout.examples]
    return "\n".join(lines)


def guess_sequence(text: str) -> str:
    """BIDS sequence for a scanner's free name of a series; 'unknown' when no rule applies."""
    return next((name for rule, name in SERIES_RULES if re.search(rule, text.lower())), "unknown")


def _files(root: Path) -> list[str]:
    """Relative POSIX paths of all files, links followed once, hidden files (`._*` of macOS too) left out."""
    found, seen = [], set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        here = os.path.realpath(folder)
        if here in seen:
            subfolders.clear()
            continue
        seen.add(here)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        base = Path(folder).relative_to(root)
        found += [(base / name).as_posix() for name in names if not name.startswith(".")]
    return sorted(found)


def _first_match(layout: Layout, path: str) -> tuple[Pattern, re.Match[str]] | None:
    for pattern in layout.patterns:
        match = re.fullmatch(rf"(?P<top>(?:.+/)?){pattern.image}\.nii(?:\.gz)?", path)
        if match and (not isinstance(pattern.sequence, Mapping) or match["sequence"] in pattern.sequence):
            return pattern, match
    return None


def _scan_layout(dataset: Dataset, layout: Layout, root: Path, files: list[str], found: list) -> Scan:
    present, used = set(files), set()
    rows, left_out, problems = [], [], []
    for path, pattern, match in found:
        used.add(path)
        if not _selected(pattern, match):
            left_out.append(path)
            continue
        label, wanted = _label(pattern, match, present)
        used.add(label)
        for row in _rows(pattern, match, path):
            row["label"] = label if row["sequence"] in dataset.label_sequences else ""
            if wanted and not label and row["sequence"] in dataset.label_sequences:
                problems.append(f"label missing: {wanted} (of {path})")
            rows.append(row)
    problems = list(dict.fromkeys(problems)) + _duplicates(rows)
    if problems:
        raise UserError(
            "\n  ".join([f"{len(problems)} problems in the files of '{dataset.name}':", *problems]),
            where=root,
            fix="unpack the archive again, and remove copies",
        )
    rows.sort(key=lambda row: row["volume"])
    return Scan(layout.name, rows, [path for path in files if path not in used], left_out)


def _selected(pattern: Pattern, match: re.Match[str]) -> bool:
    if not (pattern.accept or pattern.reject):
        return True
    series = match["series"].lower()
    accepted = not pattern.accept or any(word in series for word in pattern.accept)
    return accepted and not any(word in series for word in pattern.reject)


def _label(pattern: Pattern, match: re.Match[str], present: set[str]) -> tuple[str, str]:
    """Path of the label ('' if there is none), and where it should be ('' for an unlabelled family)."""
    if pattern.label is None:
        return "", ""
    stem = pattern.label.format(**match.groupdict(default=""))
    candidates = [stem + extension for extension in EXTENSIONS]
    return next((path for path in candidates if path in present), ""), candidates[0]


def _rows(pattern: Pattern, match: re.Match[str], path: str) -> Iterable[Row]:
    groups = match.groupdict(default="")
    subject, session = groups["subject"].replace("/", "-"), groups.get("session", "").replace("/", "-")
    run = "-".join(value for name, value in groups.items() if name.startswith("run") and value)
    sequences = pattern.channels or (_sequence(pattern, groups),)
    for channel, sequence in enumerate(sequences):
        yield {
            "volume": "_".join(_clean(part) for part in (subject, session, run, sequence) if part),
            "subject": subject,
            "session": session,
            "sequence": sequence,
            "subset": pattern.subset,
            "site": groups.get("site", ""),
            "path": path,
            "label": "",
            "channel": channel if pattern.channels else "",
        }


def _sequence(pattern: Pattern, groups: dict[str, str]) -> str:
    if isinstance(pattern.sequence, str):
        return pattern.sequence
    if isinstance(pattern.sequence, Mapping):
        return pattern.sequence[groups["sequence"]]
    return pattern.sequence(groups["sequence"])


def _clean(part: str) -> str:
    """A part of a volume id: letters, digits, `.` and `-` only; `_` is left to join the parts."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-")


def _duplicates(rows: list[Row]) -> list[str]:
    paths = defaultdict(list)
    for row in rows:
        paths[row["volume"]].append(row["path"])
    twice = {volume: same for volume, same in sorted(paths.items()) if len(same) > 1}
    return [f"volume '{volume}' more than once: {', '.join(same)}" for volume, same in twice.items()]


def _summary(files: list[str]) -> str:
    if not files:
        return "there are no files"
    return f"none of {len(files)} files fits a layout, such as {', '.join(files[:3])}"
