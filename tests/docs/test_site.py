"""The pages of the documentation site, built without mkdocs: all are in the navigation, links hold, keys and commands are listed."""

from __future__ import annotations

import os
import re

import pytest
from docs.site import build, methods, reference

from brainpretrain import named
from brainpretrain.cli import COMMANDS
from brainpretrain.config.options import build_options
from brainpretrain.config.reading import read_yaml
from helpers import ROOT


@pytest.fixture(scope="module")
def pages():
    return build.tree()


def test_every_page_is_in_the_navigation_once(pages):
    listed = build.listed(build.settings(pages)["nav"])
    assert sorted(listed) == sorted(pages)


def test_every_link_leads_to_a_page_a_picture_or_a_heading(pages):
    pictures = {str(path.relative_to(ROOT / "docs")) for path in build.pictures()}
    for address, text in pages.items():
        for _, _, target in build.links(text):
            if target.startswith(("http://", "https://")):
                continue
            path, _, anchor = target.partition("#")
            file = os.path.normpath(os.path.join(os.path.dirname(address), path)) if path else address
            assert file in pages or file in pictures, f"{address}: {target}"
            if anchor:
                assert anchor in build.anchors(pages[file]), f"{address}: {target}"


def test_links_to_other_files_of_the_repository_become_their_paths():
    mapped = {"docs/a.md": "a.md", "docs/sub/b.md": "sub/b.md", "src/room/README.md": "code/room.md"}
    text = "[b](sub/b.md#x) [room](../src/room/README.md) [key](../config/pretext.yaml) ![p](p.png)\n```\n[b](sub/b.md)\n```\n"
    made = build.relinked(text, "docs/a.md", "a.md", mapped, {})
    assert made.startswith("[b](sub/b.md#x) [room](code/room.md) key (`config/pretext.yaml`) ![p](p.png)\n")
    assert "```\n[b](sub/b.md)\n```" in made
    assert build.relinked("[a](../a.md)", "docs/sub/b.md", "sub/b.md", mapped, {}) == "[a](../a.md)"


@pytest.mark.parametrize("section", reference.MODELS)
def test_every_config_key_has_a_line_with_type_default_and_unit(pages, section):
    page = pages[f"reference/config/{section}.md"]
    keys = [key for key in reference.MODELS[section].model_fields if key != "note"]
    assert keys
    for key in keys:
        (line, *_) = re.findall(rf"^\| `{key}` \|.*$", page, re.MULTILINE) or pytest.fail(f"no line of {key}")
        assert all(cell.strip() for cell in line.replace("\\|", "/").split("|")[2:5]), line


def test_a_line_of_a_key_states_what_the_model_says(pages):
    page = pages["reference/config/preprocess.md"]
    assert "| `spacing_mm` | list of 3: number above 0 | **needed** | mm |" in page
    assert "| `n4_shrink` | whole number from 1 | `" in page


def test_every_command_and_argument_has_a_line(pages):
    for group, commands in COMMANDS.items():
        page = pages[f"reference/commands/{group.replace(' ', '_')}.md"]
        for command, (_, summary) in commands.items():
            part = page.split(f"\n## {command}\n")[1].split("\n## ")[0]
            assert f"{summary[0].upper()}{summary[1:]}." in part
            for names, _ in reference.REGISTERED[command][1]:
                assert f"| `{'`, `'.join(names)}` |" in part


def test_every_method_has_a_page_with_its_options(pages):
    for package in ("backbones", "decoders", "pretext"):
        for name in set(named.names(package)) - {"about", "planning", "base", "tokens", "monai_blocks"}:
            page = pages[f"methods/{'pretexts' if package == 'pretext' else package}/{name}.md"]
            for option in build_options(package, name):
                assert re.search(rf"^\| `{option}` \| .+ \| .+ \| .+ \|$", page, re.MULTILINE), f"{package}/{name}: {option}"
    for recipe in read_yaml(ROOT / "config" / "finetune.yaml")["finetune"]:
        assert "## Phases" in pages[f"methods/recipes/{recipe}.md"]


def test_every_pretext_of_the_catalogue_is_on_one_page(pages):
    text = "\n".join(page for address, page in pages.items() if address.startswith("methods/pretexts/"))
    for entry in read_yaml(ROOT / "config" / "pretext.yaml")["pretexts"]:
        assert len(re.findall(rf"^{entry}:", text, re.MULTILINE)) == 1, entry


def test_deviations_of_a_recipe_are_those_that_name_it():
    training = (ROOT / "docs" / "training.md").read_text()
    rows = "\n".join(methods._deviations(training, "zhang_swinunetr"))
    assert "windows of 160" in rows and "100 epochs" in rows and "amsgrad" not in rows
    assert methods._deviations(training, "amaes_warmup") == []
