import importlib
import shutil
import subprocess
import sys

import numpy as np
import pytest

from brainpretrain import cli, config
from brainpretrain.cli import arguments
from brainpretrain.files import read_tsv, write_tsv
from brainpretrain.plan import tables as plan
from helpers import ROOT, edit
from report_fixtures import score

NAMES = [name for commands in cli.COMMANDS.values() for name in commands]


@pytest.mark.parametrize("name", NAMES)
def test_every_subcommand_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([name, "--help"])
    said = capsys.readouterr().out
    assert caught.value.code == 0
    assert f"usage: brainpretrain {name}" in said and len(said) > 200


def test_help_imports_no_command_and_no_library():
    code = "import sys; from brainpretrain import cli; print(cli.parser().format_help()); print(*sys.modules)"
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    listed, _, modules = text.rstrip().rpartition("\n")
    ours = {name for name in modules.split() if name.startswith("brainpretrain")}
    assert ours == {"brainpretrain" + end for end in ("", ".errors", ".cli", ".cli.arguments")}
    assert not {"numpy", "yaml", "rich"} & set(modules.split())
    assert all(f"\n  {name} " in listed for name in NAMES) and "\nstart here:\n" in listed


def test_what_a_command_imports_is_no_garbage_to_look_for():
    """The collector is put back as it was, and what was imported is out of its reach."""
    code = (
        "import gc; from brainpretrain import cli\n"
        "for on, name in ((True, 'schema'), (False, 'claim')):\n"
        "    gc.enable() if on else gc.disable(); before = gc.get_freeze_count(); cli.parser(name)\n"
        "    assert gc.isenabled() == on and gc.get_freeze_count() > before, name\n"
        "count = gc.get_freeze_count(); cli.parser('claim'); assert gc.get_freeze_count() == count\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_each_file_of_commands_has_the_commands_that_the_table_names():
    files = {file for commands in cli.COMMANDS.values() for file, _ in commands.values()}
    for file in files:
        importlib.import_module(f"brainpretrain.cli.{file}")
    assert sorted(arguments.REGISTERED) == sorted(NAMES)
    named = {name: f"brainpretrain.cli.{file}" for commands in cli.COMMANDS.values() for name, (file, _) in commands.items()}
    assert {name: function.__module__ for name, (function, _) in arguments.REGISTERED.items()} == named


def test_an_unknown_command_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["pretrian"])
    assert caught.value.code == 2
    assert "invalid choice: 'pretrian'" in (said := capsys.readouterr().err) and "finetune" in said


@pytest.mark.parametrize(
    ("line", "form"),
    [
        (["page-rejected", "--volumes", "x.tsv", "--data", "d", "--out", "o"], "NAME=TSV"),
        (["page-overlap", "--near", "0.9", "--out", "o", "--splits", "=x.json"], "TASK=JSON"),
        (["split", "--index", "i", "--task", "{}", "--out", "o", "--asked", "10"], "N:COHORT"),
    ],
)
def test_a_pair_without_its_separator_is_refused(line, form, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(line)
    assert caught.value.code == 2 and f"is not of the form {form}" in capsys.readouterr().err


def test_an_error_is_three_lines_and_exit_code_2(tmp_path, capsys):
    code = cli.main(["fetch", "--dataset", "adni", "--root", str(tmp_path / "adni"), "--out", str(tmp_path / "source.json")])
    said = capsys.readouterr().err
    assert code == 2 and said.startswith("error: the data set 'adni'") and "where:" in said and "fix:" in said
    assert "Traceback" not in said and not (tmp_path / "source.json").exists()


def test_a_mistyped_data_set_gets_the_nearest_name(tmp_path, capsys):
    assert cli.main(["fetch", "--dataset", "brats22", "--root", str(tmp_path), "--out", str(tmp_path / "s.json")]) == 2
    assert "did you mean 'brats21'?" in capsys.readouterr().err


def test_options_may_be_json_or_a_file(tmp_path):
    (tmp_path / "task.yaml").write_text("sequences: [T1w]\n")
    assert arguments.mapping('{"a": 1}') == {"a": 1}
    assert arguments.mapping(f"@{tmp_path / 'task.yaml'}") == {"sequences": ["T1w"]}
    for text in ("{half", "[1]", f"@{tmp_path / 'absent.json'}"):
        with pytest.raises(Exception, match=r"JSON"):
            arguments.mapping(text)


def test_progress_is_a_line_per_tenth_off_a_terminal(capsys):
    show = arguments.progress("volume")
    for done in range(1, 101):
        show(done, 100)
    assert len(capsys.readouterr().out.splitlines()) == 10


@pytest.fixture(scope="module")
def demo_scores(tmp_path_factory):
    """Made-up scores of every run of the study `demo`, and of one that no table shows."""
    rng = np.random.default_rng(0)
    made = plan.make(config.load(ROOT / "config", {"study": "demo"}))
    rows = []
    for run in made.evaluations:
        names = {"task": run.arm.task, "cohort": run.cohort, "fold": run.fold} | vars(run.arm)
        rows += [score(dice, **names, volume=f"sub-{i}", label=label)
                 for label in ("grey matter", "lesion") for i, dice in enumerate(rng.random(5))]  # fmt: skip
    rows += [row | {"recipe": "another"} for row in rows[:10]]
    path = tmp_path_factory.mktemp("demo") / "scores.tsv"
    write_tsv(path, rows)
    return made.tables["demo"], path


def test_the_tables_of_a_study_come_out_of_its_scores_alone_byte_for_byte(demo_scores, tmp_path):
    """`table`, as the workflow calls it, and `tables`, also when the rows of the scores are shuffled."""
    spec, path = demo_scores
    shuffled = read_tsv(path).sample(frac=1, random_state=2)
    write_tsv(tmp_path / "shuffled.tsv", shuffled)
    cli.main(
        ["table", "--scores", str(path), "--spec", spec.model_dump_json(), "--overlaps", "--out", str(tmp_path / "workflow")]
    )
    for name, scores in (("again", path), ("shuffled", tmp_path / "shuffled.tsv")):
        code = cli.main(["tables", "--study", "demo", "--scores", str(scores), "--config", str(ROOT / "config"),
                         "--out", str(tmp_path / name)])  # fmt: skip
        assert code == 0
    expected = {file.name: file.read_bytes() for file in (tmp_path / "workflow").iterdir()}
    assert len(expected) == 5 * 5 + 2
    for name in ("again", "shuffled"):
        assert {file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} == expected


def test_audits_beside_the_scores_are_taken_up(demo_scores, tmp_path):
    _, path = demo_scores
    write_tsv(tmp_path / "scores.tsv", read_tsv(path))
    audit = {"task": "phantom_tissue", "dataset": "phantom", "evaluated": 5, "shared": 2, "subjects": "1 3"}
    write_tsv(tmp_path / "corpora/phantom_unlabelled/overlap.tsv", [audit])
    arguments = ["--scores", str(tmp_path / "scores.tsv"), "--config", str(ROOT / "config"), "--out", str(tmp_path / "tables")]
    assert cli.main(["tables", "--study", "demo", *arguments]) == 0
    assert "2 subjects in phantom_unlabelled" in (tmp_path / "tables/demo.txt").read_text()


def test_the_missing_audit_of_a_transductive_corpus_is_named_in_the_table(demo_scores, tmp_path):
    folder = shutil.copytree(ROOT / "config", tmp_path / "config")
    edit(folder / "studies/demo.yaml", "protocol: strict", "protocol: amaes")
    arguments = ["--scores", str(demo_scores[1]), "--config", str(folder), "--out", str(tmp_path / "tables")]
    assert cli.main(["tables", "--study", "demo", *arguments]) == 0
    assert "the audit of phantom_unlabelled (overlap.tsv) is missing" in (tmp_path / "tables/demo.txt").read_text()


def test_tables_are_made_without_torch(demo_scores, tmp_path):
    arguments = [
        "tables",
        "--study",
        "demo",
        "--scores",
        str(demo_scores[1]),
        "--config",
        str(ROOT / "config"),
        "--out",
        str(tmp_path),
    ]
    code = f"import sys; from brainpretrain import cli; cli.main({arguments}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")
