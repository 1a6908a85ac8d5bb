"""A folder in BIDS as a data set, by its options in `datasets:` of the config."""

from __future__ import annotations

from typing import Any

from pydantic import field_validator

from brainpretrain.datasets.base import Dataset, Layout, Pattern
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
NOT_RAW = r"(?:.+/)?(?:derivatives|sourcedata|code)/.+"
GROUPS = ("top", "folder", "stem", "subject", "session", "sequence")
ENTITY = r"_[a-z]+-[A-Za-z0-9+]+"


class Bids(Options):
    """`sequences`: name of a sequence by suffix. `label`: path of the label without extension, in terms of GROUPS."""

    sequences: dict[str, str] = SEQUENCES
    label: str | None = None
    label_sequences: tuple[str, ...] = ()
    partly_labelled: bool = False

    @field_validator("label")
    @classmethod
    def _known_groups(cls, label: str | None) -> str | None:
        return label and check_template(label, GROUPS)


def describe(**options: Any) -> Dataset:
    """The data set of a BIDS folder; files below `derivatives`, `sourcedata` and `code` are no volumes.

    A T1w with the entity `ce` (contrast agent) is the sequence T1ce. Entities other than subject and session tell volumes
    of one sequence apart.

    Raises:
        UserError: options that do not fit.
    """
    given = parse(Bids, options)
    names = tuple(dict.fromkeys([*given.sequences.values(), "T1ce"]))
    return dataset(
        "bids",
        given,
        title="BIDS folder",
        layouts=(Layout("BIDS", _patterns(given), ("sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz",), (NOT_RAW,)),),
        label_sequences=given.label_sequences or (names if given.label else ()),
    )


def _patterns(given: Bids) -> tuple[Pattern, ...]:
    """Volumes with a contrast agent, and all others."""
    common: dict[str, Any] = {
        "subset": "train" if given.label else "unlabelled",
        "label": given.label,
        "partly": given.partly_labelled,
    }
    enhanced = rf"(?:{ENTITY})*_ce-[A-Za-z0-9]+(?:{ENTITY})*"
    return (
        Pattern(image=_image(enhanced), sequence={"T1w": "T1ce"}, **common),
        Pattern(image=_image(rf"(?:{ENTITY})*"), sequence=given.sequences, **common),
    )


def _image(entities: str) -> str:
    return (
        r"(?P<folder>(?P<subject>sub-[A-Za-z0-9+]+)/(?:ses-(?P<session>[A-Za-z0-9+]+)/)?[a-z]+)/"
        rf"(?P<stem>sub-[A-Za-z0-9+]+(?:_ses-[A-Za-z0-9+]+)?(?P<run_entities>{entities}))_(?P<sequence>[A-Za-z0-9]+)"
    )
