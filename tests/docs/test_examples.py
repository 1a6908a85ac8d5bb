"""Every YAML block of the documents that is a part of a study, or of the settings, is read and planned."""

import re

import pytest
import yaml

from brainpretrain import config
from brainpretrain.config.merging import merge
from brainpretrain.config.sections import SECTIONS, Settings, Study
from brainpretrain.errors import UserError
from brainpretrain.plan import tables
from helpers import ROOT

PAGES = ("README.md", *(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs").rglob("*.md"))))
# blocks of docs/adding.md continue one another and are copied by tests/datasets; a frontmatter or a profile is no config
OTHERS = ("docs/adding.md",)


# what a page shows of an entry are changes of these
FRAGMENTS = {"tasks": {"like": "phantom_tissue", "sequences": ["FLAIR", "T1w"], "lesions": []}, "tables": {"like": "demo"}}


def is_fragment(section, entry):
    required = {name for name, field in SECTIONS[section].model_fields.items() if field.is_required()}
    return section in FRAGMENTS and "like" not in entry and not required <= set(entry)


def blocks():
    for page in PAGES:
        if page in OTHERS:
            continue
        for number, text in enumerate(re.findall(r"^```yaml\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)):
            content = yaml.safe_load(text)
            if isinstance(content, dict) and set(content) <= {*SECTIONS, *Settings.model_fields, *Study.model_fields}:
                yield pytest.param(content, id=f"{page}-{number}")


def test_there_are_examples():
    assert len(list(blocks())) >= 8


@pytest.mark.parametrize("content", [*blocks()])
def test_an_example_is_taken(config_dir, content):
    """Settings go into local.yaml; entries go into the demo's study, and an entry that has its name is merged with it."""
    settings = {key: value for key, value in content.items() if key in Settings.model_fields and key not in Study.model_fields}
    entries = {key: value for key, value in content.items() if key not in settings}
    (config_dir / "local.yaml").write_text(yaml.safe_dump(settings))
    path = config_dir / "studies" / "demo.yaml"
    catalogue = config.load(config_dir, {"study": "demo"})
    study = yaml.safe_load(path.read_text())
    for section, named in entries.items():
        if section in SECTIONS:
            for name, entry in named.items():
                known = name in getattr(catalogue, section) and name not in study.get(section, {})
                start = {"like": name} if known else FRAGMENTS[section] if is_fragment(section, entry) else {}
                study.setdefault(section, {})[name] = start | entry
        else:
            study = merge(study, {section: named})
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    try:
        tables.make(config.load(config_dir, {"study": "demo"}))
    except UserError as error:
        pytest.fail(str(error))
