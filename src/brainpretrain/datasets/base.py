"""The description of a data set: access, licence, layouts of its files, labels; and what data sets of one kind share."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from brainpretrain.errors import UserError

Access = Literal["auto", "credential", "place", "embedded"]
SourceFormat = Literal["nifti", "nrrd", "analyze", "dicom"]
Row = dict[str, Any]  # of the index; `download.index.index` lists the keys

EXTENSIONS = (".nii.gz", ".nii")
CONVERTED = "nifti"  # folder below the root for converted files, on the paths of their sources
UNPACK_AGAIN = "unpack the archive again, restore the names of the release, and remove copies"
CORRECT_NAMES = "correct the names of these files, and remove copies; then run `brainpretrain check` on the folder"

# From a scanner's name of a series to the sequence. The first rule that matches decides.
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
    """A file to download or to request. Size and checksums are None where they are not on record.

    Attributes:
        name: file name, as the host has it.
        url: https://..., synapse:<id>, xnat:<server>/<project>, hf:<owner>/<name>, dataverse:<server>/<doi>,
            zenodo:<server>/<record> (all files of the record), or '' if only a person can get it.
        size: bytes.
        also: checksums (sha256 or md5) of other versions, which are accepted if a user has them.
        unpacked_size: bytes of all files in the archive.
        scans: scan types to download, for an XNAT project.
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
    """A group of image files within a layout that follow one naming scheme.

    Attributes:
        image: regular expression for the path below the root, without leading folders and without the extension `.nii.gz` or
            `.nii`. Named groups: `subject`; optionally `session`, `site`, `sequence`, `series`, and groups that begin with `run`,
            which distinguish volumes of the same subject, session and sequence.
        subset: name of the subset that the files belong to.
        sequence: a fixed name; or the name for each value of the group `sequence` (other values do not match); or a function of
            that group.
        label: path of the label file without extension, in terms of the groups (`{top}` is the part before the match); None for
            unlabelled files.
        masks: in place of `label`, for label files whose paths are no function of the image's: a regular expression like `image`.
            Its groups are groups of `image`, too. The label of an image is the file whose groups have the same values; below the
            same leading folders if there are several. No file that fits is an image.
        partly: an image without its label file belongs to the subset `unlabelled`; otherwise a missing label is an error.
        required: sequences that every subject and session must have.
        channels: sequences of a 4-D file; each channel gets a row.
        accept, reject: substrings of the lower-case group `series`; a volume is used if its series contains one of `accept` (or
            `accept` is empty) and none of `reject`.
    """

    image: str
    subset: str
    sequence: str | Mapping[str, str] | Callable[[str], str] = ""
    label: str | None = None
    masks: str | None = None
    partly: bool = False
    required: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    accept: tuple[str, ...] = ()
    reject: tuple[str, ...] = ()


class Review(NamedTuple):
    """What a layout says about names of files: volumes that are left out, each with the reason; and problems."""

    excluded: dict[str, str]
    problems: list[str]


@dataclass(frozen=True)
class Layout:
    """One arrangement of the files of a data set.

    Attributes:
        name: of the layout, for messages.
        patterns: tried in this order for each file.
        examples: the files of one or two subjects.
        unused: regular expressions for whole paths of files that belong to the release but are not used.
        review: judges the names of all files below a root before they are matched.
    """

    name: str
    patterns: tuple[Pattern, ...]
    examples: tuple[str, ...]
    unused: tuple[str, ...] = ()
    review: Callable[[Path, list[str]], Review] | None = None


@dataclass(frozen=True)
class Structures:
    """Label files that `fetch` makes from a mask file for each structure, in the folder CONVERTED.

    Attributes:
        mask: regular expression for the paths of the mask files, with the groups `case` (the path up to a name of the case) and
            `structure`.
        image: path of the image on whose grid the label is, in terms of `case`.
        label: path of the label below CONVERTED, without extension.
        order: names of the structures, from first to last. A voxel in several masks belongs to the last of them.
    """

    mask: str
    image: str
    label: str
    order: tuple[str, ...]


@dataclass(frozen=True)
class Contours:
    """Label files that `fetch` draws from contours (QVJ and QVS files) in folders of DICOM slices, beside the converted volume.

    Attributes:
        vessels: endings of the names of the QVJ files, from the patient's left to the right.
        ending: of the name of the label file, after that of the volume.
        inner, outer: label values inside the lumen, and between lumen and outer wall.
        unread: label value of what nobody has outlined.
    """

    vessels: tuple[str, str]
    ending: str
    inner: int
    outer: int
    unread: int


@dataclass(frozen=True)
class Dataset:
    """The description of one source of volumes; each module in this folder defines one.

    Attributes:
        name: name of the module.
        access: 'auto' (open), 'credential' (an account), 'place' (a person must request the files), 'embedded' (generated here).
        redistribution: whether derived files may be passed on under the licence's own terms (attribution, non-commercial use,
            share alike).
        archives: the files of the release.
        layouts: the accepted arrangements of files; the first one that fits is used.
        labels: names of all values other than 0 that a label file may hold; a file with another value is rejected. Empty if the
            values are not known.
        label_sequences: sequences on whose grid the label file is defined.
        expected: `volumes`, and `subjects` if counted, of the complete release; None if a config decides or the count is unknown.
        n_shards: a constant, so that jobs can be planned before the data exist; one for every 256 expected volumes.
        brains45k: `subjects`, `sessions` and `volumes` that the source contributes to BRAINS-45K (AMAES, Table 1).
        ignore: label values that neither train nor score.
        versions: subsets that may hold the same scan of a session several times, of which a task takes one.
        structures, contours: how `fetch` makes label files that the release does not have.
        aliases: for patients with several names, the name to use for each further name.
        persons: a name of a subject's person that other data sets use too, or ''; the overlap audit compares these. As patient a
            subject keeps its own name, since draws depend on that.
        source_format: format of the raw files. Files that are not NIfTI are converted into the folder CONVERTED, DICOM by the
            download and others by `fetch`, and are read from there.
        convert: regular expression for the paths of the NRRD or Analyze files to convert.
        lister: finds the volumes if a table lists them and no layout can.
        whole: `min_size` and `allow_negative` of a preprocess recipe do not apply. BRAINS-45K takes all volumes of those of its
            sources that were prepared for a challenge.
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
    versions: tuple[str, ...] = ()
    structures: Structures | None = None
    contours: Contours | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    persons: Callable[[str], str] | None = None
    source_format: SourceFormat = "nifti"
    convert: str = r".*"
    lister: Callable[[Dataset, Path], Scan] | None = None
    whole: bool = False


@dataclass(frozen=True)
class Scan:
    """The files under a root.

    Attributes:
        layout: name of the layout that fits.
        rows: of the index.
        unexpected: paths that no row uses.
        left_out: images that `accept` and `reject` exclude.
        dangling: broken links.
        excluded: for each volume that the layout leaves out by its name, the reason.
    """

    layout: str
    rows: list[Row]
    unexpected: list[str]
    left_out: list[str]
    dangling: list[str] = field(default_factory=list)
    excluded: Mapping[str, str] = field(default_factory=dict)

    def by_reason(self) -> dict[str, list[str]]:
        """The volumes that are left out by their names, grouped by reason; the most frequent reason first."""
        groups = defaultdict(list)
        for path, reason in sorted(self.excluded.items()):
            groups[reason].append(path)
        return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


class NotInPlace(UserError):
    """The files of a data set are not where they are expected."""


# ------------------------------------------------------------------------------------------------ data sets of one kind


def brats2023(*, code: str, synapse: str, **facts: Any) -> Dataset:
    """A data set of the BraTS 2023 challenge: four skull-stripped sequences at 1 mm, cases BraTS-<code>-<subject>-<session>.

    Args:
        code: the letters of the cohort in the names of cases and archive, such as SSA.
        synapse: number of the challenge's data page.
        facts: the remaining fields of `Dataset`.
    """
    sequences = {"t1n": "T1w", "t1c": "T1ce", "t2w": "T2w", "t2f": "FLAIR"}
    folder, page = f"ASNR-MICCAI-BraTS2023-{code}-Challenge-TrainingData", f"https://www.synapse.org/Synapse:{synapse}"
    pattern = Pattern(
        image=rf"(?P<subject>BraTS-{code}-\d+)-(?P<session>\d+)/BraTS-{code}-\d+-\d+-(?P<sequence>[a-z0-9]+)",
        subset="train",
        sequence=sequences,
        label="{top}{subject}-{session}/{subject}-{session}-seg",
        required=tuple(sequences.values()),
    )
    case = f"{folder}/BraTS-{code}-00002-000/BraTS-{code}-00002-000"
    examples = tuple(f"{case}-{name}.nii.gz" for name in (*sequences, "seg"))
    return Dataset(
        access="credential",
        page=page,
        licence="registration and terms of the BraTS 2023 challenge",
        licence_url=page,
        redistribution=False,
        archives=(Archive(name=f"{folder}.zip", url=f"synapse:{synapse}"),),
        layouts=(Layout(name="synapse, 2023", patterns=(pattern,), examples=examples),),
        label_sequences=pattern.required,
        **facts,
    )


def decathlon(
    *, task: str, case: str, examples: tuple[str, str], sequences: tuple[str, ...], sha256: str, md5: str, **facts: Any
) -> Dataset:
    """A task of the Medical Segmentation Decathlon.

    Args:
        task: name of the archive without its suffix, such as Task04_Hippocampus.
        case: the part of a case's name before its number.
        examples: the number of a labelled and of an unlabelled case.
        sequences: one sequence, or the sequences of the channels of 4-D files.
        sha256, md5: checksums of the archive.
        facts: the remaining fields of `Dataset`.
    """
    contents: dict[str, Any] = {"channels": sequences} if len(sequences) > 1 else {"sequence": sequences[0]}
    subject = rf"(?P<subject>{case}_\d+)"
    train = Pattern(image=f"imagesTr/{subject}", subset="train", label="{top}labelsTr/{subject}", **contents)
    test = Pattern(image=f"imagesTs/{subject}", subset="unlabelled", **contents)
    paths = tuple(f"{folder}/{case}_{examples[folder == 'imagesTs']}.nii.gz" for folder in ("imagesTr", "labelsTr", "imagesTs"))
    url = f"https://msd-for-monai.s3-us-west-2.amazonaws.com/{task}.tar"
    return Dataset(
        title=f"MSD {task.replace('_', ' ')}",
        access="auto",
        page="http://medicaldecathlon.com",
        licence="CC BY-SA 4.0",
        licence_url="https://creativecommons.org/licenses/by-sa/4.0/",
        citation="Antonelli et al., Segmentation Decathlon, Nat Commun 2022, doi:10.1038/s41467-022-30695-9",
        redistribution=True,
        archives=(Archive(name=f"{task}.tar", url=url, sha256=sha256, md5=md5),),
        layouts=(Layout(name="decathlon", patterns=(train, test), examples=paths),),
        label_sequences=sequences,
        **facts,
    )


def oasis(
    number: int, *, scans: tuple[str, ...], pattern: Pattern, examples: tuple[str, ...], unused: tuple[str, ...], **facts: Any
) -> Dataset:
    """OASIS-3 or OASIS-4, as the official scripts arrange the sessions of the XNAT project.

    Args:
        number: 3 or 4.
        scans: the scan types to download.
        pattern, examples, unused: see `Layout`.
        facts: the remaining fields of `Dataset`.
    """
    return Dataset(
        name=f"oasis{number}",
        title=f"OASIS-{number}",
        access="credential",
        page=f"https://sites.wustl.edu/oasisbrains/home/oasis-{number}/",
        licence="OASIS data use agreement",
        licence_url="https://sites.wustl.edu/oasisbrains/home/access/",
        redistribution=False,
        archives=(Archive(name=f"OASIS{number}", url=f"xnat:www.nitrc.org/ir/OASIS{number}", scans=scans),),
        layouts=(Layout(name="oasis-scripts", patterns=(pattern,), examples=examples, unused=unused),),
        labels={},
        label_sequences=(),
        **facts,
    )


# ------------------------------------------------------------------------------------------------ helpers of listers and messages


def guess_sequence(text: str) -> str:
    """The BIDS sequence for a scanner's free name of a series; 'unknown' if no rule applies."""
    return next((name for rule, name in SERIES_RULES if re.search(rule, text.lower())), "unknown")


def volume_id(*parts: str) -> str:
    """Unique name of a volume: its parts, reduced to letters and digits of any script, `.` and `-`, joined by `_`."""
    return "_".join(_reduced(nfc(part)) for part in parts if part)


def _reduced(part: str) -> str:
    kept = "".join(c if unicodedata.category(c)[0] in "LMN" or c == "." else " " for c in part)  # marks belong to their letters
    return re.sub(" +", "-", kept).strip("-")


def nfc(text: str) -> str:
    """One spelling of a name: `ü` is one character on Linux and two on macOS, where names were unpacked."""
    return unicodedata.normalize("NFC", text)


def as_on_disk(root: Path, path: str) -> str:
    """The path of a table in the spelling that the file has; unchanged if there is no such file."""
    spellings = (path, nfc(path), unicodedata.normalize("NFD", path))
    return next((spelling for spelling in spellings if (root / spelling).is_file()), path)


def duplicates(rows: list[Row]) -> list[str]:
    """A line for every volume that appears in several rows."""
    paths = defaultdict(list)
    for row in rows:
        paths[row["volume"]].append(row["path"])
    repeated = {volume: same for volume, same in sorted(paths.items()) if len(same) > 1}
    return [f"volume '{volume}' more than once: {', '.join(same)}" for volume, same in repeated.items()]


def same_names(rows: list[Row]) -> list[str]:
    """A line for every two subjects whose names fall together once reduced to those of volumes, such as `p 1` and `p-1`."""
    names = defaultdict(set)
    for row in rows:
        names[volume_id(row["subject"])].add(row["subject"])
    return [
        f"two spellings of one name: {' and '.join(repr(name) for name in sorted(same))}: give one subject one name, and two "
        "subjects names that differ in a letter or digit"
        for same in names.values()
        if len(same) > 1
    ]


def refuse(name: str, where: Path, problems: list[str], unexpected: list[str], fix: str = UNPACK_AGAIN) -> None:
    """Raises a UserError that lists all `problems` of the data set `name`, and unused volumes, which may be the missing ones.

    Without problems it does nothing.
    """
    if not problems:
        return
    count = len(problems)
    volumes = [path for path in unexpected if path.endswith(EXTENSIONS)]
    if volumes:
        problems = [*problems, f"unused volumes: {some(volumes)}"]
    lines = [f"{count} problem{'s' * (count > 1)} in the files of '{name}':", *problems]
    raise UserError("\n  ".join(lines), where=where, fix=fix)


def some(paths: list[str], most: int = 5) -> str:
    """The first `most` items of a list, and the number of the remaining ones."""
    more = f" and {len(paths) - most} more" if len(paths) > most else ""
    return ", ".join(paths[:most]) + more


def how_to_place(dataset: Dataset, root: Path | str) -> str:
    """Instructions for a user: how to get the files of a data set, and where to put them."""
    if dataset.access == "embedded":
        return "make it: run the fetch step of the workflow"
    get = {
        "auto": "download from",
        "credential": "register and accept the terms at",
        "place": "ask for access at",
    }[dataset.access]
    lines = [f"{get} {dataset.page} ({dataset.licence}), unpack into {root}"]
    if not dataset.page:  # a user's own data
        lines = [f"give the files names as below; to see how a folder is read: brainpretrain check {shlex.quote(str(root))}"]
    else:
        rule, incoming = f"snakemake <your options> -- download_{dataset.name}", f"<data_root>/incoming/{dataset.name}"
        lines.append(f"  or run {rule}, which also takes archives from {incoming}")
    for archive in dataset.archives:
        facts = {"bytes": archive.size, "sha256": archive.sha256, "md5": archive.md5}
        on_record = [f"{name} {value}" for name, value in facts.items() if value]
        lines.append("  archive " + " ".join(filter(None, [archive.name, archive.url, *on_record])))
    if dataset.source_format != "nifti":
        step = "by the download step" if dataset.source_format == "dicom" else "by this step"
        lines.append(f"  files come as {dataset.source_format.upper()} and are converted into {CONVERTED}/ {step}")
    for layout in dataset.layouts:
        lines.append(f"  files, layout '{layout.name}':")
        lines += [f"    {example}" for example in layout.examples]
    return "\n".join(lines)
