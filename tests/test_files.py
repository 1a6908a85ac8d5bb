import json
import zlib

import pytest

from brainpretrain.errors import UserError
from brainpretrain.files import atomic, crc32, dump_json, fingerprint, read_json, read_tsv, stable_hash, write_json, write_tsv


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


@pytest.mark.parametrize("size", [0, 1, (1 << 18) - 1, 1 << 18, (1 << 18) + 1, 700_000])
def test_a_checksum_is_that_of_the_whole_file(tmp_path, size):
    content = bytes(number * number % 251 for number in range(size))
    (tmp_path / "file").write_bytes(content)
    assert crc32(tmp_path / "file") == f"{zlib.crc32(content):08x}"


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
