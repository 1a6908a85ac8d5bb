"""What the YAML under `config/` may say, and how it becomes typed objects. Imports neither torch nor Snakemake.

Every file is a mapping of *sections* (`backbones:`, `pretexts:`, `tables:` ...), a section is a mapping of named
entries, and an entry may start from another one with `like:` and name only what differs. A study file adds `title`,
`seed`, `folds` and `build`, and may hold entries of its own; one that starts from the catalogue's entry of the same name
changes it for this study. Nothing here runs code from a YAML file.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from brainpretrain import datasets, named
from brainpretrain.augment.config import PolicyConfig
from brainpretrain.datasets.base import Dataset as Description
from brainpretrain.errors import UserError, nearest

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$")]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Label = Annotated[int, Field(ge=1, le=65535)]
Size3 = Annotated[list[Count], Field(min_length=3, max_length=3)]
NTrain = Count | Literal["all"]


def _check_n_train(value: Any) -> Any:
    """One message for a bad number of training cases, where pydantic has one for each type that it might have been."""
    for one in value if isinstance(value, list) else [value]:
        if one not in (None, "all") and not (str(one).isdigit() and int(one) > 0):
            raise ValueError("a number from 1, or 'all'")
    return value


class Section(BaseModel):
    """Base of every entry: unknown keys are refused, `note` is free text that changes nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    note: str = Field("", exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _no_words_for_numbers(cls, content: Any) -> Any:
        """YAML reads `yes` as true, which would count as 1."""
        for key, value in content.items() if isinstance(content, dict) else ():
            if isinstance(value, bool) and key in cls.model_fields and cls.model_fields[key].annotation is not bool:
                raise ValueError(f"'{key}' is neither on nor off (yes, no, true and false are YAML for that)")
        return content


class Dataset(Section):
    """A data set with options: one that the project makes itself, or the user's own (`datasets/<module>.py`)."""

    module: Name = Field(description="a module of datasets/; `bids`, `nnunet` and `csv` describe data of your own")
    options: dict[str, Any] = Field({}, description="arguments of the module's `generate` or `describe`")


class Preprocess(Section):
    """Raw volume to stored array (AMAES section 3.1, Appendix A)."""

    spacing_mm: Annotated[list[Positive], Field(min_length=3, max_length=3)]
    upper_quantile: Annotated[float, Field(gt=0, le=1)]
    crop: Literal["nonzero", "none"]
    antialias: bool
    min_size: Count
    allow_negative: bool
    max_voxels: Count
    spacing_range_mm: Annotated[list[Positive], Field(min_length=2, max_length=2)]
    max_rejected_fraction: Share
    revision: int = 1


class Source(Section):
    """The volumes that one data set gives to a corpus."""

    dataset: Name
    sequences: list[str] = []
    subsets: list[str] = []
    pool_of: Name | None = Field(None, description="only subjects of this task's pool: its fixed test set stays out")
    exclude: list[str] = Field([], description="subjects that stay out, such as those that the overlap audit found to be scored")


class Corpus(Section):
    """What a pretraining reads."""

    sources: Annotated[list[Source], Field(min_length=1)]
    preprocess: Name
    val_fraction: Annotated[float, Field(ge=0, lt=1)]
    protocol: Literal["strict", "amaes"] = Field(
        description="strict: a subject of any evaluated cohort in the corpus, by name or by image, is an error; "
        "amaes: as published, it is counted and the tables mark it as transductive"
    )


class Split(Section):
    """Subjects to pool and test, and the order in which a fold draws its training cases from the pool."""

    seed: Annotated[int, Field(ge=0)]
    test_fraction: Annotated[float, Field(ge=0, lt=1)]
    block: Count = Field(description="the folds of one shuffle share none of this many first subjects")
    stratify: Literal["site"] | None = Field(None, description="site: pool, test set and folds hold the sites in proportion")


class OutOfDistribution(Section):
    """A second cohort, from another subset or data set, for the cohort name `ood`."""

    dataset: Name
    subsets: list[str] = []
    by_site: bool = Field(
        False, exclude=True, description="also report it apart for sites that training saw and did not see (table <table>_sites)"
    )


class Task(Section):
    """A segmentation task: one data set, its input sequences and its classes."""

    dataset: Name
    sequences: Annotated[list[str], Field(min_length=1)]
    subsets: list[str] = []
    labels: dict[str, Annotated[list[Label], Field(min_length=1)]] = Field(
        min_length=1, description="class name to the values of the label file; order is the class order; the rest is background"
    )
    ignore: list[Label] = Field([], description="label values that neither train nor score")
    nsd_tolerance_mm: Positive = Field(description="surfaces this far apart still count as one (docs/metrics.md: how to choose)")
    lesions: list[str] = Field([], description="names of the labels whose connected components are lesions, to be counted")
    empty_masks: Literal["nan", "one"] = Field(
        "nan", description="scores where neither reference nor prediction holds a label: left out of means (nan), or right (one)"
    )
    hd95_missed_mm: Positive | None = Field(
        None, description="HD95 where only one of reference and prediction holds a label; null leaves it out of means"
    )
    preprocess: Name
    split: Split
    ood: OutOfDistribution | None = None

    @model_validator(mode="after")
    def _each_value_once(self) -> Task:
        values = [value for group in (*self.labels.values(), self.ignore) for value in group]
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise ValueError(f"label values stand twice in 'labels' and 'ignore': {twice}")
        return self

    @model_validator(mode="after")
    def _lesions_are_labels(self) -> Task:
        if unknown := [name for name in self.lesions if name not in self.labels]:
            raise ValueError(f"'lesions' names what is not in 'labels': {', '.join(unknown)}")
        return self


class Network(Section):
    """What is known of one network: that of a pretext, that which tells so many classes apart, or else the encoder alone."""

    pretext: Name | None = None
    classes: Count | None = None
    parameters: Count
    gflop: Positive | None = Field(None, description="10^9 floating-point operations of one forward pass, 2 per multiply-add")

    @model_validator(mode="after")
    def _one_kind(self) -> Network:
        if self.pretext and self.classes:
            raise ValueError("a network has either 'pretext' or 'classes'")
        return self


class Backbone(Section):
    """`backbones/<architecture>.py` with its options, and the decoder used for fine-tuning."""

    architecture: Name
    decoder: Name
    decoder_options: dict[str, Any] = {}
    options: dict[str, Any] = {}
    expected: list[Network] = Field(
        [], exclude=True, description="counts of the published network (of your own: counted by hand); tests and `params` compare"
    )


class AdamW(Section):
    """Fields as in torch.optim.AdamW."""

    name: Literal["adamw"]
    weight_decay: Annotated[float, Field(ge=0)]
    betas: Annotated[list[Share], Field(min_length=2, max_length=2)]
    eps: Positive
    amsgrad: bool


class SGD(Section):
    """Fields as in torch.optim.SGD."""

    name: Literal["sgd"]
    weight_decay: Annotated[float, Field(ge=0)]
    momentum: Share
    nesterov: bool


class Phase(Section):
    """A stretch of training with one learning-rate curve: linear warm-up from 0, then decay to 0."""

    steps: Count | None = None
    epochs: Positive | None = None
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    warmup_epochs: Annotated[float, Field(ge=0)] = 0
    lr: Positive
    decay: Literal["cosine", "poly", "constant"]
    exponent: Positive | None = Field(None, description="of the decay 'poly'")
    train: Literal["all", "all_but_stem", "decoder", "decoder_and_stem"] = Field(
        "all", description="the rest is frozen; the stem is the convolution of the encoder that reads the image"
    )

    @model_validator(mode="after")
    def _one_length(self) -> Phase:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("a phase needs either 'steps' or 'epochs'")
        if self.warmup_steps and self.warmup_epochs:
            raise ValueError("a phase takes 'warmup_steps' or 'warmup_epochs', not both")
        if self.warmup_steps > (self.steps or math.inf) or self.warmup_epochs > (self.epochs or math.inf):
            raise ValueError("the warm-up is a part of its phase and cannot be longer")
        if (self.decay == "poly") != (self.exponent is not None):
            raise ValueError("'exponent' goes with the decay 'poly', and 'poly' needs it")
        return self


class Training(Section):
    """What pretraining and fine-tuning share."""

    patch_size: Size3
    global_batch: Count = Field(description="patches per optimiser step over all devices together")
    phases: Annotated[list[Phase], Field(min_length=1)]
    optimizer: Annotated[AdamW | SGD, Field(discriminator="name")]
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    gradient_clip: Positive | None = None
    revision: int = 1


class Pretext(Training):
    """`pretext/<method>.py` with its options."""

    method: Name
    options: dict[str, Any] = {}
    augmentation: Name
    val_every_epochs: Count = 1
    per_backbone: dict[Name, dict[str, Any]] = {}


class Inference(Section):
    """Sliding window (AMAES: constant weights, overlap 0.5, no mirroring)."""

    overlap: Annotated[float, Field(ge=0, lt=1)]
    weights: Literal["constant", "gaussian"]
    batch: Count
    mirror: list[Literal["x", "y", "z"]] = Field(
        json_schema_extra={"uniqueItems": True}, description="logits are the mean over all flips along these axes; none: []"
    )

    @model_validator(mode="after")
    def _each_axis_once(self) -> Inference:
        if len(set(self.mirror)) < len(self.mirror):
            raise ValueError("an axis stands twice in 'mirror'")
        return self


class Loss(Section):
    """A loss of `losses.py`; `smooth` keeps the Dice of an absent class defined."""

    name: Literal["dice_ce", "squared_dice_ce"]
    smooth: Positive


class Finetune(Training):
    """Fine-tuning on n_train labelled cases; `inference` is what prediction uses."""

    loss: Loss
    stem: Literal["divide", "repeat"] = Field(
        "divide",
        exclude_if=lambda stem: stem == "divide",  # so the field, which came later, made no finished training run again
        description="how a stem pretrained on one channel is repeated over n: divided by n, or as it is",
    )
    decoder: Name | None = Field(None, description="a decoder to use instead of the backbone's own, such as 'linear'")
    decoder_options: dict[str, Any] = {}
    foreground_fraction: Share
    augmentation: Name = Field(description="policy when the encoder was pretrained")
    augmentation_scratch: Name = Field(description="policy when training starts from scratch")
    log_every_steps: Count
    inference: Inference

    @model_validator(mode="after")
    def _in_steps(self) -> Finetune:
        if any(phase.epochs or phase.warmup_epochs for phase in self.phases):
            raise ValueError("phases of a fine-tuning are given in steps: its few cases are drawn without end")
        return self

    @model_validator(mode="after")
    def _options_of_a_decoder(self) -> Finetune:
        if self.decoder_options and not self.decoder:
            raise ValueError("'decoder_options' goes with 'decoder'; options of the backbone's own decoder stand in its entry")
        return self


class ReleasedFile(Section):
    """One file of a release; a checksum is None where none is on record."""

    file: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    url: str
    bytes: Count | None = None
    md5: str | None = None
    sha256: str | None = None


class Release(Section):
    """Encoders that others have published, a file per backbone. Its name is an `init`."""

    page: str
    licence: str | None = Field(description="null where it is not known")
    citation: str
    corpus: str = Field(description="what they were pretrained on, in words")
    preprocess: Name
    patch_size: Size3
    files: dict[Name, ReleasedFile] = Field(min_length=1, description="by backbone")


class Column(Section):
    """A task and the cohort that is scored; `val` is the pool less the training cases of a fold."""

    title: str
    task: Name
    cohort: Literal["val", "test", "ood"]


class Row(Section):
    """One row, or several: a list in any field multiplies."""

    title: str = ""
    backbone: Name | list[Name]
    init: Name | list[Name] = Field("scratch", description="scratch, a pretext, or a release of `weights`")
    n_train: Annotated[NTrain | list[NTrain] | None, BeforeValidator(_check_n_train)] = None
    recipe: Name | list[Name] | None = None
    corpus: Name | None = None


MetricName = Literal["dice", "nsd", "hd95_mm", "volume_error", "lesion_f1", "dice_with_background"]


class PublishedRow(Section):
    """Published values of one arm: by column title, the value and, if known, its SD, as printed (Dice x 100)."""

    backbone: Name
    init: Name | list[Name] = Field("scratch", description="as in a row; with several, each of them is shown the values")
    n_train: Annotated[NTrain | None, BeforeValidator(_check_n_train)] = Field(None, description="null: that of the publication")
    cells: dict[str, Annotated[list[float], Field(min_length=1, max_length=2)]]


class Published(Section):
    """What a publication reports for the cells of a table, and with what it was done, so that differences are marked."""

    source: str
    corpus: Name
    recipe: Name
    n_train: Annotated[NTrain, BeforeValidator(_check_n_train)]
    folds: Count
    metric: MetricName = Field("dice", description="a table of another metric does not show the values")
    notes: list[str] = Field([], description="what differs from the publication, misprints: shown below the table")
    rows: Annotated[list[PublishedRow], Field(min_length=1)]


class Table(Section):
    """A table of results; `corpus`, `recipe` and `n_train` are what a row does not say itself."""

    title: str
    columns: Annotated[list[Column], Field(min_length=1)]
    rows: Annotated[list[Row], Field(min_length=1)]
    corpus: Name
    recipe: Name
    n_train: Annotated[NTrain, BeforeValidator(_check_n_train)]
    metric: MetricName = "dice"
    published: Published | None = None


SECTIONS: dict[str, type[Section]] = {
    "datasets": Dataset,
    "preprocess": Preprocess,
    "corpora": Corpus,
    "tasks": Task,
    "backbones": Backbone,
    "augmentations": PolicyConfig,
    "pretexts": Pretext,
    "finetune": Finetune,
    "weights": Release,
    "tables": Table,
}


class Bootstrap(Section):
    """Resampling behind the intervals and ranks of the tables (docs/statistics.md) and of the label budgets."""

    resamples: Count
    confidence: Annotated[float, Field(gt=0, lt=1)]
    seed: Annotated[int, Field(ge=0)]


class Settings(Section):
    """`config/config.yaml`: where things are, and which study to build."""

    study: str
    data_root: str
    data_roots: dict[str, str] = {}
    mirror: str = Field("", description="a folder that is searched for archives before the network is asked")
    results: str
    bootstrap: Bootstrap
    save_every_steps: Count = Field(description="optimiser steps between two checkpoints: what a killed training may lose")
    max_idle_attempts: Count = Field(description="attempts in a row without a new checkpoint after which a training refuses more")
    max_nonfinite_steps: Count = Field(5, description="steps in a row with a loss of NaN or Inf after which a training ends")
    near_copy: Share = Field(description="correlation of fingerprints from which two volumes count as one image (docs/audit.md)")
    tensorboard: bool = False
    execution: list[Literal["compile", "channels_last", "checkpointing"]] = Field(
        [], description="how networks are computed in training (execution.py): speed and memory, not the result"
    )


class Study(Section):
    """The head of a study file."""

    title: str
    seed: Annotated[int, Field(ge=0)]
    folds: Annotated[int, Field(ge=1, le=1000)]
    build: Annotated[list[Name], Field(min_length=1)]


class Config(BaseModel):
    """Everything that a run of the workflow knows, validated."""

    model_config = ConfigDict(frozen=True)
    settings: Settings
    study_name: str
    study: Study
    datasets: dict[str, Dataset]
    preprocess: dict[str, Preprocess]
    corpora: dict[str, Corpus]
    tasks: dict[str, Task]
    backbones: dict[str, Backbone]
    augmentations: dict[str, PolicyConfig]
    pretexts: dict[str, Pretext]
    finetune: dict[str, Finetune]
    weights: dict[str, Release]
    tables: dict[str, Table]

    def get(self, section: str, name: str, wanted_by: str) -> Any:
        """Entry `name` of `section`.

        Raises:
            UserError: there is none; names the nearest one and who asked.
        """
        entries = getattr(self, section)
        if name not in entries:
            raise UserError(f"no entry '{name}' in '{section}'", where=wanted_by, fix=nearest(name, list(entries)))
        return entries[name]

    def data_root(self, dataset: str) -> str:
        """Folder of the raw files of a data set."""
        return self.settings.data_roots.get(dataset) or str(Path(self.settings.data_root) / dataset)

    def incoming(self, dataset: str) -> str:
        """Where a user puts the archives of a data set, and where downloads go."""
        return str(Path(self.settings.data_root) / "incoming" / dataset)

    def described(self, dataset: str) -> Description:
        """What is known of a data set: of the user's own by its options, of any other by its module.

        Raises:
            UserError: there is no such data set.
        """
        entry = self.datasets.get(dataset)
        return datasets.describe(entry.module, entry.options) if entry else datasets.load(dataset)

    def stored_as(self, preprocess: str, dataset: str = "") -> dict[str, Any]:
        """A preprocess recipe without its tolerance for rejected volumes, which makes nothing anew.

        With a data set, as it holds for its volumes: one that is taken `whole` is not selected from.
        """
        recipe = self.preprocess[preprocess].model_dump(mode="json", exclude={"max_rejected_fraction"})
        if dataset and self.described(dataset).whole:
            recipe |= {"min_size": 1, "allow_negative": True}
        return recipe

    def release(self, name: str, backbone: str) -> dict[str, Any]:
        """What an import needs to know of the file that a release has for a backbone.

        Raises:
            UserError: no such release, or none of its files is for this backbone.
        """
        found = self.get("weights", name, f"backbone {backbone}")
        if backbone not in found.files:
            raise UserError(
                f"the release '{name}' has no file for the backbone '{backbone}'",
                where=f"weights.{name}.files",
                fix=nearest(backbone, list(found.files)),
            )
        self.get("preprocess", found.preprocess, f"weights.{name}")
        facts = found.model_dump(mode="json", exclude={"files"}) | {"preprocess": self.stored_as(found.preprocess)}
        return {"release": name, **facts, **found.files[backbone].model_dump(mode="json")}

    def pretext(self, name: str, backbone: str) -> Pretext:
        """The pretext recipe as `backbone` uses it: its `per_backbone` changes applied."""
        recipe = self.get("pretexts", name, f"backbone {backbone}")
        changes = recipe.per_backbone.get(backbone)
        if not changes:
            return recipe
        merged = _merge(recipe.model_dump(), changes)
        return _validate(Pretext, merged, f"pretexts.{name}.per_backbone.{backbone}")


def inference(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Settings of a sliding window from outside the catalogues, checked as an entry is.

    Raises:
        UserError: a key is missing, unknown or out of range.
    """
    return _validate(Inference, dict(settings), where).model_dump(mode="json")


MAX_YAML_BYTES = 4 << 20
MAX_YAML_NODES = 200_000  # aliases counted in full: what a few lines of them would become
MAX_YAML_DEPTH = 40
_PLAIN = ("null", "bool", "int", "float", "str", "seq", "map")  # what JSON has, too; a date is text


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """SafeLoader of what JSON can say, too, of a bounded size; `1e-4` is the number it looks like.

    Refuses a key given twice, which YAML would settle in silence.
    """

    yaml_constructors: ClassVar[dict] = {
        tag: function
        for tag, function in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag.removeprefix("tag:yaml.org,2002:") in _PLAIN
    }
    yaml_implicit_resolvers: ClassVar[dict] = {
        first: [(tag, pattern) for tag, pattern in found if not tag.endswith(":timestamp")]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None:
            _count_nodes(node, {})
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError) as error:  # a scalar that is not what its tag says
            raise _wrong(f"no {node.tag.rpartition(':')[2]}: {str(node.value)[:40]!r}", node.start_mark) from error
        if isinstance(value, int | float) and not -(2**63) <= value < 2**64:  # infinite and NaN, too
            raise _wrong(f"no number that can be used: {str(node.value)[:40]}", node.start_mark)
        if isinstance(value, str) and _UNUSABLE.search(value):
            raise _wrong(f"a character that is no text: {value[:40]!r}", node.start_mark)
        return value

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key_node, yaml.ScalarNode):
                raise _wrong("a key must be a word", key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                line = key_node.start_mark.line + 1
                raise UserError(f"key '{key}' stands twice", where=f"{key_node.start_mark.name}:{line}", fix="keep one")
            seen.add(key)
        return super().construct_mapping(node, deep)  # type: ignore[arg-type]


_UNUSABLE = re.compile(r"[\x00-\x08\x0b-\x1f\ud800-\udfff]")  # control characters and halves of a letter: in no path, in no file


def _wrong(problem: str, mark: yaml.Mark) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=mark)


def _check_depth(stream: IO[str]) -> None:
    """Before anything is composed, which takes a call for every level."""
    depth = 0
    for event in yaml.parse(stream, Loader=_Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_YAML_DEPTH:
            raise _wrong(f"more than {MAX_YAML_DEPTH} levels", event.start_mark)


def _count_nodes(node: yaml.Node, known: dict[int, int]) -> int:
    """Nodes below and including `node`, an alias counted as often as it is used. `known`: counts by id, 0 while counting."""
    if id(node) in known:
        if not known[id(node)]:
            raise _wrong("an alias stands within what it is short for", node.start_mark)
        return known[id(node)]
    known[id(node)] = 0
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        children = [child for pair in node.value for child in pair]
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    count = 1 + sum(_count_nodes(child, known) for child in children)
    if count > MAX_YAML_NODES:
        raise _wrong(f"more than {MAX_YAML_NODES} values, aliases written out", node.start_mark)
    known[id(node)] = count
    return count


# YAML 1.1, which PyYAML reads, wants a point and a sign in it (1.0e-4); YAML 1.2 and everybody else do not
_SHORT_FLOAT = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)[eE][-+]?\d+$")
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _SHORT_FLOAT, list("-+.0123456789"))


def read_yaml(path: Path) -> dict[str, Any]:
    """One YAML file as a mapping, read without running anything. Its values are what JSON has, too.

    Raises:
        UserError: missing, too large, no YAML, no mapping, a key given twice, or a value that nothing could use.
    """
    try:
        if path.stat().st_size > MAX_YAML_BYTES:
            raise UserError(f"larger than {MAX_YAML_BYTES >> 20} MiB", where=path, fix="give the config file, no data")
        with open(path, encoding="utf-8") as stream:
            _check_depth(stream)
            stream.seek(0)
            content = yaml.load(stream, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except FileNotFoundError as error:
        raise UserError("config file not found", where=path, fix="check the name and the folder") from error
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=path, fix="see what it is, and who may read it") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"no valid YAML: {error}", where=path, fix="mend the line named above") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError("the file must be a mapping of sections", where=path, fix="start it with a section such as 'tasks:'")
    return content


def load(folder: Path | str = "config", overrides: dict[str, Any] | None = None) -> Config:
    """Reads `config.yaml`, the catalogue files beside it and the chosen study.

    Args:
        folder: the config folder.
        overrides: settings given on the command line (`snakemake --config study=demo`).

    Raises:
        UserError: listing every problem found, with file, key and the nearest valid key.
    """
    folder = Path(folder)
    settings = _validate(Settings, read_yaml(folder / "config.yaml") | dict(overrides or {}), str(folder / "config.yaml"))
    study_file = study_path(folder, settings.study)
    entries: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    origin: dict[tuple[str, str], Path] = {}
    catalogue = sorted(path for path in folder.glob("*.yaml") if path.name != "config.yaml")
    head: dict[str, Any] = {}
    for path in [*catalogue, study_file]:
        for section, content in read_yaml(path).items():
            if section in SECTIONS:
                _add_entries(entries[section], origin, section, content, path)
            elif path == study_file and section in Study.model_fields:
                head[section] = content
            else:
                known = [*SECTIONS, *(Study.model_fields if path == study_file else ())]
                raise UserError(f"unknown key '{section}'", where=path, fix=nearest(section, known))
    study = _validate(Study, head, str(study_file))
    typed = {section: _typed(section, found, origin) for section, found in entries.items()}
    config = Config(settings=settings, study_name=study_file.stem, study=study, **typed)
    _check_modules(config, origin)
    return config


def study_path(folder: Path, study: str) -> Path:
    """A study is named by its file in `config/studies/`, or by a path."""
    if study.endswith((".yaml", ".yml")):
        return Path(study)
    path = folder / "studies" / f"{study}.yaml"
    if not path.exists():
        known = sorted(p.stem for p in (folder / "studies").glob("*.yaml"))
        raise UserError(f"no study '{study}'", where=folder / "studies", fix=nearest(study, known))
    return path


def _add_entries(found: dict, origin: dict, section: str, content: Any, path: Path) -> None:
    if not isinstance(content, dict):
        raise UserError(f"'{section}' must map names to entries", where=path, fix="write '  name: {...}' below it")
    for name, entry in content.items():
        if not isinstance(name, str):
            raise UserError(f"'{section}' has an entry called {name!r}", where=path, fix="names are text; put it in quotes")
        if name in found:
            if section in _SHARED or not isinstance(entry, dict) or entry.get("like") != name:
                change = "" if section in _SHARED else f"; or, to change it for this study, the key 'like: {name}'"
                raise UserError(
                    f"'{section}.{name}' is defined in {origin[section, name]} and again here",
                    where=path,
                    fix=f"give it another name and start it with 'like: {name}'{change}",
                )
            entry = _own_version(found[name], entry)
        found[name], origin[section, name] = entry, path


def _own_version(old: Any, entry: dict[str, Any]) -> Any:
    """A catalogue entry as a study changes it for itself, which it says by `like:` and the entry's own name."""
    if not isinstance(old, dict):
        return old  # refused where it is resolved
    changes = {key: value for key, value in entry.items() if key != "like"}
    return _merge({key: value for key, value in old.items() if key not in _OWN}, changes)


def _resolve(section: str, name: str, entries: dict, origin: dict, chain: tuple[str, ...] = ()) -> dict[str, Any]:
    """An entry with everything it inherits by `like:`, but for what is true of the other one alone (`_OWN`)."""
    where = f"{origin[section, name]}: {section}.{name}"
    if name in chain:
        raise UserError(f"'like' goes in a circle: {' -> '.join((*chain, name))}", where=where, fix="end it somewhere")
    entry = entries[name]
    if not isinstance(entry, dict):
        raise UserError("an entry must be a mapping", where=where, fix="write 'key: value' lines")
    own = {key: value for key, value in entry.items() if key != "like"}
    if "like" not in entry:
        return own
    parent = entry["like"]
    if not isinstance(parent, str) or parent not in entries:
        raise UserError(f"'like: {parent}' names no entry of '{section}'", where=where, fix=nearest(parent, list(entries)))
    inherited = _resolve(section, parent, entries, origin, (*chain, name))
    return _merge({key: value for key, value in inherited.items() if key not in _OWN}, own)


_OWN = ("note", "expected")
_SHARED = ("datasets", "preprocess", "weights")  # their results lie beside the studies, under the name of the entry

# what a choice brings with it: another optimiser, method, architecture or decoder starts with none of the old one's options
_DEPENDENTS = {"method": ("options",), "architecture": ("options",), "decoder": ("decoder_options",)}


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`changes` laid over `base`, mapping by mapping; a list, a scalar or the classes of a task replace.

    Where `changes` chooses another thing (`name`, `method`, `architecture`, `decoder`), the options of the former choice go.
    """
    if "name" in changes and changes["name"] != base.get("name"):
        return dict(changes)
    dropped = {key for tag, keys in _DEPENDENTS.items() if tag in changes and changes[tag] != base.get(tag) for key in keys}
    merged = {key: value for key, value in base.items() if key not in dropped}
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict) and key != "labels"
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _typed(section: str, entries: dict, origin: dict) -> dict[str, Section]:
    return {
        name: _validate(SECTIONS[section], _resolve(section, name, entries, origin), f"{origin[section, name]}: {section}.{name}")
        for name in entries
    }


def _validate(model: type[BaseModel], content: Any, where: str) -> Any:
    """A pydantic model from plain data; its errors become one UserError that lists all of them."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise UserError(
            "\n".join(_explain(model, problem) for problem in error.errors()), where=where, fix="mend the keys named above"
        ) from error


_NO_NUMBER = {
    "float_parsing": "{!r} is no number; write it as 0.5 or 1.0e-4",
    "int_parsing": "{!r} is no whole number; write it as 1000",
}


def _explain(model: type[BaseModel], problem: Any) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        word = str(problem["loc"][-1])
        return f"{key}: unknown key; {nearest(word, [k for k in _keys_at(model, problem['loc'][:-1]) if k != word])}"
    if problem["type"] == "missing":
        return f"{key}: missing"
    if problem["type"] in _NO_NUMBER:
        return f"{key}: {_NO_NUMBER[problem['type']].format(problem['input'])}"
    found = "" if isinstance(problem["input"], dict) else f" (found {problem['input']!r})"  # of a whole entry too long to show
    return f"{f'{key}: ' if key else ''}{problem['msg'].removeprefix('Value error, ')}{found}"


def _keys_at(model: type[BaseModel], path: tuple) -> list[str]:
    """Valid keys of the mapping at `path` inside `model`, for the hint after an unknown key."""
    schema = model.model_json_schema()
    nodes = [schema]
    for part in path:
        found = [_child(node, part) for node in _choices(nodes, schema)]
        nodes = [node for node in found if node] or nodes  # the tag of a union is in the path, but is no key
    return [key for node in _choices(nodes, schema) for key in node.get("properties", {})]


def _choices(nodes: list[dict], schema: dict) -> list[dict]:
    """The nodes with references followed and unions opened."""
    found = []
    for node in (_deref(node, schema) for node in nodes):
        found += [node, *(_deref(choice, schema) for choice in node.get("anyOf", []) + node.get("oneOf", []))]
    return found


def _child(node: dict, part: str | int) -> dict | None:
    return node.get("items") if isinstance(part, int) else node.get("properties", {}).get(part)


def _deref(node: dict, schema: dict) -> dict:
    return schema["$defs"][node["$ref"].rsplit("/", 1)[-1]] if "$ref" in node else node


def build_options(package: str, module: str) -> dict[str, tuple[str, bool]] | None:
    """Keyword options of `build` in `<package>/<module>.py`: name -> (annotation, required). None if there is no such file.

    Read from the source, so that a config is checked without importing torch.
    """
    if module not in named.names(package):
        return None
    path = Path(__file__).parents[1] / package / f"{module}.py"
    functions = {n.name: n for n in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(n, ast.FunctionDef)}
    return _keywords(functions["build"])


def _keywords(function: ast.FunctionDef) -> dict[str, tuple[str, bool]]:
    pairs = zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    return {argument.arg: (ast.unparse(argument.annotation or ast.Constant("")), default is None) for argument, default in pairs}


def _check_modules(config: Config, origin: dict) -> None:
    """Every backbone, decoder, pretext and own data set exists, with options that it takes."""
    for name, entry in config.datasets.items():
        try:
            datasets.describe(entry.module, entry.options)
        except UserError as error:
            raise UserError(error.problem, where=f"{origin['datasets', name]}: datasets.{name}", fix=error.fix) from error
    for name, entry in config.backbones.items():
        where = f"{origin['backbones', name]}: backbones.{name}"
        _check_options("options", entry.options, _options_of("backbones", entry.architecture, where), where)
        _check_decoder(entry.decoder, entry.decoder_options, where)
    for name, entry in config.finetune.items():
        if entry.decoder:
            _check_decoder(entry.decoder, entry.decoder_options, f"{origin['finetune', name]}: finetune.{name}")
    for name, entry in config.pretexts.items():
        where = f"{origin['pretexts', name]}: pretexts.{name}"
        _check_options("options", entry.options, _options_of("pretext", entry.method, where), where)
        if "decoder" in entry.options:
            _check_decoder(entry.options["decoder"], entry.options.get("decoder_options", {}), where)


def _options_of(package: str, module: str, where: str) -> dict[str, tuple[str, bool]]:
    known = build_options(package, module)
    if known is None:
        raise UserError(f"there is no {package}/{module}.py", where=where, fix=nearest(module, named.names(package)))
    return known


def _check_decoder(name: str, options: dict[str, Any], where: str) -> None:
    _check_options("decoder_options", options, _options_of("decoders", name, where), where)


def _check_options(field: str, options: dict[str, Any], known: dict[str, tuple[str, bool]], where: str) -> None:
    """Names, and that a number is a number."""
    for key, value in options.items():
        if key not in known:
            raise UserError(f"{field}.{key}: unknown key", where=where, fix=nearest(key, sorted(known)))
        if wanted := _wanted_instead(value, known[key][0]):
            raise UserError(
                f"{field}.{key}: {value!r} is no {wanted}", where=where, fix="write numbers without quotes, as in 0.6 or 6.0e-1"
            )
    missing = sorted(key for key, (_, required) in known.items() if required and key not in options)
    if missing:
        raise UserError(f"{field}: {', '.join(missing)} missing", where=where, fix=f"add it below '{field}:'")


def _wanted_instead(value: Any, annotation: str) -> str:
    """What should stand here, if `annotation` asks for a number or a list of them and `value` is neither; else ''."""
    words = set(re.findall(r"\w+", annotation))
    if not words or not words <= {"int", "float", "list", "Sequence"}:
        return ""
    may_be_list, may_be_one = "[" in annotation, not annotation.startswith(("list", "Sequence"))
    if isinstance(value, list) or not may_be_one:
        fits = may_be_list and isinstance(value, list) and all(_is_number(item) for item in value)
        return "" if fits else "list of numbers" if may_be_list else "number"
    return "" if _is_number(value) else "number"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def schema() -> dict[str, Any]:
    """JSON schema of every file under `config/`, for editors. Entries may be partial, since `like:` completes them."""
    definitions: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    for section, model in SECTIONS.items():
        found = model.model_json_schema(ref_template="#/$defs/{model}")
        definitions |= found.pop("$defs", {})
        found.pop("required", None)
        found.setdefault("properties", {})["like"] = {"type": "string", "description": "start from this entry"}
        definitions[f"{section}_entry"] = found
        properties[section] = {"type": "object", "additionalProperties": {"$ref": f"#/$defs/{section}_entry"}}
    for head in (Settings, Study):
        found = head.model_json_schema(ref_template="#/$defs/{model}")
        definitions |= found.pop("$defs", {})
        properties |= found["properties"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "brainpretrain config",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "$defs": definitions,
    }
