"""A BIDS folder as a data set, described by options in `datasets:` of the config."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import defaultdict
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from brainpretrain.datasets.base import EXTENSIONS, Dataset, Layout, Pattern, Review, some
from brainpretrain.datasets.own.options import Options, check_template, dataset, parse

SEQUENCES = {
    "T1w": "T1w",
    "T2w": "T2w",
    "FLAIR": "FLAIR",
    "PDw": "PDw",
    "T2starw": "T2starw",
    "swi": "SWI",
    "minIP": "minIP",
    "angio": "angio",
}
GROUPS = ("top", "folder", "stem", "subject", "session", "sequence")
VALUE = r"[^/_\s()\[\]]+"  # of an entity: letters and digits of any script; `-`, `+` and `.` occur in public data
ENTITY = rf"_[A-Za-z]+-{VALUE}"
PLACE = re.compile(rf"(?P<top>(?:.+/)?)sub-(?P<sub>{VALUE})/(?:ses-(?P<ses>{VALUE})/)?[a-z]+/(?P<name>[^/]+)")
NOT_RAW = re.compile(  # names of folders, also followed by a version, such as fmriprep-23.1
    r"(?:derivatives?|derived|sourcedata|code|stimuli|phenotype|[fsd]mriprep|nibabies|mriqc|qsiprep|qsirecon|freesurfer|fastsurfer"
    r"|ants|spm|cat12|micapipe|lesions?|masks?|labels?|segmentations?)(?:[-_. ]?v?\d.*|[-_].*)?",
    re.IGNORECASE,
)
UNUSED = r"(?i:(?:.+/)?(?:derivatives|sourcedata|code)/.+(?<!\.nii)(?<!\.nii\.gz))"
RAW = ("rawdata", "raw")  # folders for the raw images, in the order of precedence
# entities of BIDS derivatives, which no raw image has
DERIVED = ("desc", "space", "res", "den", "label", "seg", "atlas", "from", "to", "hemi")
PARTS = {"phase": "phase image", "real": "real part of a complex image", "imag": "imaginary part of a complex image"}
Rules = list[tuple[str, re.Pattern[str] | None, bool]]


class Bids(Options):
    """`sequences`: names of sequences by suffix. `label`: path of the label without extension, in terms of GROUPS."""

    sequences: dict[str, str] = SEQUENCES
    label: str | None = None
    label_sequences: tuple[str, ...] = ()
    partly_labelled: bool = False
    derivatives: bool = Field(False, description="the folder holds derivatives: images with desc-, space- and the like are taken")

    @field_validator("label")
    @classmethod
    def _known_groups(cls, label: str | None) -> str | None:
        return label and check_template(label, GROUPS)


def describe(**options: Any) -> Dataset:
    """The data set of a BIDS folder. Raw images are in its folders `sub-*`; `review` says what is left out.

    A T1w with the entity `ce` (contrast agent) is the sequence T1ce. Entities other than subject and session distinguish volumes
    of the same sequence.

    Raises:
        UserError: the options do not fit.
    """
    settings = parse(Bids, options)
    names = tuple(dict.fromkeys([*settings.sequences.values(), "T1ce"]))
    example = ("sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz",)
    return dataset(
        "bids",
        settings,
        title="BIDS folder",
        layouts=(Layout("BIDS", _patterns(settings), example, (UNUSED,), partial(review, settings)),),
        label_sequences=settings.label_sequences or (names if settings.label else ()),
    )


def _patterns(settings: Bids) -> tuple[Pattern, ...]:
    """The patterns of volumes with a contrast agent, and of all others."""
    common: dict[str, Any] = {
        "subset": "train" if settings.label else "unlabelled",
        "label": settings.label,
        "partly": settings.partly_labelled,
    }
    enhanced = rf"(?:{ENTITY})*_ce-{VALUE}(?:{ENTITY})*"
    return (
        Pattern(image=_image(enhanced), sequence={"T1w": "T1ce"}, **common),
        Pattern(image=_image(rf"(?:{ENTITY})*"), sequence=settings.sequences, **common),
    )


def _image(entities: str) -> str:
    """The session is that of the name, else that of the folder; where they differ, `review` refuses the file."""
    return (
        rf"(?=(?:.*[/_]ses-(?P<session>{VALUE})[/_])?)"
        rf"(?P<folder>(?P<subject>sub-{VALUE})/(?:ses-{VALUE}/)?[a-z]+)/"
        rf"(?P<stem>sub-{VALUE}(?:_ses-{VALUE})?(?P<run_entities>{entities}))_(?P<sequence>[A-Za-z0-9]+)"
    )


# ------------------------------------------------------------------------------------------------ what is no raw image


def review(settings: Bids, root: Path, paths: list[str]) -> Review:
    """Which images of a folder are no raw images, by their names, and whose names contradict their folders.

    Left out are: images that `.bidsignore` names; images below folders of derivatives (by their name, or by `DatasetType` of
    their dataset_description.json), or below another folder where the root or `rawdata` has folders `sub-*`; images with entities
    of derivatives; the phase, real and imaginary parts; and suffixes that `sequences` does not name.
    """
    images = [path for path in paths if path.endswith(EXTENSIONS)]
    places = {path: place for path in images if (place := PLACE.fullmatch(unicodedata.normalize("NFC", path)))}
    tops = {place["top"] for place in places.values()}
    derived = {top: _derived(root, top) for top in sorted(tops)}
    ignored = {top: _bidsignore(root / top) for top in {"", *tops}}
    raw = next((top for top in ("", *(f"{name}/" for name in RAW)) if top in tops), None)
    excluded: dict[str, str] = {}
    problems: list[str] = []
    for path in images:
        place = places.get(path)
        top = place["top"] if place else ""
        pattern = _ignored(ignored[""], path) or _ignored(ignored[top], path.removeprefix(top))
        if pattern:
            excluded[path] = f".bidsignore has '{pattern}'"
        elif not place:
            folder = path.rpartition("/")[0]
            if folder not in derived:
                derived[folder] = _derived(root, folder)
            excluded[path] = derived[folder] or "not in a folder sub-*/<data type> or sub-*/ses-*/<data type>"
        elif derived[top]:
            excluded[path] = derived[top]
        elif raw is not None and top != raw:
            excluded[path] = f"below '{top.rstrip('/')}', while folders sub-* are in '{raw or './'}'"
        elif reason := _unfit(settings, place):
            excluded[path] = reason
        else:
            problems += _contradictions(path, place)
    return Review(excluded, problems + _shared_names([place for path, place in places.items() if path not in excluded]))


def _derived(root: Path, top: str) -> str:
    """The reason why a folder holds no raw images, or ''."""
    folders = top.rstrip("/").split("/")
    if name := next((folder for folder in folders if NOT_RAW.fullmatch(folder)), ""):
        return f"below the folder '{name}', which holds no raw images"
    for depth in range(1, len(folders) + 1) if top else ():
        folder = "/".join(folders[:depth])
        try:
            stated = json.loads((root / folder / "dataset_description.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(stated, dict) and str(stated.get("DatasetType", "")).lower() == "derivative":
            return f"'{folder}/dataset_description.json' says that it is a derivative"
    return ""


def _unfit(settings: Bids, place: re.Match[str]) -> str:
    """The reason why a name is not that of a raw image of one of the sequences, or ''."""
    *pairs, suffix = re.sub(r"\.nii(\.gz)?$", "", place["name"]).split("_")
    entities = {key.lower(): value for key, _, value in (pair.partition("-") for pair in pairs)}
    if part := PARTS.get(entities.get("part", "mag").lower(), ""):
        return f"{part} (part-{entities['part']})"
    if not settings.derivatives and (keys := [key for key in DERIVED if key in entities]):
        return f"a derivative, by {', '.join(f'{key}-' for key in keys)} in the name"
    if suffix not in settings.sequences:
        return f"suffix '{suffix}' is not one of 'sequences'"
    if not pairs or not pairs[0].startswith("sub-"):
        return "the name does not begin with sub-<label>_"
    return (
        ""
        if all(re.fullmatch(ENTITY, f"_{pair}") for pair in pairs)
        else "the name is not of the form sub-<label>_<key>-<value>_<suffix>"
    )


def _contradictions(path: str, place: re.Match[str]) -> list[str]:
    """A problem for each of subject and session that the name gives otherwise than the folder, or twice."""
    problems = []
    for key in ("sub", "ses"):
        stated = re.findall(rf"(?:^|_){key}-({VALUE})(?=_)", place["name"])
        known = dict.fromkeys([place[key]] if place[key] else []) | dict.fromkeys(stated)
        if len(known) > 1:
            values = " and ".join(f"{key}-{value}" for value in stated)
            folder = f", but its folder is {key}-{place[key]}" if place[key] else ""
            problems.append(f"{path}: the name says {values}{folder}: rename the file, or move it to the folder of its name")
    return problems


def _shared_names(places: list[re.Match[str]]) -> list[str]:
    """A problem for each two folders with subjects of the same names, who may be different people."""
    subjects: dict[str, set[str]] = defaultdict(set)
    for place in places:
        subjects[place["top"]].add(place["sub"])
    return [
        f"'{first}' and '{second}' both hold {some([f'sub-{name}' for name in sorted(both)], 3)}: is this one subject? If so, "
        "move the files into one folder; if not, describe each folder as a data set of its own"
        for first, second in combinations(sorted(subjects), 2)
        if (both := subjects[first] & subjects[second])
    ]


def _bidsignore(folder: Path) -> Rules:
    """The lines of `.bidsignore`, in the syntax of .gitignore: text, regular expression, and whether it takes files back in."""
    try:
        lines = (folder / ".bidsignore").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    texts = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return [(text, _glob(text.removeprefix("!")), text.startswith("!")) for text in texts]


def _glob(text: str) -> re.Pattern[str] | None:
    """The regular expression of a line of .gitignore, for a whole path; None if the line is not valid."""
    anchored = "/" in text.rstrip("/")
    parts = re.split(r"(\*\*/|\*\*|\*|\?|\[[^\]]+\])", text.strip("/"))
    special = {"**/": "(?:.+/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    body = "".join(special.get(part) or (part.replace("[!", "[^") if part[:1] == "[" else re.escape(part)) for part in parts)
    try:
        return re.compile(("" if anchored else "(?:.+/)?") + body + ("/.+" if text.endswith("/") else "(?:/.+)?"))
    except re.error:
        return None


def _ignored(rules: Rules, path: str) -> str:
    """The line that leaves out a path; the last one that fits decides."""
    fitting = [(text, back) for text, rule, back in rules if rule and rule.fullmatch(path)]
    return fitting[-1][0] if fitting and not fitting[-1][1] else ""
