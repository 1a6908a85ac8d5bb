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
SourceFormat = Literal["nifti", "nrrd", "dicom"]
Row = dict[str, Any]

EXTENSIONS = (".nii.gz", ".nii")
CONVERTED = "nifti"  # folder below the root with what was converted, paths as those of the sources

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
    (r"(?<![a-z])pd|pd(?![a-z])", "PDw"),
)


@dataclass(frozen=True)
class Archive:
    """A file to download or to ask for. Size in bytes; size and checksums are None where none has been read.

    `url`: https://..., synapse:<id>, xnat:<server>/<project>, hf:<owner>/<name>, dataverse:<server>/<doi>,
    zenodo:<server>/<record> (all files of the record), or '' where only a person can get it.
    `also`: checksums (sha256 or md5) of other versions, which are taken where a user has them.
    `unpacked_size`: bytes of all its files; None where not on record.
    `scans`: types of the scans to take, of an XNAT project.
    """

    name: str
    url: str = ""
    size: int | None = None
    sha256: str | None = None
    md5: str | None = None
    also: tuple[str, ...] = ()
    unpacked_size: int | None = None
    scans: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pattern:
    """One family of image files within a layout.

    `image`: a regular expression for the path below the root, without the folders that lead to it and without
    the extension `.nii.gz` or `.nii`. Named groups: `subject`; optional `session`, `site`, `sequence`, `series`,
    and one or more `run...`, which tell apart volumes of one subject, session and sequence.
    `sequence`: a fixed name, or the name for each value of the group `sequence` (another value is no match),
    or a function of that group.
    `label`: path of the label file, without extension, in terms of the groups (`{top}` is what leads to the
    image); None for an unlabelled family. `partly`: an image without its label file is of the subset `unlabelled`,
    and no error.
    `required`: sequences that every subject and session of the family has.
    `channels`: sequences of a 4-D file, one row for each.
    `accept`, `reject`: substrings of the group `series` in lower case; a volume is used if it holds one of
    `accept` (or `accept` is empty) and none of `reject`.
    """

    image: str
    subset: str
    sequence: str | Mapping[str, str] | Callable[[str], str] = ""
    label: str | None = None
    partly: bool = False
    required: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    accept: tuple[str, ...] = ()
    reject: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """One way in which the files of a data set are laid out.

    `examples`: the files of one or two subjects.
    `unused`: regular expressions for whole paths, of files that come with the release and are not used.
    """

    name: str
    patterns: tuple[Pattern, ...]
    examples: tuple[str, ...]
    unused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """All that the project knows about a source of volumes; one module each.

    `expected`: volumes, and subjects where counted, of the complete release (None where a config decides, or where
    the count is not known).
    `brains45k`: subjects, sessions and volumes that the source gives to BRAINS-45K (AMAES, Table 1).
    `labels`: all values that a label file may hold beside 0, with their names; a file with another one is rejected. Empty where
    they are not known.
    `n_shards`: a constant, so that jobs can be planned before there are data; one for 256 expected volumes.
    `label_sequences`: the sequences on whose grid the label file lies.
    `ignore`: values of the label file that neither train nor score.
    `redistribution`: what is made from the volumes may be passed on, under the licence's own terms (attribution, no
    commerce, share alike).
    `aliases`: further names of one patient; the value is the name to use.
    `source_format`: of the raw files. What is not NIfTI is converted into the folder `CONVERTED` below the root, by
    `fetch` (nrrd) or by the download step (dicom), and read from there.
    `convert`: regular expression for the paths of the NRRD files that are converted.
    `lister`: how volumes are found where a table lists them and no layout can.
    `whole`: no volume is left out for its size or a negative voxel: `min_size` and `allow_negative` of a preprocess recipe do
    not hold. So BRAINS-45K takes those of its sources that were prepared for a challenge.
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
    ignore: tuple[int, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    source_format: SourceFormat = "nifti"
    convert: str = r".*"
    lister: Callable[[Dataset, Path], Scan] | None = None
    whole: bool = False


@dataclass(frozen=True)
class Scan:
    """What is under a root: index rows, paths that no row uses, images left out by `accept` and `reject`, links to nothing."""

    layout: str
    rows: list[Row]
    unexpected: list[str]
    left_out: list[str]
    dangling: list[str] = field(default_factory=list)


class NotInPlace(UserError):
    """The files of a data set are not where they should be."""


def index(dataset: Dataset, root: Path | str) -> list[Row]:
    """The volumes of a data set under `root`, read off file names; no file is opened.

    Returns:
        One row per volume, sorted by `volume`: volume (unique id, parts joined by `_`), subject, patient (the subject, or
        the name to use where one patient has several), session ('' if none), sequence, subset, site, path, label (''
        if none), channel (index into a 4-D file, else ''), source_bytes (size of the image and its label: a file that
        was replaced changes the index).
        Paths are relative to `root`, POSIX. Links to nothing are left out; `scan` names them.

    Raises:
        NotInPlace: no layout matches any file.
        UserError: two files make the same volume, a labelled image lacks its label, or a subject a sequence; lists
            all of them.
    """
    return with_sizes(scan(dataset, root).rows, root)


def with_sizes(rows: list[Row], root: Path | str) -> list[Row]:
    """The rows with `source_bytes`."""
    for row in rows:
        row["source_bytes"] = sum((Path(root) / row[name]).stat().st_size for name in ("path", "label") if row[name])
    return rows


def scan(dataset: Dataset, root: Path | str) -> Scan:
    """As `index`, with the name of the layout and the files that were not used."""
    root = Path(root)
    if dataset.lister:
        return dataset.lister(dataset, root)
    files, dangling = list_files(root)
    for layout in dataset.layouts:
        candidates = [path for path in files if not any(re.fullmatch(rule, path) for rule in layout.unused)]
        found = [(path, *matched) for path in candidates if (matched := _first_match(layout, path))]
        if found:
            return _scan_layout(dataset, layout, root, candidates, set(files), found, dangling)
    raise NotInPlace(
        f"the data set '{dataset.name}' ({dataset.title}) is not in place: {_summary(files, dangling)}",
        where=root,
        fix=how_to_place(dataset, root),
    )


def recognises(dataset: Dataset, paths: Iterable[str]) -> str:
    """Name of the first layout that some path fits, or ''."""
    paths = list(paths)
    fitting = (layout for layout in dataset.layouts if any(_first_match(layout, path) for path in paths))
    return next((layout.name for layout in fitting), "")


def how_to_place(dataset: Dataset, root: Path | str) -> str:
    """What a user does to get the files of a data set and where they go."""
    if dataset.access == "embedded":
        return "make it: run the fetch step of the workflow"
    get = {
        "auto": "download from",
        "credential": "register and accept the terms at",
        "place": "ask for access at",
    }[dataset.access]
    lines = [f"{get} {dataset.page} ({dataset.licence}), unpack into {root}"]
    if dataset.page:
        rule, incoming = f"snakemake download_{dataset.name}", f"<data_root>/incoming/{dataset.name}"
        lines.append(f"  or run {rule}, which also takes archives from {incoming}")
    for archive in dataset.archives:
        facts = {"bytes": archive.size, "sha256": archive.sha256, "md5": archive.md5}
        known = [f"{name} {value}" for name, value in facts.items() if value]
        lines.append("  archive " + " ".join(filter(None, [archive.name, archive.url, *known])))
    if dataset.source_format != "nifti":
        by = "by this step" if dataset.source_format == "nrrd" else "by the download step"
        lines.append(f"  files come as {dataset.source_format.upper()} and are converted into {CONVERTED}/ {by}")
    for layout in dataset.layouts:
        lines.append(f"  files, layout '{layout.name}':")
        lines += [f"    {example}" for example in layout.examples]
    return "\n".join(lines)


def guess_sequence(text: str) -> str:
    """BIDS sequence for a scanner's free name of a series; 'unknown' when no rule applies."""
    return next((name for rule, name in SERIES_RULES if re.search(rule, text.lower())), "unknown")


def list_files(root: Path) -> tuple[list[str], list[str]]:
    """Relative POSIX paths of all files, and of links to nothing, as datalad leaves them for files that it has not fetched.

    Links are followed once, hidden files (`._*` of macOS too) are left out.
    """
    found, dangling, seen, above = [], set(), set(), len(os.fspath(root))
    for folder, subfolders, names in os.walk(root, followlinks=True):
        here = os.stat(folder)
        if (here.st_dev, here.st_ino) in seen:
            subfolders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        below = folder[above:].lstrip("/")
        paths = {name: f"{below}/{name}" if below else name for name in names if not name.startswith(".")}
        with os.scandir(folder) as entries:  # knows links without asking for each file
            links = [entry.name for entry in entries if entry.name in paths and entry.is_symlink()]
        dangling |= {paths[name] for name in links if not os.path.exists(os.path.join(folder, name))}
        found += paths.values()
    return sorted(set(found) - dangling), sorted(dangling)


def to_fetch(dangling: list[str]) -> str:
    """A line that names links to nothing."""
    return f"{len(dangling)} links to nothing, left out: fetch them first (datalad get): {some(dangling)}"


def _first_match(layout: Layout, path: str) -> tuple[Pattern, re.Match[str]] | None:
    for pattern in layout.patterns:
        match = re.fullmatch(rf"(?P<top>(?:.+/)?){pattern.image}\.nii(?:\.gz)?", path)
        if match and (not isinstance(pattern.sequence, Mapping) or match["sequence"] in pattern.sequence):
            return pattern, match
    return None


def _scan_layout(
    dataset: Dataset,
    layout: Layout,
    root: Path,
    candidates: list[str],
    present: set[str],
    found: list,
    dangling: list[str],
) -> Scan:
    used, rows, left_out, problems = set(), [], [], []
    for path, pattern, match in found:
        used.add(path)
        if not _selected(pattern, match):
            left_out.append(path)
            continue
        label, wanted = _label(pattern, match, present)
        used.add(label)
        for row in _rows(dataset, pattern, match, path):
            on_grid = row["sequence"] in dataset.label_sequences
            row["label"] = label if on_grid else ""
            if wanted and not label and pattern.partly:
                row["subset"] = "unlabelled"
            elif wanted and not label and on_grid:
                problems.append(f"label missing: {wanted} (of {path})")
            rows.append(row)
    unexpected = [path for path in candidates if path not in used]
    problems = [*dict.fromkeys(problems), *_incomplete(found), *duplicates(rows)]
    if problems and dangling:
        problems.append(to_fetch(dangling))
    refuse(dataset.name, root, problems, unexpected)
    rows.sort(key=lambda row: row["volume"])
    return Scan(layout.name, rows, unexpected, left_out, dangling)


UNPACK_AGAIN = "unpack the archive again, rename what has another name, and remove copies"


def refuse(name: str, where: Path, problems: list[str], unexpected: list[str], fix: str = UNPACK_AGAIN) -> None:
    """Raises UserError with all `problems`, if there are any, and volumes that may be what is missing."""
    if not problems:
        return
    volumes = [path for path in unexpected if path.endswith(EXTENSIONS)]
    if volumes:
        problems = [*problems, f"volumes that nothing uses: {some(volumes)}"]
    count = len(problems) - bool(volumes)
    raise UserError(
        "\n  ".join([f"{count} problem{'s' * (count > 1)} in the files of '{name}':", *problems]),
        where=where,
        fix=fix,
    )


def some(paths: list[str], most: int = 5) -> str:
    """The first few of a list, and how many more there are."""
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join(paths[:most]) + more


def _incomplete(found: list) -> list[str]:
    """A line for every subject and session that lacks a sequence which its family requires."""
    have: dict[tuple, set[str]] = defaultdict(set)
    example = {}
    for path, pattern, match in found:
        if pattern.required:
            groups = match.groupdict(default="")
            key = (pattern.required, groups["top"], groups["subject"], groups.get("session", ""))
            have[key].add(_sequence(pattern, groups))
            example.setdefault(key, path)
    lines = []
    for (required, top, subject, session), sequences in sorted(have.items()):
        for name in (name for name in required if name not in sequences):
            who = f"{subject}, session {session}" if session else subject
            lines.append(f"{name} missing of {who} (beside {example[required, top, subject, session]})")
    return lines


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
    candidates = sorted((stem + extension for extension in EXTENSIONS), key=lambda path: path[-3:] != match.string[-3:])
    return next((path for path in candidates if path in present), ""), candidates[0]


def _rows(dataset: Dataset, pattern: Pattern, match: re.Match[str], path: str) -> Iterable[Row]:
    groups = match.groupdict(default="")
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
            "path": path,
            "label": "",
            "channel": channel if pattern.channels else "",
        }


def volume_id(*parts: str) -> str:
    """Unique name of a volume: its parts in letters, digits, `.` and `-`, joined by `_`."""
    return "_".join(_clean(part) for part in parts if part)


def _sequence(pattern: Pattern, groups: dict[str, str]) -> str:
    if isinstance(pattern.sequence, str):
        return pattern.sequence
    if isinstance(pattern.sequence, Mapping):
        return pattern.sequence[groups["sequence"]]
    return pattern.sequence(groups["sequence"])


def _clean(part: str) -> str:
    """A part of a volume id: letters, digits, `.` and `-` only; `_` is left to join the parts."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", part).strip("-")


def duplicates(rows: list[Row]) -> list[str]:
    """A line for every volume that several rows make."""
    paths = defaultdict(list)
    for row in rows:
        paths[row["volume"]].append(row["path"])
    twice = {volume: same for volume, same in sorted(paths.items()) if len(same) > 1}
    return [f"volume '{volume}' more than once: {', '.join(same)}" for volume, same in twice.items()]


def _summary(files: list[str], dangling: list[str]) -> str:
    if dangling:
        return to_fetch(dangling)
    if not files:
        return "there are no files"
    return f"none of {len(files)} files fits a layout, such as {', '.join(files[:3])}"
