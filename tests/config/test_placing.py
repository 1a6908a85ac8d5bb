"""Every mistake in a study is shown with its line, in plain words."""

import re

import pytest

from brainpretrain import cli, config
from brainpretrain.config.placing import line_of, place
from brainpretrain.errors import UserError
from brainpretrain.plan import tables
from helpers import ROOT, edit

STUDY = (ROOT / "config" / "studies" / "demo.yaml").read_text()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("folds: 2", "folds: two", "folds: 'two' is not a whole number; write it as 1000 (line {})"),
        ("    patch_size: [32, 32, 32]\n    global_batch", "\tpatch_size: [32, 32, 32]\n    global_batch", "line {}, column 1: a tab in the indentation"),
        ("init: [scratch", "innit: [scratch", "rows.0.innit: unknown key; did you mean 'init'? (line {})"),
        ("sequences: [FLAIR]", "sequences: FLAIR", "sequences: 'FLAIR' is not a list; write it in brackets, as [a, b], or as lines that begin with '- ' (line {})"),
        ("    sequences: [FLAIR]", "    - sequences: [FLAIR]", "line {}, column 5: "),
        ("build: [demo]", "build: demo", "begin with '- ' (line {})"),
        ("steps: 300", "steps: 300.5", "phases.0.steps: 300.5 is not a whole number; write it as 1000 (line {})"),
        ("lr: 5.0e-3", "lr: -1", "phases.0.lr: must be greater than 0 (found -1) (line {})"),
        ("backbone: unet_tiny", "backbone: unet_tny", "broken.yaml: tables.demo.rows.0, line {}"),
        ("cohort: test", "cohort: tset", "broken.yaml: tables.demo.columns.0, line {}"),
        ("lesions: [lesion]", "lesions: [leson]", "line {}"),
        ("seed: 0\nfolds", "seed 0\nfolds", "a key without ': ' after it"),
        ('title: "Demo: synthetic phantoms"', "title: Demo: synthetic phantoms", "put text with a colon in quotes"),
    ],
)  # fmt: skip
def test_a_mistake_is_shown_with_its_line(config_dir, monkeypatch, old, new, message):
    monkeypatch.chdir(config_dir.parent)
    path = config_dir / "studies" / "broken.yaml"
    path.write_text(STUDY)
    edit(path, old, new)
    first = new.strip().splitlines()[0]
    line = next(number for number, text in enumerate(path.read_text().splitlines(), 1) if first in text)
    with pytest.raises(UserError) as error:
        tables.make(config.load("config", {"study": "broken"}))
    said = str(error.value)
    if message == "line {}":  # the line of the entry where a rule between two keys is broken
        assert re.search(r"line \d+", said)
    else:
        assert message.format(line) in said, said


def test_the_line_of_a_key_is_that_of_the_deepest_one_that_exists(tmp_path):
    (tmp_path / "a.yaml").write_text("tasks:\n  one:\n    labels: {a: [1]}\n    rows:\n      - {x: 1}\n      - y: 2\n")
    path = tmp_path / "a.yaml"
    assert line_of(path, ["tasks", "one", "rows", 1, "y"]) == 6 and line_of(path, ["tasks", "one", "rows", "0", "z"]) == 5
    assert line_of(path, ["tasks", "two"]) == 1 and line_of(path, ["other"]) is None
    assert line_of(tmp_path / "none.yaml", ["tasks"]) is None


def test_a_place_is_a_file_with_keys():
    assert place("config/a.yaml: tasks.one.labels") == ("config/a.yaml", ["tasks", "one", "labels"])
    assert place("/x/y.yml") == ("/x/y.yml", []) and place("brainpretrain run") is None and place("tables.main") is None


def test_all_studies_are_checked_at_once(config_dir, monkeypatch, capsys):
    monkeypatch.chdir(config_dir.parent)
    (config_dir / "studies" / "broken.yaml").write_text(STUDY.replace("unet_tiny", "unet_tny"))
    assert cli.main(["config", "check", "demo", "broken"]) == 2
    said = capsys.readouterr()
    assert "demo: 1 table, 1 pretrainings, 4 fine-tunings" in said.out and "broken: error: no entry 'unet_tny'" in said.out
    assert "1 of the studies cannot be planned" in said.err
    assert cli.main(["config", "check", "demo"]) == 0
