import pytest

from brainpretrain.errors import UserError
from brainpretrain.files import write_tsv
from brainpretrain.preprocess.stored import read_stored, read_stored_of


def test_files_are_relative_to_the_folder_of_all_data_and_tables_of_one_name_are_joined(tmp_path):
    for folder in ("ixi/one", "ixi/two"):
        write_tsv(
            tmp_path / folder / "volumes.tsv", [{"volume": folder, "file": "volumes/a.b2nd"}, {"volume": "bad", "file": ""}]
        )
    paths = [("ixi", tmp_path / folder / "volumes.tsv") for folder in ("ixi/one", "ixi/two")]
    tables = read_stored_of([*paths, ("other", str(paths[0][1]))], tmp_path)
    assert list(tables) == ["ixi", "other"]
    assert tables["ixi"]["file"].tolist() == ["ixi/one/volumes/a.b2nd", "", "ixi/two/volumes/a.b2nd", ""]
    assert tables["other"]["volume"].tolist() == ["ixi/one", "bad"]
    table, folder = read_stored(paths[0][1])
    assert table["file"].tolist() == ["volumes/a.b2nd", ""] and folder == tmp_path / "ixi/one"


def test_a_missing_or_cut_table_names_the_command_that_repairs_it(tmp_path):
    path = tmp_path / "my data" / "volumes.tsv"
    with pytest.raises(UserError, match="file not found") as caught:
        read_stored(path)
    assert caught.value.fix == f"brainpretrain repair '{path.parent}'"
    write_tsv(path, [{"volume": "a", "file": "b"}])
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="the table is cut"):
        read_stored(path)
