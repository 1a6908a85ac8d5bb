"""Whether backbones, decoders, pretexts and own data sets exist and take the options of their entries.

Options are the keyword parameters of the module's `build`, read from its source, so that a dry run imports no torch.
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from brainpretrain import datasets, named
from brainpretrain.augment.config import PolicyConfig
from brainpretrain.config.explaining import validate
from brainpretrain.config.merging import Catalogue
from brainpretrain.config.sections import Backbone, Encoder, PretrainRecipe
from brainpretrain.errors import UserError, nearest

if TYPE_CHECKING:
    from brainpretrain.config import Config


class Option(NamedTuple):
    """A keyword parameter of `build`. `kinds`: of "number" and "list of numbers" those that it takes; empty: not checked."""

    kinds: tuple[str, ...]
    required: bool


def check_modules(config: Config, catalogue: Catalogue) -> None:
    """Checks the modules and options that the entries of a config name.

    Raises:
        UserError: there is no such module; an option is unknown, missing, or not a number where one is needed.
    """
    for name, entry in config.datasets.items():
        try:
            datasets.describe(entry.module, entry.options)
        except UserError as error:
            raise UserError(error.problem, where=catalogue.where("datasets", name), fix=error.fix) from error
    for name, entry in config.backbones.items():
        check_backbone(entry, catalogue.where("backbones", name))
    for name, entry in config.finetune.items():
        if entry.decoder:
            _check_decoder(entry.decoder, entry.decoder_options, catalogue.where("finetune", name))
    for name, entry in config.pretexts.items():
        check_pretext(entry, catalogue.where("pretexts", name))


def check_backbone(entry: Encoder, where: str) -> None:
    """Checks the architecture and, if the entry has one, the decoder, each with its options; raises as `check_modules`."""
    _check(entry.options, "options", _module_options("backbones", entry.architecture, where), where)
    if isinstance(entry, Backbone):
        _check_decoder(entry.decoder, entry.decoder_options, where)


def check_pretext(entry: PretrainRecipe, where: str) -> None:
    """Checks the method and, if its options name one, the decoder, each with its options; raises as `check_modules`."""
    _check(entry.options, "options", _module_options("pretext", entry.method, where), where)
    policy = entry.options.get("augment")
    if policy is not None and validate(PolicyConfig, policy, f"{where}: options.augment").is_spatial:
        fix = "leave out rotation, scale and elastic"
        raise UserError("options.augment: a pretext does not move its crops off their grid", where=where, fix=fix)
    if "decoder" in entry.options:
        _check_decoder(entry.options["decoder"], entry.options.get("decoder_options", {}), where)


@functools.cache
def build_options(package: str, module: str) -> dict[str, Option]:
    """Keyword parameters of `build` in `<package>/<module>.py`, which must exist."""
    path = Path(__file__).parents[1] / package / f"{module}.py"
    body = ast.parse(path.read_text(encoding="utf-8")).body
    (build,) = (node for node in body if isinstance(node, ast.FunctionDef) and node.name == "build")
    keywords = zip(build.args.kwonlyargs, build.args.kw_defaults, strict=True)
    return {argument.arg: Option(_kinds(argument.annotation), default is None) for argument, default in keywords}


def _kinds(annotation: ast.expr | None) -> tuple[str, ...]:
    """("number",), ("list of numbers",) or both, in the order of the annotation; empty if it allows anything else.

    Read from the syntax tree: `int`, `float`, `list[...]` and `Sequence[...]` of these, and unions.
    """
    match annotation:
        case ast.Name("int" | "float"):
            return ("number",)
        case ast.Subscript(ast.Name("list" | "Sequence"), item) if _kinds(item) == ("number",):
            return ("list of numbers",)
        case ast.BinOp(left, ast.BitOr(), right) if (first := _kinds(left)) and (second := _kinds(right)):
            return tuple(dict.fromkeys(first + second))
    return ()


def _module_options(package: str, module: str, where: str) -> dict[str, Option]:
    modules = named.names(package)
    if module not in modules:
        raise UserError(f"there is no {package}/{module}.py", where=where, fix=nearest(module, modules))
    return build_options(package, module)


def _check_decoder(name: str, options: dict[str, Any], where: str) -> None:
    _check(options, "decoder_options", _module_options("decoders", name, where), where)


def _check(values: dict[str, Any], field: str, options: dict[str, Option], where: str) -> None:
    """Compares the values of one field of an entry with the options that its module takes."""
    for key, value in values.items():
        if key not in options:
            raise UserError(f"{field}.{key}: unknown key", where=where, fix=nearest(key, sorted(options)))
        kinds = options[key].kinds
        if kinds and not any(_is(value, kind) for kind in kinds):
            kind = kinds[-1] if isinstance(value, list) else kinds[0]
            raise UserError(
                f"{field}.{key}: {value!r} is not a {kind}", where=where, fix="write numbers without quotes, as in 0.6 or 6.0e-1"
            )
    missing = sorted(key for key, option in options.items() if option.required and key not in values)
    if missing:
        raise UserError(f"{field}: {', '.join(missing)} missing", where=where, fix=f"add it below '{field}:'")


def _is(value: Any, kind: str) -> bool:
    if kind == "list of numbers":
        return isinstance(value, list) and all(_is(item, "number") for item in value)
    return isinstance(value, int | float) and not isinstance(value, bool)
