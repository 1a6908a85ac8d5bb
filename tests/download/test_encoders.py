"""Published encoders: the list, and files from a mirror or a server."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
import yaml

from brainpretrain import cli, config
from brainpretrain.download import encoders, http
from faulty_server import Server, serving
from helpers import ROOT

CONTENT = b"weights" * 100
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A config folder whose weights are below the test's folder."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    path = tmp_path / "config" / "config.yaml"
    settings = yaml.safe_load(path.read_text()) | {"data_root": str(tmp_path / "data")}
    path.write_text(yaml.safe_dump(settings))
    monkeypatch.setattr(http, "FIRST_WAIT_S", 0.01)
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path


def run(folder, *options):
    return cli.main(["encoders", "--config-folder", str(folder / "config"), *options])


def test_every_entry_is_listed_with_its_terms(folder, capsys):
    place = folder / "data" / "weights" / "model_swinvit.pt"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"x")
    assert run(folder, "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    entries = config.load(ROOT / "config").weights
    assert {(row["encoder"], row["network"]) for row in rows} == {
        (name, b) for name, entry in entries.items() for b in entry.files
    }
    of = {row["encoder"]: row for row in rows}
    assert [name for name, row in of.items() if row["at_hand"]] == ["monai_swinunetr"]
    assert of["fomo25"]["forbids"].startswith("commercial use; ") and of["amaes_released"]["forbids"].startswith("not known")
    assert (
        of["openmind_mae"]["forbids"] == ""
        and of["openmind_mae"]["intensity"] == "zscore"
        and of["brainsegfounder"]["sequences"] == ["T1w", "T2w"]
    )
    assert run(folder) == 0
    assert "monai_swinunetr" in (said := capsys.readouterr().out) and "CC BY-NC-ND 4.0" in said


def test_the_page_has_the_table_of_the_command(capsys):
    assert cli.main(["encoders", "--config-folder", str(ROOT / "config"), "--markdown"]) == 0
    assert capsys.readouterr().out.partition("--markdown\n")[2] in (ROOT / "docs" / "weights.md").read_text()


def entry(url, **changes):
    return {
        "file": "theirs-A/checkpoint_final.pth",
        "url": f"{url}/theirs/resolve/main/checkpoint_final.pth",
        "sha256": SHA,
    } | changes


def test_files_come_from_the_mirror_first_and_then_from_their_address(folder):
    mirror, root = folder / "mirror", folder / "root"
    (mirror / "other").mkdir(parents=True)
    (mirror / "other" / "renamed.pth").write_bytes(CONTENT)  # known by its checksum
    with Server(serving(b"{}")) as server:
        file = entry(server.url, beside=["adaptation_plan.json"])
        assert not encoders.at_hand(file, root)
        lines = list(encoders.get(file, root, mirror))
        assert "from" in lines[0] and "renamed.pth" in lines[0] and server.url in lines[1]
        assert encoders.at_hand(file, root) and (root / file["file"]).read_bytes() == CONTENT
        asked = len(server.asked)
        assert all(line.endswith("in place") for line in encoders.get(file, root)) and len(server.asked) == asked


def test_without_a_checksum_the_folder_tells_files_of_one_name_apart(folder):
    for name in ("theirs-A", "theirs-B"):
        (folder / "mirror" / name).mkdir(parents=True)
        (folder / "mirror" / name / "checkpoint_final.pth").write_bytes(name.encode())
    file = entry("https://nowhere", sha256=None, file="theirs-B/checkpoint_final.pth")
    list(encoders.get(file, folder / "root", folder / "mirror"))
    assert (folder / "root" / "theirs-B" / "checkpoint_final.pth").read_bytes() == b"theirs-B"


def test_a_file_in_place_that_is_another_one_is_refused(folder):
    path = folder / "root" / "theirs-A" / "checkpoint_final.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"other")
    with pytest.raises(Exception, match="not the file on record: sha256"):
        list(encoders.get(entry("https://nowhere"), folder / "root"))


def test_the_terms_are_printed_before_anything_is_downloaded(folder, capsys):
    (folder / "mirror" / "ResEncL-OpenMind-VF").mkdir(parents=True)
    for name in ("checkpoint_final.pth", "adaptation_plan.json"):
        (folder / "mirror" / "ResEncL-OpenMind-VF" / name).write_bytes(b"{}")
    assert run(folder, "--get", "openmind_vf/resenc_l", "--mirror", str(folder / "mirror")) == 0
    first, *lines = capsys.readouterr().out.splitlines()[1:]
    assert first.startswith("openmind_vf: licence CC BY 4.0") and len(lines) == 2
    assert run(folder, "--get", "openmind_vff") == 2
    assert "did you mean 'openmind_vf'?" in capsys.readouterr().err
