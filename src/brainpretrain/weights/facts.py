"""The facts of weights: the keys of encoder.json and model.json that the rest of the library relies on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from brainpretrain.errors import UserError

MAX_OPTION = 8192  # largest number in the options of a backbone that a file describes


def check_facts(facts: Any, path: Path) -> None:
    """Checks the keys of encoder.json or model.json that the rest of the library relies on.

    Raises:
        UserError: lists every key that is missing or has a wrong type.
    """
    try:
        _Facts.model_validate(facts, strict=True)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()[:20]]
        problem = "\n  ".join(["not the facts of an encoder:", *lines])
        raise UserError(problem, where=path, fix="take the json that was written with the tensors") from error


class _Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class _Backbone(_Open):
    architecture: str
    options: dict[str, Any]

    @field_validator("options")
    @classmethod
    def _bounded(cls, options: dict[str, Any]) -> dict[str, Any]:
        for value in options.values():
            for number in value if isinstance(value, list) else [value]:
                if not isinstance(number, bool | int | float | str | None) or (
                    isinstance(number, int | float) and not 0 <= number <= MAX_OPTION
                ):
                    raise ValueError(f"an option is a word, or a number or numbers from 0 to {MAX_OPTION}")
        return options


class _Prepared(_Open):
    spacing_mm: list[float]
    upper_quantile: float
    crop: str


class _Counted(_Open):
    subjects: int
    volumes: int


class _Recipe(_Open):
    patch_size: list[int] | None = None


class _Facts(_Open):
    name: str | None = None
    backbone: _Backbone
    in_channels: Annotated[int, Field(ge=1, le=MAX_OPTION)]
    preprocess: _Prepared | None = None
    intensity: Literal["unit", "zscore"] = "unit"
    patch_size: list[int] | None = None
    datasets: dict[str, _Counted] | None = None
    corpus_sha256: str | None = None
    steps: int | None = None
    commit: str | None = None
    recipe: _Recipe = _Recipe()
