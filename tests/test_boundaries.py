"""What each layer must not know or do."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

from helpers import ROOT

SOURCES = sorted((ROOT / "src").rglob("*.py"))
LIGHT = [
    "config",
    "plan",
    "splits",
    "schedule",
    "volumes",
    "shards",
    "datasets",
    "datasets.fetch",
    "obtain",
    "cli",
    "tables",
    "grids",
    "statistics",
    "pages",
    "budgets",
    "costs",
    "landing",
    "viewer",
    "cards",
    "history",
    "status",
]


@pytest.mark.parametrize("module", LIGHT)
def test_planning_and_preprocessing_start_without_torch(module):
    code = (
        f"import sys, brainpretrain.{module}; heavy = {{'torch', 'lightning', 'monai', 'matplotlib', 'SimpleITK', 'snakemake'}};"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "src")
    assert done.stdout.split() == []


def test_the_workflow_is_planned_without_pandas():
    """What the Snakefile imports, since a dry run waits for it."""
    code = "import sys, brainpretrain.config, brainpretrain.plan, brainpretrain.obtain; print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "src")
    assert done.stdout.split() == ["False"]


FORBIDDEN = {
    "pickle": r"\bimport (pickle|dill|joblib|shelve)\b|allow_pickle=True",
    "torch.load or torch.save": r"\btorch\.(load|save)\(",
    "code from text": r"(?<![\w.])(eval|exec|__import__)\(",
    "an unsafe YAML loader": r"yaml\.(load|unsafe_load|full_load)\((?!stream, Loader=_Loader\))",
    "a shell": r"shell=True|os\.system|os\.popen",
    "extraction without a filter": r"extractall\((?!.*filter=)",
    "a second NIfTI reader": r"nib\.load\(|ReadImage\(",
}

# torch's own format is read in one place, as plain tensors, and written in one place, for nnU-Net
ALLOWED = {
    "torch.load or torch.save": [
        'exporting.py: torch.save({"network_weights": state}, temporary)',
        'importing.py: return torch.load(path, map_location="cpu", weights_only=True, mmap=True)',
    ]
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_library_uses_no(what):
    found = [
        f"{path.name}: {line.strip()}"
        for path in SOURCES
        for line in path.read_text().splitlines()
        if re.search(FORBIDDEN[what], line)
    ]
    # the template maps come out of an installed package, not from a user
    found = [line for line in found if not line.startswith("synthetic.py: ")]
    assert found == ALLOWED.get(what, [])


def test_rules_are_shell_commands_of_the_library():
    for path in sorted((ROOT / "rules").glob("*.smk")):
        text = path.read_text()
        assert not re.search(r"^    (script|run|notebook|wrapper):", text, re.MULTILINE), path.name
        assert "ancient(" not in text, path.name  # see docs/decisions.md
        for command in re.findall(r"^    shell:\n(.*?)(?=\n\S|\n\n\n|\Z)", text, re.MULTILINE | re.DOTALL):
            assert "brainpretrain " in command and "{log:q}" in command, command


def test_every_public_name_of_the_library_says_what_it_is():
    missing = []
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        if path.name != "__init__.py" and not ast.get_docstring(tree):
            missing.append(path.name)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node):
                missing.append(f"{path.relative_to(ROOT)}: {node.name}")
    assert missing == []


def test_no_volume_or_weights_are_in_the_repository():
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    names = done.stdout.splitlines()
    assert not [
        name
        for name in names
        if name.endswith((".nii", ".nii.gz", ".mha", ".nrrd", ".dcm", ".pth", ".ckpt", ".safetensors", ".b2nd"))
    ]
