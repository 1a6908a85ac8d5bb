"""Sections of published encoders and of tables."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from brainpretrain.config.sections.base import Count, Label, Name, NTrain, Positive, Section, Size3, check_n_train


class ReleasedFile(Section):
    """One file of a release; a checksum is None if none is on record."""

    file: Annotated[str, Field(pattern=r"^[\w-][\w.-]*(/[\w-][\w.-]*)*$")] = Field(
        description="below the folder of weights; with a folder in front, files of one name are told apart by it"
    )
    url: str
    bytes: Count | None = None
    md5: str | None = None
    sha256: str | None = None
    repository: Annotated[str, Field(pattern=r"^[\w.-]+/[\w.-]+$")] | None = Field(
        None, exclude_if=lambda value: value is None, description="owner/name on Hugging Face, with the file at its top"
    )
    beside: list[Annotated[str, Field(pattern=r"^[\w-][\w.-]*$")]] = Field(
        [], exclude_if=lambda value: not value, description="files to get from the same address, such as adaptation_plan.json"
    )


class Release(Section):
    """Encoders that others have published, a file per backbone. Its name is an `init`."""

    page: str
    forbids: str | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="what the licence and the terms of the corpus forbid, where the abbreviations in `licence` do not say it",
    )
    sequences: list[str] = Field(
        [],
        exclude_if=lambda value: not value,
        description="what its input channels are, of a network that reads several; empty: one channel of any sequence",
    )
    licence: str | None = Field(description="null if it is not known")
    citation: str
    corpus: str = Field(description="what they were pretrained on, in words")
    preprocess: Name
    intensity: Literal["unit", "zscore"] = Field(
        "unit",
        exclude_if=lambda rule: rule == "unit",  # the field came later
        description="what the network saw: intensities from 0 to 1, or z-scores",
    )
    patch_size: Size3
    files: dict[Name, ReleasedFile] = Field(min_length=1, description="by backbone")


class Column(Section):
    """A task and the cohort to score; `val` is the pool without the training cases of the fold."""

    title: str
    task: Name
    cohort: Name = Field(description="val, test, ood, or one of the task's `cohorts`")


class AfterRow(Section):
    """The start of a fine-tuning that goes on from that of another row of the study: same task, fold, seed and backbone."""

    row: str = Field(description="title of a row, or of an entry with one row for each backbone, in a table of the study")


Scheme = Literal["freesurfer", "synthseg", "muse", "neurite35"]


class External(Section):
    """Segmentations that another program made: scored and shown as an arm of which nothing is trained (docs/evaluation.md)."""

    external: Annotated[str, Field(min_length=1)] = Field(
        description="folder of NIfTI files; `{task}`, `{cohort}` and `{dataset}` in it are replaced by their names"
    )
    files: Annotated[str, Field(min_length=1)] = Field(
        "**/*", description="the files of the folder that count, such as '*/mri/aparc+aseg.nii.gz'"
    )
    labels: Scheme | dict[str, Annotated[list[Label], Field(min_length=1)]] | None = Field(
        None,
        description="class name to values in these files, for every class of the tasks; or a scheme of datasets/structures.tsv,"
        " whose structures the classes name; null: as the task",
    )
    others: Literal["refuse", "background"] = Field(
        "refuse",
        description="values that `labels` does not name: refused, or counted as background and listed. Those that a scheme knows"
        " are background in any case",
    )


class Row(Section):
    """One row, or several: a list in any field multiplies."""

    title: str = ""
    backbone: Name | list[Name] | None = Field(None, description="needed, except with 'init: {external: ...}'")
    init: Name | External | AfterRow | list[Name | AfterRow] = Field(
        "scratch",
        description="scratch, a pretext, a release of `weights`; {row: TITLE}: the fine-tuned network of another row, encoder and"
        " decoder; or {external: FOLDER}, of another program",
    )
    n_train: Annotated[NTrain | list[NTrain] | None, BeforeValidator(check_n_train)] = None
    recipe: Name | list[Name] | None = None
    corpus: Name | None = None
    baseline: str | None = Field(
        None, description="title of the row to compare with, of the same backbone and n_train; null: from scratch"
    )

    @model_validator(mode="after")
    def _what_trains_has_a_network(self) -> Row:
        if not isinstance(self.init, External):
            if self.backbone is None:
                raise ValueError("a row needs a 'backbone'")
        elif not self.title:
            raise ValueError("a row of another program needs a 'title', which names it everywhere")
        elif given := [key for key in ("backbone", "recipe", "corpus") if getattr(self, key) is not None]:
            raise ValueError(f"a row of another program trains nothing: leave out {' and '.join(given)}")
        return self


MetricName = Literal["dice", "nsd", "hd95_mm", "volume_error", "lesion_f1", "dice_with_background"]


class PublishedRow(Section):
    """Published values of one arm: by column title, the value and, if known, its SD, as printed (Dice x 100)."""

    backbone: Name
    init: Name | list[Name] = Field("scratch", description="as in a row; the values are shown for each of several")
    row: str | None = Field(
        None, description="title of the entry of `rows` that the values are of, where backbone, init and n_train do not tell"
    )
    n_train: Annotated[NTrain | None, BeforeValidator(check_n_train)] = Field(None, description="null: as in the publication")
    cells: dict[str, Annotated[list[float], Field(min_length=1, max_length=2)]]
    recipe: Name | None = Field(None, description="that of the publication for this row; null: as in the publication")
    hours: Positive | None = Field(None, description="published hours of the pretraining, for a table with 'hours'")
    training_hours: dict[str, Positive] = Field({}, description="published hours of the fine-tuning, by column title")


class Published(Section):
    """Published values of a table's cells, and the protocol behind them, so that the table can mark differences."""

    source: str
    corpus: Name
    recipe: Name
    n_train: Annotated[NTrain, BeforeValidator(check_n_train)]
    folds: Count
    metric: MetricName = Field("dice", description="a table of another metric does not show the values")
    notes: list[str] = Field([], description="what differs from the publication, misprints: shown below the table")
    rows: Annotated[list[PublishedRow], Field(min_length=1)]


class Table(Section):
    """A table of results; `corpus`, `recipe` and `n_train` are the defaults of its rows."""

    title: str
    columns: Annotated[list[Column], Field(min_length=1)]
    rows: Annotated[list[Row], Field(min_length=1)]
    corpus: Name
    recipe: Name
    n_train: Annotated[NTrain, BeforeValidator(check_n_train)]
    metric: MetricName = "dice"
    margin: Positive | None = Field(
        None, description="the largest difference that counts as equivalent, as printed (Dice x 100); stated before any result"
    )
    probe: bool = Field(
        False,
        description="a second table, <table>_probe: a linear readout of each row's frozen encoder (docs/evaluation.md)",
    )
    hours: bool = Field(False, description="a further column: hours by the clock of the pretraining of each row (AMAES Table 2)")
    training_hours: bool = Field(
        False, description="a further column for each column: hours of the fine-tuning, with + for what a row adds to another one"
    )
    published: Published | None = None
