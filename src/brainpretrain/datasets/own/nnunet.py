"""A folder of nnU-Net's raw data as a data set, described by options in `datasets:` of the config."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from brainpretrain.datasets.base import EXTENSIONS, Dataset, Layout, Pattern, Review, some
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

    Every case needs every channel, and every case of `imagesTr` needs a label. `review` refuses names without a channel, and
    files in other formats than NIfTI.

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
        layouts=(Layout("nnU-Net", (train, test), tuple(examples), review=partial(review, settings)),),
        label_sequences=tuple(settings.sequences),
    )


# ------------------------------------------------------------------------------------------------ names that do not fit

FOLDERS = ("imagesTr", "imagesTs", "labelsTr", "labelsTs")
CONVERTIBLE = (".mha", ".mhd", ".nrrd", ".nhdr", ".gipl", ".gipl.gz", ".mgz", ".mgh")  # by `brainpretrain convert`
OTHER_FORMATS = (*CONVERTIBLE, ".img", ".hdr", ".tif", ".tiff", ".png")
NUMBERED = re.compile(r"(.+)_(\d{4})")


def review(settings: NnUNet, root: Path, paths: list[str]) -> Review:
    """One problem, with the number of files, for each kind of name that does not fit, and for files in other formats."""
    files = [(path, *path.split("/")[-2:]) for path in paths if path.split("/")[-2:-1] and path.split("/")[-2] in FOLDERS]
    images = {(folder[-2:], _stem(name)): path for path, folder, name in files if folder[:6] == "images" and _is_volume(name)}
    labels = {(folder[-2:], _stem(name)): path for path, folder, name in files if folder[:6] == "labels" and _is_volume(name)}
    # names that image and label share: either the image lacks its channel, or the label has one that it should not have
    shared = {key: int(key[1][-4:]) for key in images.keys() & labels.keys() if NUMBERED.fullmatch(key[1])}
    shared = {key: number for key, number in shared.items() if (key[0], f"{key[1]}_0000") not in images}
    n_channels = len(settings.sequences)
    labels_have_channels = all(number < n_channels for number in shared.values())
    without = {key for key in images if not NUMBERED.fullmatch(key[1])} | (set() if labels_have_channels else shared.keys())
    beyond = {key for key in images.keys() - without if int(key[1][-4:]) >= n_channels}
    unfit = {key for key in images.keys() - without - beyond if not re.fullmatch(settings.case, key[1][:-5])}
    present = set(paths)
    foreign = {path: path for path, _, name in files if _is_foreign(name) and f"{_bare(path)}.nii.gz" not in present}
    lines = [
        *_problem(images, without, "an image without a channel in its name", lambda path: f"call it {_renamed(path, '_0000')}"),
        *_problem(
            labels,
            shared if labels_have_channels else (),
            "a label with a channel in its name",
            lambda path: f"call it {_renamed(path, '')}",
        ),
        *_problem(
            images,
            beyond,
            f"an image with a channel beyond the {n_channels} of `sequences`",
            lambda _: "add its sequence to `sequences` (in dataset.json: channel_names)",
        ),
        *_problem(
            images,
            unfit,
            "an image with a name that `case` does not fit",
            lambda _: f"correct the expression {settings.case}",
        ),
        *_problem(foreign, foreign, "in another format than NIfTI", partial(_conversion, root)),
    ]
    return Review({}, lines)


def _is_foreign(name: str) -> bool:
    return name.lower().endswith(OTHER_FORMATS)


def _conversion(root: Path, path: str) -> str:
    command = f" (brainpretrain convert {shlex.quote(str(root))})" if path.lower().endswith(CONVERTIBLE) else ""
    return f"convert it to {_bare(path)}.nii.gz{command}"


def _bare(path: str) -> str:
    """The path without its extension."""
    ending = max((ending for ending in OTHER_FORMATS if path.lower().endswith(ending)), key=len)
    return path[: -len(ending)]


def _is_volume(name: str) -> bool:
    return name.endswith(EXTENSIONS)


def _stem(name: str) -> str:
    return name.removesuffix(".gz").removesuffix(".nii")


def _renamed(path: str, channel: str) -> str:
    """The path with a channel, or without its channel."""
    stem = _stem(path)
    return (stem + channel if channel else NUMBERED.sub(r"\1", stem)) + path.removeprefix(stem)


def _problem(paths: Mapping[Any, str], keys: Iterable[Any], text: str, fix: Callable[[str], str]) -> list[str]:
    """A line on the first of the files and, if there are more, on their number."""
    names = sorted(paths[key] for key in keys)
    if not names:
        return []
    more = f"; {len(names)} files are like this: {some(names)}" if names[1:] else ""
    return [f"{names[0]} is {text}: {fix(names[0])}{more}"]
