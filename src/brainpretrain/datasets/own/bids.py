"""A BIDS folder as a data set, described by options in `datasets:` of the config."""

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
    """`sequences`: names of sequences by suffix. `label`: path of the label without extension, in terms of GROUPS."""

    sequences: dict[str, str] = SEQUENCES
    label: str | None = None
    label_sequences: tuple[str, ...] = ()
    partly_labelled: bool = False

    @field_validator("label")
    @classmethod
    def _known_groups(cls, label: str | None) -> str | None:
        return label and check_template(label, GROUPS)


def describe(**options: Any) -> Dataset:
    """The data set of a BIDS folder; files below `derivatives`, `sourcedata` and `code` are not volumes.

    A T1w with the entity `ce` (contrast agent) is the sequence T1ce. Entities other than subject and session distinguish volumes
    of the same sequence.

    Raises:
        UserError: the options do not fit.
    """
    settings = parse(Bids, options)
    names = tuple(dict.fromkeys([*settings.sequences.values(), "T1ce"]))
    return dataset(
        "bids",
        settings,
        title="BIDS folder",
        layouts=(Layout("BIDS", _patterns(settings), ("sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz",), (NOT_RAW,)),),
        label_sequences=settings.label_sequences or (names if settings.label else ()),
    )


def _patterns(settings: Bids) -> tuple[Pattern, ...]:
    """The patterns of volumes with a contrast agent, and of all others."""
    common: dict[str, Any] = {
        "subset": "train" if settings.label else "unlabelled",
        "label": settings.label,
        "partly": settings.partly_labelled,
    }
    enhanced = rf"(?:{ENTITY})*_ce-[A-Za-z0-9]+(?:{ENTITY})*"
    return (
        Pattern(image=_image(enhanced), sequence={"T1w": "T1ce"}, **common),
        Pattern(image=_image(rf"(?:{ENTITY})*"), sequence=settings.sequences, **common),
    )


def _image(entities: str) -> str:
    return (
        r"(?P<folder>(?P<subject>sub-[A-Za-z0-9+]+)/(?:ses-(?P<session>[A-Za-z0-9+]+)/)?[a-z]+)/"
        rf"(?P<stem>sub-[A-Za-z0-9+]+(?:_ses-[A-Za-z0-9+]+)?(?P<run_entities>{entities}))_(?P<sequence>[A-Za-z0-9]+)"
    )
