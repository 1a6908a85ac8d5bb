import re

import pytest

from brainpretrain import config
from brainpretrain.config import reading
from brainpretrain.errors import UserError
from mistakes import refused


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("preprocess.yaml", "crop: nonzero", "crop: nonzero\n    crop: none", r"key 'crop' is given twice"),
        ("preprocess.yaml", "crop: nonzero", "crop: [", "not valid YAML"),
    ],
)  # fmt: skip
def test_a_mistake_is_refused_with_file_key_and_fix(config_dir, file, old, new, message):
    refused(config_dir, file, old, new, message)


@pytest.mark.parametrize(
    ("text", "number"), [("1e-4", 1e-4), ("-2E3", -2000.0), (".5e+1", 5.0), ("1.e0", 1.0), ("7", 7), ("1.5", 1.5)]
)
def test_numbers_are_read_as_in_any_language(tmp_path, text, number):
    (tmp_path / "a.yaml").write_text(f"a: {text}\nb: '{text}'\nc: {text} mm\n")
    assert reading.read_yaml(tmp_path / "a.yaml") == {"a": number, "b": text, "c": f"{text} mm"}


@pytest.mark.parametrize(
    "text",
    ["study: !!python/object/apply:os.system ['touch ran']", "__use_yte__: true\nstudy: ?__import__('os').system('touch ran')"],
)
def test_the_text_of_a_config_runs_no_code(config_dir, monkeypatch, text):
    monkeypatch.chdir(config_dir)
    (config_dir / "config.yaml").write_text(text)
    with pytest.raises(UserError):
        config.load(config_dir)
    assert not (config_dir / "ran").exists()


LEVELS = ", ".join(f"&a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"x: [&a0 [1, 1], {LEVELS}]", "more than 200000 values, aliases written out"),
        ("x: &a [*a]", "an alias is used inside its own anchor"),
        ("x: &a {like: *a}", "an alias is used inside"),
        ("x: " + "[" * 60 + "]" * 60, "more than 40 levels"),
        ("x: " + "[" * 5000 + "]" * 5000, "more than 40 levels"),
        ("{? [a] : b}", "a key must be a word"),
        ("{[a, b]: c}", "a key must be a word"),
        ("!!map [a]", "not valid YAML"),
        ("!!map x", "not valid YAML"),
        ("x: !!int x", "not a valid int: 'x'"),
        ("x: !!int ''", "not a valid int: ''"),
        ("x: !!bool x", "not a valid bool: 'x'"),
        ("x: 0b", None),
        ("x: 0x", None),
        ("x: !!binary YWJj", "could not determine a constructor"),
        ("x: !!set {a, b}", "could not determine a constructor"),
        ("x: !!timestamp 2001-99-99", "could not determine a constructor"),
        ("x: .nan", r"not a usable number: \.nan"),
        ("x: 1.0e+999", "not a usable number"),
        ("x: " + "9" * 30, "not a usable number"),
        ("x: " + "9" * 5000, "not a valid int: '9999"),
        ('x: "\\0"', "a control character or half of a surrogate"),
        ('x: "\\ud800"', "a control character or half of a surrogate|character escape code"),
        (b"x: \xff", "not valid YAML: 'utf-8' codec"),
        (b"x: 1\0", "not valid YAML"),
    ],
)
def test_yaml_that_nothing_could_use_is_refused_with_its_line(tmp_path, text, message):
    path = tmp_path / "x.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    try:
        content = reading.read_yaml(path)
    except UserError as error:
        assert message and re.search(message, error.problem) and error.where == str(path) and error.fix
    else:
        assert message is None and content == {"x": text.removeprefix("x: ")}


def test_a_date_is_text(tmp_path):
    (tmp_path / "x.yaml").write_text("x: 2001-01-01\n")
    assert reading.read_yaml(tmp_path / "x.yaml") == {"x": "2001-01-01"}


def test_a_file_that_is_no_config_is_not_read(tmp_path):
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        reading.read_yaml(tmp_path)
    with open(tmp_path / "x.yaml", "wb") as stream:
        stream.truncate(reading.MAX_YAML_BYTES + 1)
    with pytest.raises(UserError, match="larger than 4 MiB"):
        reading.read_yaml(tmp_path / "x.yaml")
