"""Everything that one training is a function of, typed: the rules write it, `--config` reads it, the training takes it.

The JSON of a run (`plain`) is the job's parameter in the workflow. Its fingerprint names the work folder, and the result
keeps it as config.yaml. So it must not change for a run that exists: a field that comes later needs a default, and
`exclude_if` for this default, as `stem` has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from brainpretrain.augment.config import PolicyConfig
from brainpretrain.config.explaining import validate
from brainpretrain.config.options import check_backbone, check_pretext
from brainpretrain.config.sections import (
    Backbone,
    Encoder,
    FinetuneRecipe,
    Label,
    PreprocessRecipe,
    PretrainRecipe,
    Segmentation,
    check_n_train,
)


class Run(BaseModel):
    """Base of both runs. Unknown keys are refused at every level."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    name: str
    seed: Annotated[int, Field(ge=0)]

    def plain(self) -> dict[str, Any]:
        """The run as JSON has it."""
        return self.model_dump(mode="json")


class PretrainRun(Run):
    """One pretraining, except for its corpus."""

    recipe: PretrainRecipe
    backbone: Encoder
    policy: PolicyConfig
    preprocess: PreprocessRecipe


class TrainingSource(BaseModel):
    """A further data set that a fine-tuning trains on: how many subjects, and the classes in its label files."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    dataset: str
    n: Annotated[int, Field(ge=1)] | Literal["all", "matched"] = Field(description="subjects; matched: as many as of the target")
    labels: dict[str, list[Label]] = Field(description="as in the task; [] for a class that the data set does not have")
    ignore: list[Label]


class FinetuneRun(Run):
    """One fine-tuning, except for its cases and its initial encoder."""

    fold: Annotated[int, Field(ge=0)]
    n_train: Annotated[int | str, BeforeValidator(check_n_train)] = Field(
        description="subjects; 'all', or a number, often as text"
    )
    task: Segmentation
    recipe: FinetuneRecipe
    backbone: Backbone
    policy: PolicyConfig
    preprocess: PreprocessRecipe
    sources: list[TrainingSource] = Field([], exclude_if=lambda sources: not sources)  # the field came later


def pretrain_run(content: Mapping[str, Any], where: str) -> PretrainRun:
    """A pretraining from plain data.

    Args:
        content: the JSON of a run, or the config.yaml of a result.
        where: its file or its argument, for messages.

    Raises:
        UserError: a key is unknown, missing or out of range; or a module does not exist or does not take its options.
    """
    run = validate(PretrainRun, content, where)
    check_backbone(run.backbone, f"{where}: backbone")
    check_pretext(run.recipe, f"{where}: recipe")
    return run


def finetune_run(content: Mapping[str, Any], where: str) -> FinetuneRun:
    """A fine-tuning from plain data; arguments and errors as `pretrain_run`."""
    run = validate(FinetuneRun, content, where)
    check_backbone(run.backbone, f"{where}: backbone")
    return run
