"""A folder of nnU-Net's raw data as a data set, described by options in `datasets:` of the config."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, field_validator

from brainpretrain.datasets.base import Dataset, Layout, Pattern
from brainpretrain.datasets.own.options import Options, dataset, parse


class NnUNet(Options):
    """`sequences`: the sequences of the channels 0000, 0001, ... `case`: regular expression for the name of a case."""

    sequences: Annotated[list[str], Field(min_length=1)]
    case: str = Field(
        r"(?P<subject>[^/]+)", description="with the group `subject`, and `session` or `site` where names hold them"
    )
    test_labels: bool = Field(False, description="labelsTs holds the labels of imagesTs")

    @field_validator("case")
    @classmethod
    def _has_subject(cls, case: str) -> str:
        try:
            groups = re.compile(case).groupindex
        except re.error as error:
            raise ValueError(f"'{case}' is not a regular expression: {error}") from error
        if "subject" not in groups:
            raise ValueError(f"'{case}' lacks the group (?P<subject>...)")
        return case


def describe(**options: Any) -> Dataset:
    """The data set of `imagesTr/<case>_<channel>.nii.gz`, `labelsTr/<case>.nii.gz` and `imagesTs/`.

    Every case needs every channel, and every case of `imagesTr` needs a label.

    Raises:
        UserError: the options do not fit.
    """
    settings = parse(NnUNet, options)
    sequences = {f"{number:04d}": name for number, name in enumerate(settings.sequences)}
    common: dict[str, Any] = {"sequence": sequences, "required": tuple(settings.sequences)}
    image = rf"(?P<case>{settings.case})_(?P<sequence>\d{{4}})"
    train = Pattern(image=f"imagesTr/{image}", subset="train", label="{top}labelsTr/{case}", **common)
    labelled: dict[str, Any] = (
        {"subset": "test", "label": "{top}labelsTs/{case}"} if settings.test_labels else {"subset": "unlabelled"}
    )
    test = Pattern(image=f"imagesTs/{image}", **labelled, **common)
    examples = [f"imagesTr/case_{channel}.nii.gz" for channel in sequences] + ["labelsTr/case.nii.gz"]
    return dataset(
        "nnunet",
        settings,
        title="nnU-Net folder",
        layouts=(Layout("nnU-Net", (train, test), tuple(examples)),),
        label_sequences=tuple(settings.sequences),
    )
