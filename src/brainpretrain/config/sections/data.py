"""Sections of data: data sets, preprocessing, corpora, tasks and their cohorts."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from brainpretrain.config.sections.base import Count, Label, Name, Positive, Section, Share, Size3, later


class Dataset(Section):
    """A data set with options: one that the project makes itself, or the user's own (`datasets/<module>.py`)."""

    module: Name = Field(description="a module of datasets/; `bids`, `nnunet` and `csv` describe data of your own")
    options: dict[str, Any] = Field({}, description="arguments of the module's `generate` or `describe`")


class PreprocessRecipe(Section):
    """Raw volume to stored array (AMAES section 2, Appendix A)."""

    spacing_mm: Annotated[list[Positive], Field(min_length=3, max_length=3)]
    upper_quantile: Annotated[float, Field(gt=0, le=1)]
    crop: Literal["nonzero", "none"]
    antialias: bool
    min_size: Count
    allow_negative: bool
    max_voxels: Count
    spacing_range_mm: Annotated[list[Positive], Field(min_length=2, max_length=2)]
    session: list[str] = later(
        "session",
        "sequences of one session that are stored together, on the grid of the first and in one crop box around all of them;"
        " as `sequences` of the task. A session of which one of them is refused is left out. Empty: each volume by itself",
    )
    align: Literal["header", "rigid", "affine"] | None = later(
        "align",
        "how sequences on another grid come onto the grid of the first of `session`: by the headers alone, or by a registration"
        " (mutual information). null: they are refused",
    )
    min_covered: Share = later("min_covered", "share of the foreground that a volume must cover after `align` or `atlas`")
    bias_correction: Literal["n4"] | None = later("bias_correction", "n4: divide every volume by its bias field")
    n4_shrink: Count = later("n4_shrink", "N4 estimates the field on every n-th voxel")
    n4_iterations: Annotated[list[Count], Field(min_length=1)] = later("n4_iterations", "of N4, at most, for each of its levels")
    atlas: str | None = later(
        "atlas",
        "icbm152, or the path of a volume: bring everything into its space by an affine registration; predictions return to the"
        " grid of the image",
    )
    size: Size3 | None = later(
        "size",
        "voxels of every stored volume: padded with 0 or cropped at both ends, around the centre of the crop box; predictions"
        " return by the inverse, with background where it was cropped",
    )
    lower_quantile: Annotated[float, Field(ge=0, lt=1)] = later(
        "lower_quantile", "of the voxels above the lowest value; what is below it becomes 0, as the background"
    )
    window: Annotated[list[float], Field(min_length=2, max_length=2)] | None = later(
        "window",
        "[low, high] in the units of the files, as Hounsfield units of CT: clipped there and scaled to 0..1, in place of"
        " quantiles, so that intensities of different volumes can be compared",
    )
    revision: int = 1

    @model_validator(mode="after")
    def _range_of_intensities(self) -> PreprocessRecipe:
        if self.lower_quantile >= self.upper_quantile:
            raise ValueError("'lower_quantile' must be below 'upper_quantile'")
        if self.window is None:
            return self
        low, high = self.window
        if not low < high:
            raise ValueError("'window' is [low, high], in ascending order")
        if self.upper_quantile != 1 or self.lower_quantile:
            raise ValueError("'window' takes the place of quantiles: set 'upper_quantile: 1', and no 'lower_quantile'")
        if low < 0 and not self.allow_negative:
            raise ValueError("'window' begins below 0: set 'allow_negative: true'")
        return self

    @model_validator(mode="after")
    def _keys_that_go_together(self) -> PreprocessRecipe:
        if len(self.session) == 1 or len(set(self.session)) < len(self.session):
            raise ValueError("'session' lists two or more sequences, each once; leave it out for volumes by themselves")
        given = self.model_fields_set
        if self.align and not self.session:
            raise ValueError("'align' goes with 'session', which names the sequences and their order")
        if "min_covered" in given and not (self.align or self.atlas):
            raise ValueError("'min_covered' goes with 'align' or 'atlas'")
        if given & {"n4_shrink", "n4_iterations"} and not self.bias_correction:
            raise ValueError("'n4_shrink' and 'n4_iterations' go with 'bias_correction: n4'")
        return self


class Preprocess(PreprocessRecipe):
    """A recipe, and the share of a data set's volumes that it may reject."""

    max_rejected_fraction: Share


class Source(Section):
    """The volumes that one data set contributes to a corpus."""

    dataset: Name
    sequences: list[str] = []
    subsets: list[str] = []
    pool_of: Name | None = Field(None, description="only subjects of this task's pool: its fixed test set stays out")
    exclude: list[str] = Field([], description="subjects to leave out, such as those that the audit found in a scored cohort")


class Filters(Section):
    """Volumes that a corpus leaves out, by what their table and their raw file say (S3D, section on data)."""

    min_fov_mm: Positive | None = Field(None, description="left out: a field of view below this along any axis")
    max_spacing_mm: Positive | None = Field(None, description="left out: a spacing above this along any axis")
    min_file_kb: Positive | None = Field(None, description="left out: a raw file below this many kilobytes (1,000 bytes)")
    sequences: list[str] = Field([], description="left out: all other sequences; none: all stay")
    exclude_sequences: list[str] = Field([], description="left out: these sequences")
    exclude_words: list[Annotated[str, Field(min_length=1)]] = Field(
        [], description="left out: the name of the raw file, without subject and session, contains one of these"
    )

    @model_validator(mode="after")
    def _says_something(self) -> Filters:
        if not self.model_dump(exclude_defaults=True):
            raise ValueError("'filters' has no limit; leave it out")
        if both := set(self.sequences) & set(self.exclude_sequences):
            raise ValueError(f"'sequences' and 'exclude_sequences' both list {', '.join(sorted(both))}")
        return self


class Corpus(Section):
    """The volumes of a pretraining: their sources, and the recipe that they are stored with."""

    sources: Annotated[list[Source], Field(min_length=1)]
    preprocess: Name
    val_fraction: Annotated[float, Field(ge=0, lt=1)]
    subjects: Count | Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        exclude_if=lambda subjects: subjects is None,  # the field came later; written out, it would run finished trainings again
        description="number or share of the subjects that train; draws are nested, and the validation subjects stay the same",
    )
    filters: Filters | None = Field(
        None,
        exclude_if=lambda filters: filters is None,  # as for `subjects`
        description="volumes of all sources that are left out; figures/rejected.html lists them",
    )
    protocol: Literal["strict", "amaes"] = Field(
        description="strict: it is an error if the corpus holds a subject of an evaluated cohort, by name or by image; "
        "amaes: as published, such subjects are counted, and the tables mark the arm as transductive"
    )

    @property
    def datasets(self) -> list[str]:
        """Data sets that contribute volumes."""
        return sorted({source.dataset for source in self.sources})

    @property
    def pools(self) -> list[str]:
        """Tasks to whose pool a source is limited."""
        return sorted({source.pool_of for source in self.sources if source.pool_of})


class Split(Section):
    """Who trains and who is scored: a pool and a fixed test set, from which folds draw training cases; or k parts in turn."""

    kind: Literal["fraction", "kfold"] = Field(
        "fraction",
        description="fraction: a fixed test set, and folds that are draws of training cases from the rest; kfold:"
        " cross-validation, fold i trains on all parts but the i-th and scores that one as the cohort `test`",
    )
    seed: Annotated[int, Field(ge=0)]
    test_fraction: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None, description="of kind fraction: share of the subjects in the fixed test set, such as 0.2"
    )
    block: Count | None = Field(
        None, description="of kind fraction: the folds of one shuffle share none of this many first subjects"
    )
    k: Annotated[int, Field(ge=2)] | None = Field(None, description="of kind kfold: number of parts")
    file: str | None = Field(
        None, description="of kind kfold: a file in the format of nnU-Net's splits_final.json whose folds are used; null: drawn"
    )
    stratify: Literal["site"] | None = Field(None, description="site: pool, test set and folds hold the sites in proportion")
    draw: Literal["hash", "shuffle"] = Field(
        "hash",
        description="hash: each subject by itself, so that added subjects move nobody between pool and test set, whose size is"
        " then near test_fraction; shuffle: scikit-learn's train_test_split, as in published splits, of exact size",
    )

    @model_validator(mode="after")
    def _keys_of_the_kind(self) -> Split:
        if self.kind == "fraction":
            if missing := [name for name in ("test_fraction", "block") if getattr(self, name) is None]:
                raise ValueError(f"a split needs {' and '.join(missing)}, or 'kind: kfold' and 'k'")
            if given := [name for name in ("k", "file") if getattr(self, name) is not None]:
                raise ValueError(f"'{given[0]}' goes with 'kind: kfold'")
            return self
        if self.k is None:
            raise ValueError("'kind: kfold' needs 'k', the number of parts, such as 5")
        if self.test_fraction:
            raise ValueError(
                "'kind: kfold' has no fixed test set, since it scores each subject once: remove 'test_fraction', or use"
                " 'kind: fraction'"
            )
        if self.block is not None:
            raise ValueError("'block' goes with 'kind: fraction': remove it, or set it to null")
        return self


class Degradation(Section):
    """What makes the images of a cohort worse before they are predicted (evaluation/degrade.py). Labels stay as they are."""

    kind: Literal["thick_slices", "motion", "bias_field", "noise", "missing_sequence"]
    strength: Positive | None = Field(
        None,
        description="thick_slices: mm of a slice; motion: largest movement in mm, and in degrees; bias_field: logarithm of the"
        " largest gain; noise: standard deviation for intensities from 0 to 1; missing_sequence: none",
    )
    axis: Literal["x", "y", "z"] = Field(
        "z", description="thick_slices: the axis across the slices; z is from the feet to the head"
    )
    sequence: str | None = Field(None, description="missing_sequence: the sequence of the task that is missing")

    @model_validator(mode="after")
    def _keys_of_the_kind(self) -> Degradation:
        missing = self.kind == "missing_sequence"
        needed, other = ("sequence", "strength") if missing else ("strength", "sequence")
        if getattr(self, needed) is None or getattr(self, other) is not None:
            raise ValueError(f"'{self.kind}' takes '{needed}' and no '{other}'")
        if "axis" in self.model_fields_set and self.kind != "thick_slices":
            raise ValueError("'axis' goes with 'thick_slices'")
        return self


class OutOfDistribution(Section):
    """A further cohort of a task (`ood`, or one of `cohorts`): from another subset or data set, or degraded copies of one."""

    dataset: Name | None = None
    of: Name | None = Field(
        None, exclude=True, description="`test`, or another cohort of the task: this cohort has the same cases, with `degrade`"
    )
    degrade: Degradation | None = Field(None, exclude=True, description="goes with `of`: how the images are made worse")
    subsets: list[str] = []
    labels: dict[str, Annotated[list[Label], Field(min_length=1)]] | None = Field(
        None,
        exclude=True,
        description="class name to values in the label files of this cohort, with the class names of the task; null: as the task",
    )
    ignore: list[Label] | None = Field(None, exclude=True, description="values that are not scored; null: as the task")
    by_site: bool = Field(
        False, exclude=True, description="also report sites seen and not seen in training separately (table <table>_sites)"
    )

    @model_validator(mode="after")
    def _from_a_data_set_or_degraded(self) -> OutOfDistribution:
        if (self.dataset is None) == (self.of is None):
            raise ValueError("a cohort has either 'dataset', or 'of' with 'degrade'")
        if (self.of is None) != (self.degrade is None):
            raise ValueError("'of' and 'degrade' go together")
        if self.of and (others := sorted(self.model_fields_set & {"subsets", "labels", "ignore", "by_site"})):
            raise ValueError(f"a cohort with 'of' has the cases and labels of that cohort, and takes no '{others[0]}'")
        return self


class LabelledSource(Section):
    """A further data set whose labelled cases train the networks of a task, and are never scored (`sources` of a recipe)."""

    dataset: Name
    subsets: list[str] = []
    labels: dict[str, list[Label]] | None = Field(
        None,
        description="class name to values in the label files of this data set, with the class names of the task; null: as the"
        " task. A class that the data set does not have gets []: the background of its cases, which may hold the class, then"
        " trains nothing",
    )
    ignore: list[Label] | None = Field(None, description="values that do not train; null: as the task")
    exclude: list[str] = Field([], description="subjects to leave out, such as those that the audit found in a scored cohort")
    n: Count | Literal["all"] = Field("all", description="subjects at most; the first of the order in which a fold draws them")


# names that a cohort cannot have: those of the other cohorts, and those of keys and files next to its list of subjects
_TAKEN = ("train", "val", "test", "ood", "pool", "dataset", "subjects")
_TAKEN_FORM = re.compile(r"fold\d+|.*_(seen|unseen)")  # splits of folds; parts of a cohort in a table by site


class Segmentation(Section):
    """Input and output of a segmentation network: its sequences and its classes."""

    sequences: Annotated[list[str], Field(min_length=1)]
    labels: dict[str, Annotated[list[Label], Field(min_length=1)]] = Field(
        min_length=1, description="class name to the values of the label file; order is the class order; the rest is background"
    )
    ignore: list[Label] = Field([], description="label values that neither train nor score")
    left_right: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = Field(
        [],
        exclude_if=lambda pairs: not pairs,  # the field came later
        description="pairs of class names that change places where an image is mirrored along x: [left name, right name]",
    )

    @model_validator(mode="after")
    def _sides_are_labels(self) -> Segmentation:
        names = [name for pair in self.left_right for name in pair]
        if unknown := [name for name in names if name not in self.labels]:
            raise ValueError(f"'left_right' lists names that are not in 'labels': {', '.join(unknown)}")
        if len(set(names)) < len(names):
            raise ValueError("a class occurs twice in 'left_right'")
        return self

    @model_validator(mode="after")
    def _each_value_once(self) -> Segmentation:
        values = [value for group in (*self.labels.values(), self.ignore) for value in group]
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise ValueError(f"label values occur twice in 'labels' and 'ignore': {twice}")
        return self


class Task(Segmentation):
    """A segmentation task: one data set, the network's input and output, and how its segmentations are scored."""

    dataset: Name
    subsets: list[str] = []
    nsd_tolerance_mm: Positive = Field(description="surfaces this far apart still agree (docs/evaluation.md: how to choose)")
    lesions: list[str] = Field([], description="names of the labels whose connected components are lesions, to be counted")
    empty_masks: Literal["nan", "one"] = Field(
        "nan", description="scores where neither reference nor prediction holds a label: left out of means (nan), or right (one)"
    )
    hd95_missed_mm: Positive | None = Field(
        None, description="HD95 where only one of reference and prediction holds a label; null leaves it out of means"
    )
    preprocess: Name
    split: Split
    sources: list[LabelledSource] = Field(
        [], description="further data sets that train; recipes say how many of their subjects, and how they are mixed"
    )
    ood: OutOfDistribution | None = None
    cohorts: dict[Name, OutOfDistribution] = Field({}, description="further cohorts like `ood`, by name; columns name them")

    @property
    def others(self) -> dict[str, OutOfDistribution]:
        """The cohorts from other subsets or data sets, by name: `ood` and those of `cohorts`."""
        return ({"ood": self.ood} if self.ood else {}) | self.cohorts

    def degradation_of(self, cohort: str) -> Degradation | None:
        """What makes the images of a cohort worse; None if they are as they were acquired."""
        return self.others[cohort].degrade if cohort in self.others else None

    def cases_of(self, cohort: str) -> str:
        """The cohort whose cases a degraded cohort has; any other cohort itself."""
        return (self.others[cohort].of or cohort) if cohort in self.others else cohort

    def dataset_of(self, cohort: str) -> str:
        """The data set of a cohort."""
        other = self.others.get(self.cases_of(cohort))
        return (other.dataset if other else None) or self.dataset

    def subsets_of(self, cohort: str) -> list[str]:
        """The subsets that a cohort is taken from; all if empty."""
        other = self.others.get(self.cases_of(cohort))
        return other.subsets if other else self.subsets

    def reference_of(self, cohort: str) -> dict[str, Any]:
        """`labels` and `ignore` of the label files of a cohort, where they differ from those of the task; else empty."""
        other = self.others.get(self.cases_of(cohort))
        if other is None or (other.labels is None and other.ignore is None):
            return {}
        labels = self.labels if other.labels is None else {name: other.labels[name] for name in self.labels}
        return {"labels": labels, "ignore": self.ignore if other.ignore is None else other.ignore}

    def source_labels(self, number: int) -> dict[str, Any]:
        """`labels` (an empty list for a class that it does not have) and `ignore` of the label files of a source."""
        source = self.sources[number]
        labels = self.labels if source.labels is None else {name: source.labels[name] for name in self.labels}
        return {"labels": labels, "ignore": self.ignore if source.ignore is None else source.ignore}

    def key_of(self, cohort: str) -> str:
        """The key of the entry of one of `others`."""
        return cohort if cohort == "ood" else f"cohorts.{cohort}"

    @model_validator(mode="after")
    def _names_of_cohorts(self) -> Task:
        for name in self.cohorts:
            if name in _TAKEN or _TAKEN_FORM.fullmatch(name):
                hint = "give it as 'ood: {...}' next to 'cohorts'" if name == "ood" else "choose another name, such as 'site_b'"
                raise ValueError(f"cohorts.{name}: the name '{name}' is taken; {hint}")
        return self

    @model_validator(mode="after")
    def _degraded_copies(self) -> Task:
        for name, other in self.others.items():
            if other.of is None or other.degrade is None:
                continue
            key, whole = self.key_of(name), ["test", *(cohort for cohort, entry in self.others.items() if not entry.of)]
            if other.of not in whole:
                raise ValueError(f"{key}: 'of' names one of {', '.join(whole)}, not '{other.of}'")
            if (sequence := other.degrade.sequence) and (sequence not in self.sequences or len(self.sequences) == 1):
                raise ValueError(
                    f"{key}: '{sequence}' is no sequence of the task that could be missing: {', '.join(self.sequences)}"
                )
        return self

    @model_validator(mode="after")
    def _one_name_per_class(self) -> Task:
        for cohort, other in self.others.items():
            key = self.key_of(cohort)
            if other.labels is not None and set(other.labels) != set(self.labels):
                raise ValueError(f"'{key}' needs labels with the class names of the task: {', '.join(self.labels)}")
            if reference := self.reference_of(cohort):
                values = [value for group in (*reference["labels"].values(), reference["ignore"]) for value in group]
                if twice := sorted({value for value in values if values.count(value) > 1}):
                    raise ValueError(f"label values occur twice in 'labels' and 'ignore' of '{key}': {twice}")
        return self

    @model_validator(mode="after")
    def _classes_of_sources(self) -> Task:
        for number, source in enumerate(self.sources):
            key = f"sources.{number}"
            if source.labels is not None and set(source.labels) != set(self.labels):
                names = ", ".join(self.labels)
                raise ValueError(f"'{key}' needs labels with the class names of the task, [] for one that it lacks: {names}")
            used = self.source_labels(number)
            if not any(used["labels"].values()):
                raise ValueError(f"'{key}' has none of the classes of the task")
            values = [value for group in (*used["labels"].values(), used["ignore"]) for value in group]
            if twice := sorted({value for value in values if values.count(value) > 1}):
                raise ValueError(f"label values occur twice in 'labels' and 'ignore' of '{key}': {twice}")
        places = [(source.dataset, tuple(sorted(source.subsets))) for source in self.sources]
        if twice := [dataset for dataset, subsets in places if places.count((dataset, subsets)) > 1]:
            raise ValueError(f"'sources' lists the data set '{twice[0]}' twice, with the same subsets")
        return self

    @model_validator(mode="after")
    def _lesions_are_labels(self) -> Task:
        if unknown := [name for name in self.lesions if name not in self.labels]:
            raise ValueError(f"'lesions' lists names that are not in 'labels': {', '.join(unknown)}")
        return self
