"""The typed config of a study, from the YAML under `config/`. Imports neither torch nor Snakemake.

Every file maps *sections* (`backbones:`, `pretexts:`, `tables:` ...) to named entries. An entry may start from another one
with `like:` and give only the differences. A study file adds `title`, `seed`, `folds` and `build`, may have entries of its
own, and changes a catalogue entry for this study alone by starting from it under the same name. No YAML file runs code.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from brainpretrain import datasets
from brainpretrain.augment.config import PolicyConfig
from brainpretrain.config.explaining import validate
from brainpretrain.config.merging import Catalogue, merge
from brainpretrain.config.options import check_modules
from brainpretrain.config.placing import names_lines
from brainpretrain.config.reading import read_yaml
from brainpretrain.config.sections import (
    SECTIONS,
    Backbone,
    Corpus,
    Dataset,
    Finetune,
    Inference,
    Preprocess,
    Pretext,
    Release,
    Settings,
    Study,
    Table,
    Task,
)
from brainpretrain.datasets.base import Dataset as Description
from brainpretrain.errors import UserError, nearest

SHARED = "config.yaml"
LOCAL = "local.yaml"  # settings of one machine or person; git ignores it


class Config(BaseModel):
    """All settings and entries that a study can use, validated."""

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
    files: dict[str, dict[str, str]] = Field({}, exclude=True, repr=False, description="file of every entry, by section and name")

    def where(self, section: str, name: str) -> str:
        """File and key of an entry, for messages."""
        file = self.files.get(section, {}).get(name)
        return f"{file}: {section}.{name}" if file else f"{section}.{name}"

    def get(self, section: str, name: str, named_in: str) -> Any:
        """Entry `name` of `section`; `named_in` is the place that names it, for the message.

        Raises:
            UserError: there is no such entry; gives the nearest name.
        """
        entries = getattr(self, section)
        if name not in entries:
            raise UserError(f"no entry '{name}' in '{section}'", where=named_in, fix=nearest(name, list(entries)))
        return entries[name]

    def data_root(self, dataset: str) -> str:
        """Folder of the raw files of a data set."""
        return self.settings.data_roots.get(dataset) or str(Path(self.settings.data_root) / dataset)

    def incoming(self, dataset: str) -> str:
        """Folder for the archives of a data set, from a user or a download."""
        return str(Path(self.settings.data_root) / "incoming" / dataset)

    def described(self, dataset: str) -> Description:
        """The description of a data set: from its options if it is the user's own, else from its module.

        Raises:
            UserError: there is no such data set.
        """
        entry = self.datasets.get(dataset)
        return datasets.describe(entry.module, entry.options) if entry else datasets.load(dataset)

    def stored_as(self, preprocess: str, dataset: str = "") -> dict[str, Any]:
        """A preprocess recipe without its tolerance for rejected volumes, which changes no stored volume.

        With a data set: the recipe for its volumes. From a data set that is taken `whole`, no volume is left out by size or sign.
        """
        recipe = self.preprocess[preprocess].model_dump(mode="json", exclude={"max_rejected_fraction"})
        if dataset and self.described(dataset).whole:
            recipe |= {"min_size": 1, "allow_negative": True}
        return recipe

    def release(self, name: str, backbone: str) -> dict[str, Any]:
        """The facts that an import needs about the file of a release for one backbone.

        Raises:
            UserError: no such release, or none of its files is for this backbone.
        """
        release = self.get("weights", name, f"backbone {backbone}")
        if backbone not in release.files:
            raise UserError(
                f"the release '{name}' has no file for the backbone '{backbone}'",
                where=f"weights.{name}.files",
                fix=nearest(backbone, list(release.files)),
            )
        self.get("preprocess", release.preprocess, f"weights.{name}")
        facts = release.model_dump(mode="json", exclude={"files"}) | {"preprocess": self.stored_as(release.preprocess)}
        return {"release": name, **facts, **release.files[backbone].model_dump(mode="json")}

    def release_of_file(self, file: Path | str) -> dict[str, Any] | None:
        """As `release`, found by the name of a file, and of its folder if the release states one; None if no release fits."""
        parts = Path(file).parts
        for name, release in self.weights.items():
            for backbone, released in release.files.items():
                wanted = Path(released.file).parts
                if parts[-len(wanted) :] == wanted:
                    return self.release(name, backbone)
        return None

    def pretext(self, name: str, backbone: str) -> Pretext:
        """The pretext recipe with its `per_backbone` changes for `backbone`.

        Raises:
            UserError: there is no such pretext, or the changes make an invalid recipe.
        """
        recipe = self.get("pretexts", name, f"backbone {backbone}")
        changes = recipe.per_backbone.get(backbone)
        if not changes:
            return recipe
        return validate(Pretext, merge(recipe.model_dump(), changes), f"pretexts.{name}.per_backbone.{backbone}")


def inference(settings: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Settings of a sliding window from outside the catalogue, checked as an entry is.

    Raises:
        UserError: a key is missing, unknown or out of range.
    """
    return validate(Inference, dict(settings), where).model_dump(mode="json")


@names_lines
def load(folder: Path | str = "config", overrides: dict[str, Any] | None = None) -> Config:
    """Reads `config.yaml`, `local.yaml` if there is one, the catalogue files next to them and the chosen study.

    Args:
        folder: the config folder.
        overrides: settings given on the command line (`snakemake --config study=demo`).

    Raises:
        UserError: an error in a file, with file, key and the nearest valid key.
    """
    folder = Path(folder)
    settings, roots = _settings(folder, overrides or {})
    study_file = study_path(folder, settings.study)
    catalogue = Catalogue(SECTIONS)
    head: dict[str, Any] = {}
    for path in [*sorted(path for path in folder.glob("*.yaml") if path.name not in (SHARED, LOCAL)), study_file]:
        for key, content in read_yaml(path).items():
            if key in SECTIONS:
                catalogue.add(key, content, path)
            elif path == study_file and key in Study.model_fields:
                head[key] = content
            elif path == study_file and key == "data_roots" and isinstance(content, dict):
                settings = _with_roots(settings, content, roots, "data_roots" in (overrides or {}), path)
            else:
                keys = [*SECTIONS, *(Study.model_fields if path == study_file else ())]
                raise UserError(f"unknown key '{key}'", where=path, fix=nearest(key, keys))
    study = validate(Study, head, str(study_file))
    entries = {
        section: {
            name: validate(model, catalogue.resolve(section, name), catalogue.where(section, name))
            for name in catalogue.entries[section]
        }
        for section, model in SECTIONS.items()
    }
    files = {section: {name: _shown(catalogue.files[section, name], folder) for name in entries[section]} for section in SECTIONS}
    config = Config(settings=settings, study_name=study_file.stem, study=study, files=files, **entries)
    check_modules(config, catalogue)
    return config


def _settings(folder: Path, overrides: Mapping[str, Any]) -> tuple[Settings, dict[str, str]]:
    """The settings of config.yaml, local.yaml and the command line, the later first; and the data folders of the latter two."""
    path, local = folder / SHARED, folder / LOCAL
    given = read_yaml(path)
    validate(Settings, given, str(path))
    own = read_yaml(local) if local.exists() else {}
    if own:
        given = merge(given, own)
        validate(Settings, given, str(local))
    own_roots = dict(own.get("data_roots") or {}) if "data_roots" not in overrides else {}
    return validate(Settings, given | dict(overrides), str(path)), own_roots | dict(overrides.get("data_roots") or {})


def _with_roots(settings: Settings, roots: Mapping[str, Any], nearer: Mapping[str, str], alone: bool, path: Path) -> Settings:
    """Settings with the folders that a study states, which precede those of config.yaml, but not local.yaml and the command line.

    Args:
        nearer: the folders of local.yaml and of the command line.
        alone: whether the command line gives folders, which then replace all that other files give but the study.
    """
    known = {} if alone else settings.data_roots
    return validate(Settings, settings.model_dump() | {"data_roots": known | dict(roots) | nearer}, str(path))


def _shown(path: Path, folder: Path) -> str:
    """A file of the config as messages of a plan show it: from the config folder on."""
    return str(path.relative_to(folder.parent)) if path.is_relative_to(folder) else str(path)


def study_path(folder: Path, study: str) -> Path:
    """File of a study, which is given as a name in `config/studies/` or as a path.

    Raises:
        UserError: there is no study of that name; gives the nearest one.
    """
    if study.endswith((".yaml", ".yml")):
        return Path(study)
    path = folder / "studies" / f"{study}.yaml"
    if not path.exists():
        names = sorted(p.stem for p in (folder / "studies").glob("*.yaml"))
        raise UserError(f"no study '{study}'", where=folder / "studies", fix=nearest(study, names))
    return path
