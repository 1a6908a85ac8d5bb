"""The common parts of all descriptions of own data: options from YAML, and the `Dataset` built from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from brainpretrain.datasets.base import Dataset
from brainpretrain.errors import UserError, nearest

UNSTATED = "not stated"
T = TypeVar("T", bound="Options")
Count = Annotated[int, Field(ge=1)]
Label = Annotated[int, Field(ge=1, le=65535)]


class Options(BaseModel):
    """Options of every kind of own data."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    n_shards: Count = Field(1, description="a constant: about one for 256 volumes")
    labels: dict[Label, str] = Field(
        {}, description="names of all values of the label files; a file with another one is rejected"
    )
    licence: str = UNSTATED
    citation: str = UNSTATED


def parse(model: type[T], options: Mapping[str, Any]) -> T:
    """Validates options.

    Raises:
        UserError: an option is unknown, missing or of a wrong type; the message lists all of them.
    """
    try:
        return model.model_validate(options)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"])
            hint = f"; {nearest(key, list(model.model_fields))}" if problem["type"] == "extra_forbidden" else ""
            lines.append(f"options.{key}: {problem['msg'].removeprefix('Value error, ')}{hint}")
        raise UserError("\n".join(lines), where="datasets: options", fix="correct these keys") from error


def dataset(kind: str, options: Options, **facts: Any) -> Dataset:
    """The description of own data, for which no page, archive or count is on record."""
    common: dict[str, Any] = {
        "access": "place",
        "page": "",
        "licence": options.licence,
        "licence_url": "",
        "citation": options.citation,
        "redistribution": options.licence.startswith("CC") and "ND" not in options.licence,
        "archives": (),
        "labels": options.labels,
        "label_sequences": (),
        "layouts": (),
        "expected": None,
        "n_shards": options.n_shards,
    }
    return Dataset(**({"name": kind} | common | facts))


def check_template(template: str, groups: Iterable[str]) -> str:
    """Returns a path template with fields such as `{subject}` unchanged.

    Raises:
        ValueError: it names a group that does not exist.
    """
    try:
        template.format(**dict.fromkeys(groups, ""))
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise ValueError(f"'{template}' may name {', '.join('{' + name + '}' for name in groups)} ({error!r})") from error
    return template
