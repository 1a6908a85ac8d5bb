"""What each layer must not know or do."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

import pytest

import arrows
from helpers import ROOT

SOURCES = sorted((ROOT / "src").rglob("*.py"))

# --- the house: rooms from the ground up, and for each the rooms that it may import, all of them above it in this table
MAY_IMPORT = {
    "ground": "",  # the files at the root; every room may import them
    "augment": "",
    "preprocess": "",
    "sparse": "",
    "backbones": "",
    "datasets": "preprocess",
    "cohorts": "preprocess",
    "download": "preprocess datasets",
    "config": "augment preprocess backbones datasets",
    "weights": "backbones datasets",
    "decoders": "backbones",
    "pretext": "augment sparse backbones decoders",
    "plan": "preprocess backbones datasets cohorts config pretext",
    "training": "augment preprocess backbones cohorts config weights decoders pretext",
    "evaluation": "augment preprocess backbones datasets cohorts config weights decoders",
    "parity": "sparse backbones weights decoders pretext",
    "report": "preprocess datasets cohorts config plan training",
    "cli": "augment preprocess sparse backbones datasets cohorts download config weights plan decoders pretext training evaluation"
    " parity report",
}


def test_the_table_of_rooms_has_no_arrow_upwards():
    rooms = list(MAY_IMPORT)
    for place, (name, targets) in enumerate(MAY_IMPORT.items()):
        assert set(targets.split()) <= set(rooms[1:place]), name


def test_every_room_imports_what_the_table_allows():
    graph = arrows.arrows(ROOT / "src")
    folders = {path.parent.name for path in (ROOT / "src" / "brainpretrain").glob("*/__init__.py")}
    assert folders == set(MAY_IMPORT) - {"ground"}
    wrong = {
        (module, target)
        for module, targets in graph.items()
        for target in targets
        if (start := arrows.room(module, folders)) != (end := arrows.room(target, folders))
        and end not in ["ground", *MAY_IMPORT[start].split()]
    }
    assert wrong == set()


def test_no_files_import_each_other_in_a_circle():
    """Imports for type checkers alone are left out."""
    assert arrows.circles(arrows.arrows(ROOT / "src", types=False)) == []


def test_arrows_are_read_from_every_form_of_import():
    modules = {"files", "report.pages", "report.pages.html", "training"}
    text = """
import brainpretrain.training
from brainpretrain import files
if TYPE_CHECKING:
    from brainpretrain.report.pages import html
def f():
    from brainpretrain.report.pages import missing
"""
    assert arrows.imported(text, modules) == {"training", "files", "report.pages.html", "report.pages"}
    assert arrows.imported(text, modules, types=False) == {"training", "files", "report.pages"}
    assert arrows.circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]


# --- what starts fast
HEAVY = {"torch", "lightning", "monai", "matplotlib", "SimpleITK", "snakemake"}
LIGHT = [
    "cli.cohorts",
    "cli.cohorts_overlap",
    "cli.download",
    "cli.download_check",
    "cli.download_datasets",
    "cli.evaluation",
    "cli.preprocess",
    "cli.report",
    "cli.report_corpus",
    "cli.report_encoders",
    "cli.report_figures",
    "cli.report_overlays",
    "cli.plan",
    "cli.report_power",
    "cli.report_status",
    "cli.report_training",
    "cli.report_watch",
    "cli.training_claim",
    "cli.training_schedule",
    "cli.weights_export",
    "report.landing",
]


def heavy_imports(modules: str) -> set[str]:
    """Names of heavy libraries, and pandas, that a fresh process has loaded after `import modules`."""
    code = f"import sys, {modules}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT / "src")
    return set(done.stdout.split()) & (HEAVY | {"pandas"})


@pytest.mark.parametrize("module", LIGHT)
def test_commands_that_do_not_need_torch_start_without_it(module):
    assert heavy_imports(f"brainpretrain.{module}") <= {"pandas"}


def test_the_workflow_is_planned_without_torch_and_pandas():
    """What the Snakefile imports, since a dry run waits for it."""
    modules = ("config", "plan.tables", "download.download")
    assert heavy_imports(", ".join(f"brainpretrain.{module}" for module in modules)) == set()


CALLS = {
    "a pickle": {"pandas.read_pickle", "pd.read_pickle", "pickle.load", "pickle.loads", "torch.jit.load", "joblib.load"},
    "torch.load or torch.save": {"torch.load", "torch.save"},
    "code from text": {"eval", "exec", "__import__", "compile"},
    "an unsafe YAML loader": {"yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"},
    "a shell": {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"},
    "extraction without a filter": {"shutil.unpack_archive"},
    "a second NIfTI reader": {"nib.load", "nibabel.load", "sitk.ReadImage", "SimpleITK.ReadImage"},
}
PICKLES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}  # modules
SAFE_LOADERS = {"yaml.SafeLoader", "yaml.CSafeLoader", "_Loader"}  # the last is config.py's, a SafeLoader

# torch's own format is read in one place, as plain tensors, and written in one place, for nnU-Net; of the rest, tests make what
# must be refused, and look at what was written
ALLOWED = {
    "src/brainpretrain/weights/exporting.py: torch.load or torch.save",
    "src/brainpretrain/weights/foreign.py: torch.load or torch.save",
    "tests/faults/test_weights.py: a pickle",
    "tests/faults/test_weights.py: torch.load or torch.save",
    "tests/fuzz/weights.py: torch.load or torch.save",
    "tests/support/reference.py: torch.load or torch.save",
    "tests/weights/test_exporting.py: torch.load or torch.save",
    "tests/weights/test_importing.py: torch.load or torch.save",
    "tests/evaluation/test_inference.py: a pickle",
}


def dotted(node: ast.AST) -> str:
    """`a.b.c` of a name or an attribute, else the last attribute alone."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def risks(text: str) -> set[str]:
    """What of the above a Python file does."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {"a pickle" for alias in node.names if alias.name.split(".")[0] in PICKLES}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {what for what, calls in CALLS.items() if names & calls}
            found |= {"a pickle"} if (node.module or "").split(".")[0] in PICKLES else set()
        elif isinstance(node, ast.Call):
            found |= risks_of_a_call(node)
    return found


def risks_of_a_call(node: ast.Call) -> set[str]:
    name, keywords = dotted(node.func), {word.arg: word.value for word in node.keywords}
    found = {what for what, calls in CALLS.items() if name in calls}
    if dotted(keywords.get("Loader", node)) in SAFE_LOADERS:
        found.discard("an unsafe YAML loader")
    if "shell" in keywords and not is_false(keywords["shell"]):
        found.add("a shell")
    if ("allow_pickle" in keywords and not is_false(keywords["allow_pickle"])) or name.endswith(".to_pickle"):
        found.add("a pickle")
    if name == "torch.load" and not (isinstance(only := keywords.get("weights_only"), ast.Constant) and only.value is True):
        found.add("a pickle")
    if name.endswith((".extractall", ".extract")) and "filter" not in keywords:
        found.add("extraction without a filter")
    return found


def test_no_python_file_runs_what_it_reads():
    """One scan of library, benchmarks and tests."""
    found = set()
    for path in [*SOURCES, *(ROOT / "bench").glob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        wrong = risks(path.read_text()) - ({"a second NIfTI reader"} if path not in SOURCES else set())
        found |= {f"{path.relative_to(ROOT)}: {what}" for what in wrong}
    assert found <= ALLOWED


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("import pickle", "a pickle"),
        ("from joblib import load", "a pickle"),
        ("np.load(path, allow_pickle=True)", "a pickle"),
        ("np.load(\n    path,\n    allow_pickle=flag,\n)", "a pickle"),
        ("frame.to_pickle(path)", "a pickle"),
        ("torch.load(path, weights_only=True)", "torch.load or torch.save"),
        ("torch.save(state, path)", "torch.load or torch.save"),
        ("from torch import load", "torch.load or torch.save"),
        ("eval(text)", "code from text"),
        ("exec(text)", "code from text"),
        ("yaml.load(text)", "an unsafe YAML loader"),
        ("yaml.load(text, Loader=yaml.Loader)", "an unsafe YAML loader"),
        ("yaml.unsafe_load(text)", "an unsafe YAML loader"),
        ("subprocess.run(line,\n    shell=True)", "a shell"),
        ("os.system(line)", "a shell"),
        ("from os import system", "a shell"),
        ("tar.extractall(folder)", "extraction without a filter"),
        ("tar.extract(member, folder)", "extraction without a filter"),
        ("nib.load(path)", "a second NIfTI reader"),
    ],
)
def test_the_scan_finds(text, what):
    assert risks(text) == {what}
    assert risks("torch.load(path, weights_only=flag)") == {"torch.load or torch.save", "a pickle"}


@pytest.mark.parametrize(
    "text",
    [
        "np.load(path, allow_pickle=False)",
        "yaml.safe_load(text)",
        "yaml.load(stream, Loader=_Loader)",
        "subprocess.run(line, shell=False)",
        "network.eval()",
        "tar.extractall(folder, filter='data')",
        "'eval(text)'",
    ],
)
def test_the_scan_lets_pass(text):
    assert risks(text) == set()


def test_no_rule_runs_what_it_reads():
    words = r"\bpickle\b|(?<![\w.])(eval|exec|__import__)\(|\bos\.(system|popen)\b|shell\s*=\s*True|yaml\.(unsafe_|full_)?load\("
    for path in [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")]:
        assert not re.search(words, path.read_text()), path.name


# --- one writer: `with atomic(path) as temporary:` around whatever writes. What does otherwise has a reason:
WRITERS = {
    "cli/plan_show.py: run": "the log of a run, which grows with it",
    "download/archives.py: write": "into a hidden folder that is synced and renamed as a whole",
    "download/archives.py: being_made": "renames that folder",
    "download/archives.py: _link": "into that folder",
    "training/checkpoints.py: save_best": "a folder of two files, as save_checkpoint",
    "training/checkpoints.py: save_checkpoint": "a folder of two files, synced and renamed as a whole; its checksum tells",
    "download/dicom.py: _convert": "renames what another program has made and was synced; the marker comes last",
    "download/http.py: _append": "the part of a download, which the next attempt continues",
    "download/http.py: finish": "renames that part",
    "files.py: atomic": "the writer itself",
    "files.py: as_tsv": "returns the text of a table and writes no file",
    "files.py: atomic_folder": "the same for a folder",
    "files.py: _why_full": "asks whether a temporary file can grow",
    "files.py: link": "a second name of a file, or a copy, in a folder that is renamed when it is whole",
    "training/history.py: _append": "a line at the end of a history; a line that a kill cut short is passed over",
    "report/pages/audits.py: _png": "returns a picture as text and writes no file",
    "report/figures/canvas.py: _add_tooltips": "a temporary file of the writer",
    "report/figures/canvas.py: _save_png": "a temporary file of the writer",
    "preprocess/shards.py: _noted": "which volume a process works on, for whoever looks after a kill",
    "training/callbacks.py: _append": "a row at the end of the log of a training that runs",
    "training/run.py: finish": "a copy of TensorBoard's events, which nothing reads",
}
WRITES = {
    "write_text",
    "write_bytes",
    "savefig",
    "save_file",
    "savez",
    "savez_compressed",
    "to_csv",
    "save",
    "copyfile",
    "copytree",
}
MOVES = {"os.replace", "os.rename", "shutil.move", "shutil.copy", "shutil.copy2"}


def writes(node: ast.Call) -> bool:
    """Whether a call writes a file."""
    name = dotted(node.func)
    if name in ("open", "gzip.open") or name.endswith(".open"):
        modes = [*node.args[(name in ("open", "gzip.open")) :][:1], *(word.value for word in node.keywords if word.arg == "mode")]
        return any(isinstance(mode, ast.Constant) and set(str(mode.value)) & set("wax+") and mode.value != "r" for mode in modes)
    own = ("weights.save",)  # ours, and it uses the writer
    return name in MOVES or (name.rsplit(".", 1)[-1] in WRITES and name not in own)


def unguarded(text: str) -> set[str]:
    """Functions that write a file otherwise than inside `with atomic(...)`."""
    found = set()

    def visit(node: ast.AST, function: str) -> None:
        if isinstance(node, ast.FunctionDef):
            function = node.name
        if isinstance(node, ast.With) and any("atomic(" in ast.unparse(item.context_expr) for item in node.items):
            return
        if isinstance(node, ast.Call) and writes(node):
            found.add(function)
        for child in ast.iter_child_nodes(node):
            visit(child, function)

    visit(ast.parse(text), "")
    return found


def test_all_files_are_written_by_one_writer():
    places = {path.relative_to(ROOT / "src" / "brainpretrain").as_posix(): path for path in SOURCES}
    found = {f"{place}: {function}" for place, path in places.items() for function in unguarded(path.read_text())}
    assert found <= set(WRITERS)


@pytest.mark.parametrize(
    "text",
    [
        "path.write_text('')",
        "open(path, 'w')",
        "open(path, mode='ab')",
        "path.open('x')",
        "frame.to_csv(path)",
        "np.savez(path, a=1)",
        "torch.save(x, path)",
        "os.replace(a, b)",
        "shutil.copyfile(a, b)",
        "with open(path, 'wb') as stream:\n    pass",
    ],
)
def test_the_scan_finds_a_writer(text):
    assert unguarded(f"def f():\n    {text.replace(chr(10), chr(10) + '    ')}") == {"f"}
    assert unguarded("with atomic(path) as temporary:\n    temporary.write_text('')\nopen(path)\nopen(path, 'rb')") == set()


def test_rules_are_shell_commands_of_the_library():
    for path in sorted((ROOT / "rules").glob("*.smk")):
        text = path.read_text()
        assert not re.search(r"^    (script|run|notebook|wrapper):", text, re.MULTILINE), path.name
        assert "ancient(" not in text, path.name  # see rules/README.md
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
