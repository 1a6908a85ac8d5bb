import subprocess
import sys

import pytest

from brainpretrain import cli

NAMES = [name for name, *_ in cli._COMMANDS]


@pytest.mark.parametrize("name", NAMES)
def test_every_subcommand_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main([name, "--help"])
    said = capsys.readouterr().out
    assert caught.value.code == 0
    assert f"usage: brainpretrain {name}" in said and len(said) > 200


def test_help_starts_without_torch():
    code = "import sys; from brainpretrain import cli; cli.parser().format_help(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


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
    assert cli._mapping('{"a": 1}') == {"a": 1}
    assert cli._mapping(f"@{tmp_path / 'task.yaml'}") == {"sequences": ["T1w"]}
    for text in ("{half", "[1]"):
        with pytest.raises(Exception, match=r"JSON"):
            cli._mapping(text)


def test_progress_is_a_line_per_tenth_off_a_terminal(capsys):
    show = cli._progress("volume")
    for done in range(1, 101):
        show(done, 100)
    assert len(capsys.readouterr().out.splitlines()) == 10
