"""The base of every section, and the types of its values."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from brainpretrain.preprocess import recipes

NAME = r"^[a-z0-9][a-z0-9_]*$"
Name = Annotated[str, Field(pattern=NAME)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Label = Annotated[int, Field(ge=1, le=65535)]
Size3 = Annotated[list[Count], Field(min_length=3, max_length=3)]
NTrain = Annotated[int, Field(ge=0)] | Literal["all"]


def check_n_train(value: Any) -> Any:
    """One message for a bad number of training cases; pydantic would give one for each type of the union."""
    for number in value if isinstance(value, list) else [value]:
        if number not in (None, "all") and not str(number).isdigit():
            raise ValueError("a number from 0, or 'all'")
    return value


def later(key: str, description: str) -> Any:
    """A field of a preprocess recipe that came later: written out with its default, it would run finished studies again."""
    default = recipes.DEFAULTS[key]
    return Field(default, exclude_if=lambda value: value == default, description=description)


class Section(BaseModel):
    """Base of every entry: unknown keys are refused, `note` is free text that changes nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    note: str = Field("", exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, content: Any) -> Any:
        """YAML reads `yes` as true, which would count as 1."""
        for key, value in content.items() if isinstance(content, dict) else ():
            if isinstance(value, bool) and key in cls.model_fields and cls.model_fields[key].annotation is not bool:
                raise ValueError(f"'{key}' cannot be true or false (YAML reads yes, no, on and off as these)")
        return content
