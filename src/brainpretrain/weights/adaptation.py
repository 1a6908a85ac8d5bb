"""The adaptation plan of nnssl: what its pretraining says about a file, read and held against the file and its entry.

It is in the checkpoint as `nnssl_adaptation_plan`, and beside it as `adaptation_plan.json`. The programs that fine-tune from such
files trust it; here it is a second witness, and a contradiction is an error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from brainpretrain.errors import UserError
from brainpretrain.files import read_json
from brainpretrain.weights.foreign import bare_name

KEY, BESIDE = "nnssl_adaptation_plan", "adaptation_plan.json"
_SCHEMES = {"ZScoreNormalization": "zscore", "RescaleTo01Normalization": "unit"}  # nnU-Net's name: rule of intensities here
_SPELLINGS = ("keys_to_in_proj", "key_to_in_proj")  # the second one is in the trainers of transformers


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Architecture(_Open):
    arch_class_name: str
    arch_kwargs: dict[str, Any] | None = None


class _Configuration(_Open):
    spacing: list[float] | None = None
    patch_size: list[int] | None = None
    normalization_schemes: list[str] = []


class _Pretraining(_Open):
    dataset_name: str | None = None
    configurations: dict[str, _Configuration] = {}


class AdaptationPlan(_Open):
    """The fields of a plan that matter here; the rest is ignored."""

    architecture_plans: _Architecture
    pretrain_plan: _Pretraining = _Pretraining()
    pretrain_num_input_channels: int | None = None
    recommended_downstream_patchsize: list[int] | None = None
    pretrain_patch_size: list[int] | None = None
    key_to_encoder: str | None = None
    key_to_stem: str | None = None
    keys_to_in_proj: list[str] = []
    key_to_lpe: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _two_spellings(cls, content: Any) -> Any:
        """`key_to_in_proj`, and a single name instead of a list."""
        if not isinstance(content, Mapping):
            return content
        given = [content[key] for key in _SPELLINGS if content.get(key) is not None]
        names = [[value] if isinstance(value, str) else list(value) if isinstance(value, Sequence) else value for value in given]
        if len(names) == 2 and names[0] != names[1]:
            raise ValueError(f"{' and '.join(_SPELLINGS)} name different tensors: {names[0]} and {names[1]}")
        return {key: value for key, value in content.items() if key not in _SPELLINGS} | {
            "keys_to_in_proj": names[0] if names else []
        }

    @property
    def configuration(self) -> _Configuration:
        """The only configuration; an empty one if there is none, or if there are several."""
        found = list(self.pretrain_plan.configurations.values())
        return found[0] if len(found) == 1 else _Configuration()

    @property
    def patch_size(self) -> list[int] | None:
        """Patch of the pretraining, in voxels."""
        return self.pretrain_patch_size or self.configuration.patch_size or self.recommended_downstream_patchsize

    @property
    def intensity(self) -> str | None:
        """`zscore`, `unit`, or None if it is neither or not said."""
        rules = {_SCHEMES.get(scheme) for scheme in self.configuration.normalization_schemes}
        return rules.pop() if len(rules) == 1 else None

    def facts(self) -> dict[str, Any]:
        """What encoder.json keeps of the plan."""
        return {
            "network": self.architecture_plans.arch_class_name,
            "dataset": self.pretrain_plan.dataset_name,
            "channels": self.pretrain_num_input_channels,
            "spacing": self.configuration.spacing,
            "normalisation": self.configuration.normalization_schemes,
            "patch_size": self.patch_size,
        }


def read_plan(path: Path, extras: Mapping[str, Any]) -> AdaptationPlan | None:
    """The plan in a checkpoint or beside it; None if there is neither.

    Args:
        path: of the checkpoint.
        extras: plain values in the checkpoint.

    Raises:
        UserError: a plan is damaged, or the two contradict each other.
    """
    inside, beside = extras.get(KEY), path.with_name(BESIDE)
    plans = [_parse(content, where) for content, where in (
        (inside, path), (read_json(beside) if beside.is_file() else None, beside)) if content is not None]  # fmt: skip
    if len(plans) == 2:
        first, second = ({key: value for key, value in plan.model_dump().items() if key != "trainer_name"} for plan in plans)
        if different := sorted(key for key in first.keys() | second.keys() if first.get(key) != second.get(key)):
            raise UserError(
                f"the plan in the checkpoint and the one beside it differ in {', '.join(different)}",
                where=beside,
                fix=f"fetch both files from the same place, or move {BESIDE} away if it belongs to another file",
            )
    return plans[0] if plans else None


def _parse(content: Any, where: Path) -> AdaptationPlan:
    try:
        return AdaptationPlan.model_validate(content)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()[:20]]
        raise UserError(
            "\n  ".join(["not an adaptation plan of nnssl:", *lines]), where=where, fix="fetch the file again"
        ) from error


def check_plan(
    plan: AdaptationPlan,
    names: Sequence[str],
    backbone: Mapping[str, Any],
    in_channels: int,
    facts: Mapping[str, Any],
    where: Path,
) -> None:
    """Holds a plan against the file that it describes, and against what the entry or the command line says.

    Args:
        names: of the tensors in the file, without wrappers.
        backbone: architecture and options of the network that is imported.
        in_channels: of the tensors.
        facts: preprocess, intensity and patch_size, each None if it is not stated.

    Raises:
        UserError: lists the contradictions.
    """
    problems = [*_of_file(plan, names, in_channels), *_of_network(plan, backbone), *_of_facts(plan, facts)]
    if problems:
        raise UserError(
            "\n  ".join(["the adaptation plan contradicts the file or its entry:", *problems]),
            where=where,
            fix="fetch the file and its plan again, or correct the entry in config/weights.yaml (or the options of the command)",
        )


def _of_file(plan: AdaptationPlan, names: Sequence[str], in_channels: int) -> Iterator[str]:
    for key in ("key_to_encoder", "key_to_stem", "key_to_lpe"):
        if (prefix := getattr(plan, key)) and not any(_is_under(name, bare_name(prefix)) for name in names):
            yield f"{key}: no tensor is called {prefix}..."
    for prefix in plan.keys_to_in_proj:
        if not any(_is_under(name, bare_name(prefix)) for name in names):
            yield f"keys_to_in_proj: no tensor is called {prefix}..."
    if plan.pretrain_num_input_channels not in (None, in_channels):
        yield f"pretrain_num_input_channels is {plan.pretrain_num_input_channels}, the first convolution reads {in_channels}"


def _is_under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _of_network(plan: AdaptationPlan, backbone: Mapping[str, Any]) -> Iterator[str]:
    """Contradictions between the class that the plan names and the network of the tensors."""
    named = plan.architecture_plans.arch_class_name
    known = {"resenc": ("resenc", "residualencoder"), "primus": ("primus",)}
    kinds = [kind for kind, words in known.items() if any(word in named.lower() for word in words)]
    if kinds and backbone["architecture"] not in kinds:
        yield f"arch_class_name is {named}, the tensors are those of a '{backbone['architecture']}'"
    kwargs = plan.architecture_plans.arch_kwargs or {}
    for theirs, ours in (("features_per_stage", "widths"), ("n_blocks_per_stage", "blocks")):
        if ours in backbone["options"] and kwargs.get(theirs) not in (None, backbone["options"][ours]):
            yield f"arch_kwargs.{theirs} is {kwargs[theirs]}, the tensors have {backbone['options'][ours]}"


def _of_facts(plan: AdaptationPlan, facts: Mapping[str, Any]) -> Iterator[str]:
    """Contradictions with the entry; axes are sorted, since nnssl counts them from z and this project from x."""
    recipe = facts.get("preprocess")
    spacing = plan.configuration.spacing
    if recipe and spacing and sorted(spacing) != sorted(recipe["spacing_mm"]):
        yield f"spacing is {spacing} mm, the preprocess recipe of the entry has {recipe['spacing_mm']}"
    if facts.get("intensity") and plan.intensity not in (None, facts["intensity"]):
        schemes = plan.configuration.normalization_schemes
        yield f"normalization_schemes are {schemes}, the entry says intensity {facts['intensity']}"
    if facts.get("patch_size") and plan.patch_size and sorted(plan.patch_size) != sorted(facts["patch_size"]):
        yield f"the patch is {plan.patch_size}, the entry says {facts['patch_size']}"
