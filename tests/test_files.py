import json
import os

import pytest

from brainpretrain.errors import UserError
from brainpretrain.files import (
    atomic,
    dump_json,
    fingerprint,
    read_json,
    read_mapping,
    read_tsv,
    read_tsvs,
    stable_hash,
    sync_tree,
    write_json,
    write_tsv,
)


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("killed")
    assert json.loads(path.read_text()) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_the_suffix_is_kept_for_writers_that_choose_by_it(tmp_path):
    with atomic(tmp_path / "x.nii.gz") as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_bytes(b"1")


def test_hashes_depend_on_content_alone():
    assert stable_hash("sub-001") == 2183646415056876413
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 1, "b": 3})


def test_json_knows_no_nan():
    with pytest.raises(ValueError):
        dump_json({"loss": float("nan")})


def test_tables_keep_text_as_text(tmp_path):
    write_tsv(tmp_path / "t.tsv", [{"subject": "007", "session": "", "dice": 0.5}])
    table = read_tsv(tmp_path / "t.tsv", numbers=["dice"])
    assert table.loc[0].to_dict() == {"subject": "007", "session": "", "dice": 0.5}


def test_a_table_without_rows_keeps_its_columns(tmp_path):
    write_tsv(tmp_path / "t.tsv", [], ["a", "b"])
    assert list(read_tsv(tmp_path / "t.tsv").columns) == ["a", "b"]


@pytest.mark.parametrize(("read", "content"), [(read_json, "{half"), (read_tsv, "")])
def test_a_damaged_file_is_named(tmp_path, read, content):
    path = tmp_path / "damaged"
    path.write_text(content)
    with pytest.raises(UserError, match="damaged"):
        read(path)
    with pytest.raises(UserError, match="file not found"):
        read(tmp_path / "absent")


def test_a_tree_is_synced_with_its_files_and_folders(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_text("1")
    (tmp_path / "a" / "nowhere").symlink_to("absent")
    synced = set()
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.add(os.fstat(descriptor).st_ino))
    sync_tree(tmp_path / "a")
    assert synced == {(tmp_path / name).stat().st_ino for name in ("a", "a/b", "a/b/file")}


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", "1e999", "[" * 5000 + "]" * 5000, '"\\ud800"', "9" * 5000, "{", ""])
def test_json_that_could_not_be_written_again_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match="no valid JSON"):
        read_json(tmp_path / "x.json")


def test_json_may_hold_any_letter(tmp_path):
    (tmp_path / "x.json").write_text('["\\ud83d\\ude00", 1e5, "\u00e9"]', encoding="utf-8")
    assert read_json(tmp_path / "x.json") == ["\U0001f600", 1e5, "\u00e9"]


@pytest.mark.parametrize("content", [b"", b'{"step": 1', b"[1]", b"1", b"\xff"])
def test_a_mapping_that_is_being_replaced_is_read_as_an_empty_one(tmp_path, content):
    assert read_mapping(tmp_path / "alive.json") == {}
    (tmp_path / "alive.json").write_bytes(content)
    assert read_mapping(tmp_path / "alive.json") == {}
    write_json(tmp_path / "alive.json", {"step": 1})
    assert read_mapping(tmp_path / "alive.json") == {"step": 1}


def test_tables_are_joined_in_the_order_given(tmp_path):
    for name in "ba":
        write_tsv(tmp_path / f"{name}.tsv", [{"case": name, "dice": 0.5}])
    assert read_tsvs([tmp_path / "b.tsv", tmp_path / "a.tsv"])["case"].tolist() == ["b", "a"]
