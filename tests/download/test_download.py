"""A data set is put in place from the incoming folder, a mirror or a server; or a user reads what to do."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import zipfile
from dataclasses import replace

import pytest
from tests.download import test_dicom

import fake_hosts
from brainpretrain import cli, datasets
from brainpretrain.datasets.base import Archive, Dataset, Layout, Pattern
from brainpretrain.download import download
from brainpretrain.download import http as transfer
from brainpretrain.download.archives import made_from
from brainpretrain.download.index import index
from brainpretrain.errors import UserError
from brainpretrain.files import read_json
from faulty_server import Server, saying, serving

VARIABLES = ("SYNAPSE_AUTH_TOKEN", "XNAT_USER", "XNAT_PASSWORD", "HF_TOKEN", "ATLAS_PASSWORD")
BRAINS = Dataset(
    name="brains",
    title="Brains of the tests",
    access="auto",
    page="https://example.org/brains",
    licence="CC0",
    licence_url="",
    citation="",
    redistribution=True,
    archives=(),
    layouts=(
        Layout(
            "plain",
            (Pattern(image=r"(?P<subject>sub\d+)/(?P<run_file>[^/]+)", subset="train", sequence="T1w"),),
            ("sub1/T1w.nii.gz",),
        ),
    ),
    labels={},
    label_sequences=(),
    expected=None,
    n_shards=1,
)


def packed(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return stream.getvalue()


ONE, TWO = packed("top/sub1/T1w.nii.gz"), packed("sub2/T1w.nii.gz")
SHA = {content: hashlib.sha256(content).hexdigest() for content in (ONE, TWO)}


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """Removes credentials and proxies, and the waiting time between attempts."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(transfer, "FIRST_WAIT_S", 0.01)


class Place:
    """Root, incoming folder and mirror of one test."""

    def __init__(self, tmp_path):
        self.root, self.incoming, self.mirror = tmp_path / "brains", tmp_path / "incoming" / "brains", tmp_path / "mirror"
        self.mirror.mkdir()

    def download(self, *archives: Archive, **changes):
        return download.download(replace(BRAINS, archives=archives, **changes), self.root, self.incoming, self.mirror)

    def put(self, name: str, content: bytes):
        path = self.incoming / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_archives_are_fetched_unpacked_and_not_fetched_again(place):
    with Server(serving(ONE), serving(TWO)) as server:
        wanted = [Archive("one.zip", f"{server.url}/1?key=x", sha256=SHA[ONE]), Archive("two.zip", f"{server.url}/2")]
        first = place.download(*wanted)
        assert place.download(*wanted) == first and len(server.asked) == 2
    assert first["volumes"] == 2 and first["subjects"] == 2
    by_name = {archive["name"]: archive for archive in first["archives"]}
    assert {name: (found["verified"], found["sha256"], found["files"]) for name, found in by_name.items()} == {
        "one.zip": (True, SHA[ONE], 1),
        "two.zip": (False, SHA[TWO], 1),
    }
    assert by_name["one.zip"]["source"] == f"{server.url}/1"
    assert made_from(place.root / "one") == by_name["one.zip"] and (place.root / "one/top/sub1/T1w.nii.gz").exists()


def test_an_unpacked_archive_may_be_deleted(place):
    with Server(serving(ONE)) as server:
        archive = Archive("one.zip", server.url)
        place.download(archive)
    (place.incoming / "one.zip").unlink()
    assert place.download(archive)["volumes"] == 1


def test_a_run_that_stopped_between_two_archives_continues(place, monkeypatch):
    monkeypatch.setattr(transfer, "ATTEMPTS", 1)
    with Server(serving(ONE), saying(500), serving(TWO)) as server:
        wanted = [Archive("one.zip", server.url), Archive("two.zip", server.url)]
        with pytest.raises(UserError, match="status 500"):
            place.download(*wanted)
        assert place.download(*wanted)["volumes"] == 2 and len(server.asked) == 3


@pytest.mark.parametrize("known", [{}, {"sha256": SHA[ONE]}, {"sha256": SHA[ONE], "size": len(ONE)}])
def test_an_archive_in_the_incoming_folder_is_taken(place, known):
    place.put("one.zip", ONE)
    found = place.download(Archive("one.zip", **known), access="place")["archives"]
    assert [(one["source"], one["sha256"], one["verified"]) for one in found] == [("incoming", SHA[ONE], bool(known))]


@pytest.mark.parametrize("size", [None, len(ONE)])
def test_an_archive_is_known_by_its_checksum_under_any_name_in_any_folder(place, size):
    (place.mirror / "a" / "b").mkdir(parents=True)
    (place.mirror / "a" / "b" / "renamed (1).zip").write_bytes(ONE)
    (place.mirror / "one.zip").write_bytes(TWO)
    with Server(saying(500)) as server:
        found = place.download(Archive("one.zip", server.url, size=size, sha256=SHA[ONE]))
    assert server.asked == [] and found["archives"][0]["source"] == "mirror" and found["archives"][0]["sha256"] == SHA[ONE]
    assert sorted(path.name for path in place.mirror.rglob("*.zip")) == ["one.zip", "renamed (1).zip"]


def test_broken_links_in_the_mirror_are_ignored(place):
    for name in ("one.zip", "other.zip"):
        (place.mirror / name).symlink_to(place.mirror / "gone")
    (place.mirror / "z.zip").write_bytes(ONE)
    archive = Archive("one.zip", "https://example.org/one.zip", sha256=SHA[ONE])
    assert place.download(archive)["archives"][0]["source"] == "mirror"


def counted(monkeypatch) -> list[str]:
    """The names of the files whose digests are computed from now on."""
    names, real = [], download.digests
    monkeypatch.setattr(download, "digests", lambda path: names.append(path.name) or real(path))
    return names


def test_the_mirror_is_read_once_and_again_where_it_changed(place, monkeypatch):
    names, other = counted(monkeypatch), packed("sub3/T1w.nii.gz")
    assert len(other) == len(TWO)
    for name in ("a.zip", "b.zip"):
        (place.mirror / name).write_bytes(other)
    archive = Archive("two.zip", sha256=SHA[TWO])
    for _ in range(2):
        with pytest.raises(UserError, match="cannot be downloaded without you"):
            place.download(archive, access="place")
    assert names == ["a.zip", "b.zip"]
    state = (place.mirror / "b.zip").stat()
    (place.mirror / "b.zip").write_bytes(TWO)
    os.utime(place.mirror / "b.zip", ns=(state.st_atime_ns, state.st_mtime_ns))  # as a copy that keeps times
    assert place.download(archive, access="place")["volumes"] == 1 and names[2:] == ["b.zip"]


def test_only_files_of_the_size_on_record_are_read(place, monkeypatch):
    names = counted(monkeypatch)
    for name, content in {"a.zip": ONE + b"0", "one.zip": TWO, "z.zip": ONE, "z.bin": ONE}.items():
        (place.mirror / name).write_bytes(content)
    place.download(Archive("one.zip", size=len(ONE), sha256=SHA[ONE]), access="place")
    assert names == ["z.zip"] and len(ONE) != len(TWO)


@pytest.mark.parametrize("content", [None, "no JSON"])
def test_a_cache_of_digests_that_cannot_be_written_is_no_error(place, monkeypatch, content):
    (place.mirror / "one.zip").write_bytes(ONE)
    place.incoming.parent.mkdir()
    if content:
        (place.incoming.parent / ".digests.json").write_text(content)

    def refuse(path, value):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(download, "write_json", refuse)
    assert place.download(Archive("one.zip", sha256=SHA[ONE]), access="place")["volumes"] == 1


@pytest.mark.parametrize("size", [None, 7])
def test_another_version_on_record_is_taken(place, size):
    place.put("one.zip", TWO)
    archive = Archive("one.zip", size=size, sha256=SHA[ONE], also=(hashlib.md5(TWO).hexdigest(),))
    first = place.download(archive, access="place")
    assert first["archives"][0]["sha256"] == SHA[TWO] and place.download(archive, access="place") == first


def test_both_archives_of_isles22_are_on_record():
    archive = datasets.load("isles22").archives[0]
    for sha256, md5 in ((archive.sha256, ""), ("", "302ee280373cdd5c190ab763d72a7a50")):
        assert transfer.differs({"size": 1, "sha256": sha256, "md5": md5}, archive) == ""
    assert transfer.differs({"size": 1, "sha256": "", "md5": ""}, archive)


def test_a_size_on_record_bounds_what_is_unpacked(place, monkeypatch):
    monkeypatch.setattr(download.archives, "SMALL_BYTES", 0)
    place.put("one.zip", ONE)
    with pytest.raises(UserError, match=r"1\.5 times what is on record"):
        place.download(Archive("one.zip", unpacked_size=10), access="place")


TREE = {"sub1/T1w.nii.gz": b"1", "sub2/T1w.nii.gz": b"22"}


def test_a_collection_of_files_from_dataverse(place):
    with fake_hosts.dataverse(TREE) as host:
        archive = Archive("files", f"dataverse:{host.front.url}/doi:10.1/AB")
        found = place.download(archive)
        assert place.download(archive) == found and len(host.store.asked) == 2
    assert found["volumes"] == 2 and found["archives"][0]["revision"] == "1.2"


def test_a_collection_of_files_may_be_present_as_a_zip(place):
    place.put("files.zip", packed(*TREE))
    found = place.download(Archive("files", "dataverse:https://example.org/doi:10.1/AB"))
    assert found["volumes"] == 2 and found["archives"][0]["source"] == "incoming"


def record(server) -> Archive:
    return Archive("record", f"zenodo:{server.url}/17")


def test_all_archives_of_a_record_at_zenodo(place):
    with fake_hosts.zenodo({"one.zip": ONE, "two.zip": TWO}) as host:
        found = place.download(record(host))
        assert found["volumes"] == 2 and [made["name"] for made in found["archives"]] == ["one.zip", "two.zip"]
        assert all(made["verified"] for made in found["archives"])
        for path in place.incoming.glob("*.zip"):
            path.unlink()
        asked = len(host.asked)
        assert place.download(record(host)) == found
        assert [request["path"] for request in host.asked[asked:]] == ["/api/records/17"]


def test_an_archive_of_zenodo_that_is_not_as_listed_is_refused(place):
    with fake_hosts.zenodo({"one.zip": ONE}) as host:
        place.put("one.zip", ONE[::-1])
        with pytest.raises(UserError, match=r"one\.zip is not the file on record: md5"):
            place.download(record(host))


def test_without_zenodo_local_archives_are_used(place, monkeypatch, capsys):
    monkeypatch.setattr(transfer, "ATTEMPTS", 1)
    nowhere = Archive("record", "zenodo:http://127.0.0.1:9/17")
    with pytest.raises(UserError, match="given up after 1 attempts"):
        place.download(nowhere)
    (place.incoming / "one.zip").write_bytes(ONE)
    found = place.download(nowhere)
    assert found["volumes"] == 1 and "the local archives are assumed to be complete" in capsys.readouterr().out
    (place.incoming / "one.zip").unlink()
    assert place.download(nowhere) == found


def test_without_a_checksum_a_mirror_needs_the_name(place):
    (place.mirror / "other.zip").write_bytes(TWO)
    with Server(serving(ONE)) as server:
        assert place.download(Archive("one.zip", server.url))["archives"][0]["sha256"] == SHA[ONE]


def test_a_folder_made_from_another_version_is_seen(place):
    place.put("one.zip", ONE)
    place.download(Archive("one.zip"), access="place")
    with pytest.raises(UserError, match=r"this folder was made from another one\.zip: sha256 is"):
        place.download(Archive("one.zip", sha256=SHA[TWO]), access="place")


def test_instructions_for_files_that_only_a_person_can_get_are_complete(place):
    place.put("else.zip", ONE)
    with pytest.raises(UserError) as error:
        place.download(Archive("one.zip", size=7, sha256="abc"), Archive("two.zip"), access="place")
    assert str(error.value) == (
        "the data set 'brains' (Brains of the tests) cannot be downloaded without you: there are only else.zip\n"
        f"  where: {place.incoming}\n"
        "  fix:   ask for access at https://example.org/brains (CC0)\n"
        f"  put into {place.incoming}, as delivered:\n"
        "    one.zip (bytes 7, sha256 abc)\n"
        "    two.zip (any version: no checksum is on record)\n"
        f"  then give this command again. Or unpack by hand into {place.root}:\n"
        "    sub1/T1w.nii.gz"
    )


def test_collections_without_names_take_every_archive(place):
    with pytest.raises(UserError, match=r"there are no archives(.|\n)*all archives of the download"):
        place.download(access="place")
    place.put("a.zip", ONE)
    assert place.download(access="place")["volumes"] == 1
    place.put("b.zip", TWO)
    assert place.download(access="place")["volumes"] == 2


def test_files_that_a_user_placed_are_not_touched(place, capsys):
    (place.root / "one" / "sub9").mkdir(parents=True)
    (place.root / "one" / "sub9" / "T1w.nii.gz").touch()
    with Server(serving(ONE)) as server:
        found = place.download(Archive("one.zip", server.url))
    assert found["volumes"] == 1 and found["archives"] == [] and server.asked == []
    assert "1 volumes were placed" in capsys.readouterr().out and not (place.root / "one" / "top").exists()


def test_a_stray_file_is_not_a_data_set(place):
    place.root.mkdir()
    (place.root / "notes.txt").touch()
    with Server(serving(ONE)) as server:
        assert place.download(Archive("one.zip", server.url))["volumes"] == 1


def test_dicom_is_converted_and_found(place):
    pytest.importorskip("dcm2niix")
    test_dicom.write_series(place.root / "sub1", number=3, description="T1")
    found = place.download(access="place")
    assert (found["volumes"], found["subjects"]) == (1, 1) and (place.root / "nifti/sub1/3_T1.nii.gz").exists()


def test_cosmos_from_its_record_to_volumes(place):
    """DICOM in a zip of a Zenodo record: downloaded, unpacked, converted, indexed."""
    pytest.importorskip("dcm2niix")
    folder = place.mirror / "made/Training_dataset/0_P113_U"
    test_dicom.write_series(folder, number=3, description="BB")
    files = {path.relative_to(place.mirror / "made").as_posix(): path.read_bytes() for path in sorted(folder.iterdir())}
    with fake_hosts.zenodo({"training.zip": fake_hosts.zipped(files)}) as host:
        dataset = replace(datasets.load("cosmos"), archives=(record(host),))
        found = download.download(dataset, place.root, place.incoming)
    assert (found["volumes"], found["layout"], found["archives"][0]["verified"]) == (1, "DICOM, converted", True)
    (row,) = index(dataset, place.root)
    assert (row["subject"], row["path"]) == ("0_P113_U", "nifti/training/Training_dataset/0_P113_U/3_BB.nii.gz")


VAULT = "https://example.org/A_encrypted.tar.gz"


@pytest.mark.parametrize(
    ("url", "name", "needed"),
    [
        ("synapse:syn1", "one.zip", ["SYNAPSE_AUTH_TOKEN"]),
        ("xnat:example.org/P", "P", ["XNAT_USER", "XNAT_PASSWORD"]),
        ("hf:owner/name", "name", ["HF_TOKEN"]),
        (VAULT, "A_encrypted.tar.gz", ["ATLAS_PASSWORD"]),
    ],
)
def test_data_with_an_account_can_be_downloaded_if_the_variables_are_set(place, monkeypatch, url, name, needed):
    dataset = replace(BRAINS, archives=(Archive(name, url),), access="credential")
    assert not download.can_be_had(dataset, place.incoming)
    for variable in needed:
        monkeypatch.setenv(variable, "x")
    assert download.can_be_had(dataset, place.incoming)


def test_data_sets_that_need_no_person(place):
    open_data = replace(BRAINS, archives=(Archive("one.zip", "https://example.org/1"),))
    assert download.can_be_had(open_data, place.incoming)
    assert download.can_be_had(replace(open_data, archives=(Archive("name", "hf:owner/name"),)), place.incoming)
    for closed in (replace(open_data, access="place"), replace(open_data, archives=(Archive("one.zip"),)), BRAINS):
        assert not download.can_be_had(closed, place.incoming)
    place.put("any.zip", ONE)
    assert download.can_be_had(replace(BRAINS, access="place"), place.incoming)


def test_an_address_with_an_unknown_scheme(place):
    with pytest.raises(UserError, match="no way to get an address like gopher:x"):
        place.download(Archive("one.zip", "gopher:x"))


def test_every_archive_on_record_can_be_downloaded_or_requested():
    for name in datasets.names():
        for archive in datasets.load(name).archives:
            assert download.hosts.scheme(archive) in ("", "http", "https", *download.hosts.VARIABLES), archive
            assert (
                download.hosts.is_tree(archive)
                or download.hosts.scheme(archive) == "zenodo"
                or download.archives.is_archive(archive.name)
            ), archive


def test_the_command_with_a_mirror(tmp_path, monkeypatch, capsys):
    archive = Archive("v1.0.zip", "https://example.org/v1.0.zip", sha256=SHA[ONE])
    monkeypatch.setattr(datasets, "load", lambda name: replace(BRAINS, archives=(archive,)))
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "b.zip").write_bytes(ONE)
    line = ["download", "--dataset", "brains", "--root", str(tmp_path / "data" / "brains"), "--out", str(tmp_path / "out.json")]
    with pytest.raises(SystemExit):
        cli.main([*line, "--mirror", str(tmp_path / "missing")])
    assert "there is no folder" in capsys.readouterr().err
    assert cli.main([*line, "--mirror", str(tmp_path / "mirror")]) == 0 and cli.main([*line, "--mirror="]) == 0
    found = read_json(tmp_path / "out.json")
    assert found["volumes"] == 1 and found["archives"][0]["source"] == "mirror"
    assert (tmp_path / "data" / "incoming" / "brains").is_dir() and not (
        tmp_path / "data" / "incoming" / "brains" / "b.zip"
    ).exists()


@pytest.mark.parametrize("name", ["root", "incoming"])
def test_a_folder_that_cannot_be_written(place, name):
    path = getattr(place, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    if name == "root":
        place.put("one.zip", ONE)
    with pytest.raises(UserError, match=r"cannot (read or )?write"):
        place.download(Archive("one.zip"), access="place")


def packed_as(archive: Archive, examples: tuple[str, ...], path) -> None:
    """Writes empty files into an archive with the suffix of the data set's archive."""
    if archive.name.endswith(".zip"):
        path.write_bytes(packed(*examples))
        return
    with tarfile.open(path, "w:gz" if archive.name.endswith("gz") else "w") as tar:
        for name in examples:
            tar.addfile(tarfile.TarInfo(name))


@pytest.mark.parametrize("layout", [0, -1])
@pytest.mark.parametrize("name", datasets.names())
def test_every_layout_is_found_where_archives_are_unpacked_to(name, layout, place):
    """All files are in the first archive, since a layout must not depend on the folders above it."""
    dataset = datasets.load(name)
    archive = (*dataset.archives, Archive("any.zip"))[0]
    if dataset.access == "embedded" or download.hosts.is_tree(archive) or dataset.archives[1:]:
        pytest.skip("not one archive")
    if archive.name.endswith(download.archives.ENCRYPTED):
        archive = Archive("ATLAS.tar.gz")
    if download.hosts.scheme(archive) == "zenodo":
        archive = Archive("any.zip")
    examples = tuple(example for example in dataset.layouts[layout].examples if ".nii" in example)
    if not examples:
        pytest.skip("other files than NIfTI")
    place.incoming.mkdir(parents=True)
    packed_as(archive, examples, place.incoming / archive.name)
    known = (Archive(archive.name),) if dataset.archives else ()
    found = download.download(replace(dataset, archives=known), place.root, place.incoming)
    assert found["layout"] == dataset.layouts[layout].name and found["volumes"] >= 1 and len(found["archives"]) == 1


def test_two_downloads_of_one_data_set_wait_for_each_other(place, monkeypatch):
    lock = download.locks.try_take(place.incoming / ".lock")
    asked = []

    def release(seconds):
        asked.append(seconds)
        lock.release()

    monkeypatch.setattr(download.locks.time, "sleep", release)
    place.put("one.zip", ONE)
    assert place.download(Archive("one.zip"), access="place")["volumes"] == 1 and len(asked) == 1
