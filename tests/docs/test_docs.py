"""The documentation names files, commands, rules, functions and tests that exist."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from brainpretrain.cli import COMMANDS
from helpers import ROOT

PAGES = sorted(
    [ROOT / "README.md"]
    + [path for folder in ("docs", "src", "rules", "envs", "slurm", "tests", "bench") for path in (ROOT / folder).rglob("*.md")]
)
PAGES = [path for path in PAGES if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)]
ROOMS = sorted(path.parent for path in (ROOT / "src" / "brainpretrain").glob("*/__init__.py"))
FOLDERS = "src|tests|rules|config|docs|bench|envs|slurm|local|workstation"
CREATED = {  # files that the examples of docs/adding.md ask the reader to write
    "src/brainpretrain/datasets/mylesions.py",
    "src/brainpretrain/backbones/plain.py",
    "src/brainpretrain/pretext/slabs.py",
    "config/studies/mylesions.yaml",
    "config/studies/mydata.yaml",
}
GENERATED = (
    "config/local.yaml",
    "envs/brainpretrain.sif",
    "slurm/partitions.yaml",
    "bench/.venv",
    "docs/.venv",
    "tests/fuzz/findings",
)
OPTIONS = {"test_fraction", "test_labels"}  # of a config


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def code(text: str) -> Iterator[str]:
    """Lines of code blocks and the contents of code spans."""
    for block in re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        yield from block.splitlines()
    prose = re.sub(r"^ *```\w*\n.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`([^`\n]+)`", prose)


def anchors(path: Path) -> set[str]:
    """Anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def paths(text: str) -> set[str]:
    """Paths of the repository that a text names; a path that continues with a placeholder ends before it."""
    found = re.findall(rf"(?<![\w/.<>$~}}-])(?:{FOLDERS})/[\w./*-]*", text)
    return {path.rstrip(".-") for path in found}


def defined(path: Path) -> set[str]:
    """Names of functions and classes at the top of a file."""
    tree = ast.parse(path.read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def rules() -> set[str]:
    """Names of all rules."""
    files = [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")]
    named = r"^ *(?:rule (\w+):|use rule \w+ as (\w+) with:|name:\s*\"(\w+)\")"
    return {rule for path in files for words in re.findall(named, path.read_text(), re.MULTILINE) for rule in words if rule}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split("|")]


def test_the_pages_are_found():
    assert {"README.md", "docs/workflow.md", "rules/README.md", "src/brainpretrain/README.md"} <= {name(path) for path in PAGES}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files_and_headings_that_exist(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_paths_of_the_repository_exist(page):
    starts = (
        [ROOT, ROOT / "src" / "brainpretrain"] if "src" in page.relative_to(ROOT).parts else [ROOT]
    )  # `config/` is a room, too
    for path in paths(page.read_text()) - CREATED:
        if not path.startswith(GENERATED):
            assert any(list(start.glob(path)) for start in starts), path


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_and_targets_of_make_exist(page):
    commands = {command for group in COMMANDS.values() for command in group}
    targets = set(re.findall(r"^([\w./$()-]+(?: [\w-]+)*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    targets = {word for line in targets for word in line.split()}
    for line in code(page.read_text()):
        for command in re.findall(r"\bbrainpretrain ([a-z][a-z-]*)\b", line):
            assert command in commands, line
        for target in re.findall(r"(?:^|# *)make ([a-z][a-z-]*)\b", line):
            assert target in targets, line


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_studies_exist(page):
    studies = {path.stem for path in (ROOT / "config" / "studies").glob("*.yaml")} | {"mylesions", "mydata"}  # of docs/adding.md
    for study in re.findall(r"(?:study=|--study )(\w+)", page.read_text()):
        assert study in studies


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_imports_resolve(page):
    for module, names in re.findall(r"\bfrom (brainpretrain[\w.]*) import (\w+(?:, \w+)*)", page.read_text()):
        for word in names.split(", "):
            try:
                imported = importlib.import_module(module)
            except ModuleNotFoundError:
                pytest.fail(f"no module {module}")
            if not hasattr(imported, word):
                importlib.import_module(f"{module}.{word}")


def test_the_python_of_the_page_on_encoders_compiles():
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "encoder.md").read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        ast.parse(block)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_tests_that_are_named_exist(page):
    tests = "\n".join(path.read_text() for path in sorted((ROOT / "tests").rglob("test_*.py")))
    for test in {word for span in code(page.read_text()) for word in re.findall(r"\b(test_\w+)\b(?!\.py|[/<])", span)} - OPTIONS:
        assert f"def {test}" in tests or list((ROOT / "tests").rglob(f"{test}*")), test


def test_every_room_has_a_readme_whose_files_exist():
    for room in ROOMS:
        if room.name == "cli":  # `brainpretrain --help` lists its commands
            continue
        for line in re.findall(r"^\| `.*$", (room / "README.md").read_text(), re.MULTILINE):
            for file in re.findall(r"`([\w/]+\.(?:py|html|j2))`", cells(line)[0]):
                assert (room / file).exists(), f"{name(room)}: {file}"


def test_the_page_on_the_code_shows_where_functions_are():
    table = (ROOT / "docs" / "code.md").read_text().split("| what | function |")[1].split("\n\n")[0]
    rows = [cells(line) for line in table.splitlines()[2:]]
    assert len(rows) >= 8
    for _, functions, file in rows:
        path = re.findall(r"`([^`<]+\.py)`", file)[-1]
        assert set(re.findall(r"`(\w+)`", functions)) <= defined(ROOT / "src" / "brainpretrain" / path), path


def test_the_stages_have_rules_commands_and_rooms():
    table = (ROOT / "docs" / "code.md").read_text().split("| stage | rules |")[1].split("\n\n")[0]
    commands = {command for group in COMMANDS.values() for command in group}
    stages = set()
    for stage, rule_names, command_names, rooms in (cells(line) for line in table.splitlines()[2:]):
        stages.add(word := re.sub(r"\[(\w+)\].*", r"\1", stage))
        assert (ROOT / "rules" / f"{word}.smk").exists() and (ROOT / "tests" / word).is_dir()
        assert f"[{word}](../src/brainpretrain/{word}/README.md)" in rooms
        assert {rule for rule in re.findall(r"`(\w+)`", rule_names)} <= rules()
        assert set(re.findall(r"`([a-z][a-z-]+)`", command_names)) <= commands
    assert stages == set(COMMANDS) - {"start here"}


def test_the_jobs_of_the_paper_name_every_rule_that_the_study_runs():
    table = (ROOT / "docs" / "reproducing.md").read_text().split("## The jobs")[1].split("\n## ")[0]
    rows = [cells(line) for line in table.splitlines() if line.startswith("| ")][1:]
    named = {rule for row in rows for rule in re.findall(r"`(\w+)`", row[1])}
    assert named <= rules()
    total = 0
    for _, names, jobs, *_ in rows[:-1]:
        numbers = [int(number) for number in re.findall(r"\d+", jobs)]
        total += sum(numbers) * (names.count("`") // 2 if "each" in jobs else 1)
    assert f"**{total}**" == rows[-1][2]
