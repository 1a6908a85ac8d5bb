"""Synapse, XNAT, Hugging Face and Dataverse, played by local servers; the real ones cannot be reached from tests."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from brainpretrain import datasets
from brainpretrain.datasets.base import Archive
from brainpretrain.download import hosts
from brainpretrain.download import http as download
from brainpretrain.download.archives import being_made, made_from
from brainpretrain.errors import UserError
from fake_hosts import SECRETS, dataverse, hugging_face, synapse, xnat
from faulty_server import saying, serving

CONTENT = os.urandom(50_000)
ONE = Archive("one.zip", "synapse:syn1")


@pytest.fixture(autouse=True)
def account(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.setattr(download, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(download, "ATTEMPTS", 3)


@pytest.fixture
def at_synapse(monkeypatch):
    with synapse(CONTENT) as host:
        monkeypatch.setattr(hosts, "SYNAPSE", f"{host.front.url}/repo/v1")
        monkeypatch.setattr(hosts, "SYNAPSE_FILES", f"{host.front.url}/file/v1")
        yield host
        assert not [request for request in host.store.asked if "Authorization" in request]


@pytest.mark.parametrize("url", ["synapse:syn1", "synapse:syn2"])
def test_a_file_of_synapse_by_its_id_or_by_its_name_below_a_folder(tmp_path, at_synapse, url):
    found = hosts.synapse_file(Archive("one.zip", url), tmp_path / "one.zip")
    assert (tmp_path / "one.zip").read_bytes() == CONTENT and found["size"] == len(CONTENT)


def test_every_attempt_asks_for_a_fresh_address(tmp_path, at_synapse):
    cut = saying(200, CONTENT[:20_000], Content_Length=str(len(CONTENT)), ETag='"v1"')
    at_synapse.store.answers[:] = [cut, serving(CONTENT)]
    hosts.synapse_file(ONE, tmp_path / "one.zip")
    assert [request["path"][-1] for request in at_synapse.store.asked] == ["2", "3"]  # the first was for size and md5
    assert at_synapse.store.asked[1]["Range"] == "bytes=20000-" and (tmp_path / "one.zip").read_bytes() == CONTENT


def test_md5_and_size_of_synapse_are_checked(tmp_path, at_synapse):
    at_synapse.store.answers[:] = [serving(CONTENT[::-1])]
    with pytest.raises(UserError, match="is not the file on record: md5 is"):
        hosts.synapse_file(ONE, tmp_path / "one.zip")
    with pytest.raises(UserError, match="Synapse has 50000 bytes of one.zip, on record are 7".replace(".", r"\.")):
        hosts.synapse_file(Archive("one.zip", "synapse:syn2", size=7), tmp_path / "one.zip")
    assert not (tmp_path / "one.zip").exists()


def test_a_name_that_synapse_does_not_have(tmp_path, at_synapse):
    with pytest.raises(UserError, match=r"no two\.zip below syn1, but one\.zip, other\.zip"):
        hosts.synapse_file(Archive("two.zip", "synapse:syn1"), tmp_path / "two.zip")


def test_synapse_without_permission(tmp_path, at_synapse):
    at_synapse.refuse = 403
    with pytest.raises(UserError, match="asks for a login: status 403"):
        hosts.synapse_file(ONE, tmp_path / "one.zip")


SESSIONS = {
    "OAS30001_MR_d0129": {"T1w": b"1", "T2w": b"22", "bold": b"333"},
    "OAS30001_MR_d0757": {"FLAIR": b"4444"},
    "OAS30002_MR_d0001": {"bold": b"5"},
}
FILES = {
    "OAS30001_MR_d0129/sub0/OAS30001_MR_d0129_T1w.nii.gz": b"1",
    "OAS30001_MR_d0129/sub1/OAS30001_MR_d0129_T2w.nii.gz": b"22",
    "OAS30001_MR_d0757/sub0/OAS30001_MR_d0757_FLAIR.nii.gz": b"4444",
}


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.nii.gz")}


def of(host) -> Archive:
    return Archive("P", f"xnat:{host.front.url}/ir/P", scans=("T1w", "T2w", "FLAIR"))


def test_each_xnat_project_has_its_own_types_of_scans(tmp_path):
    """OASIS-4 leaves out fMRI only, OASIS-3 arterial spin labelling and field maps too (AMAES, Table 1 and its converters)."""
    three, four = (set(datasets.load(name).archives[0].scans) for name in ("oasis3", "oasis4"))
    assert four - three == {"asl", "fieldmap"} and not three - four and "bold" not in four
    with xnat({"A": {"T1w": b"1", "asl": b"22", "bold": b"333"}}) as host:
        assert hosts.xnat_project(replace(of(host), scans=("asl",)), tmp_path)["bytes"] == 2
    assert set(contents(tmp_path)) == {"A/sub1/A_asl.nii.gz"}


def test_the_scans_of_an_xnat_project_lie_as_the_official_scripts_lay_them(tmp_path):
    with xnat(SESSIONS) as host:
        assert hosts.xnat_project(of(host), tmp_path) == {"files": 3, "bytes": 7}
    assert contents(tmp_path) == FILES and not list(tmp_path.glob(".*"))
    assert len([request for request in host.front.asked if "Authorization" in request]) == 1  # then the session's cookie
    assert made_from(tmp_path / "OAS30001_MR_d0757")["sha256"] and made_from(tmp_path / "OAS30002_MR_d0001")["files"] == 0


def test_sessions_that_are_there_are_not_asked_for_again(tmp_path):
    with xnat(SESSIONS) as host:
        hosts.xnat_project(of(host), tmp_path)
        before = len(host.front.asked)
        hosts.xnat_project(of(host), tmp_path)
        assert len(host.front.asked) == before + 2  # the login and the list


def test_a_session_that_ends_early_is_made_anew(tmp_path):
    with xnat(SESSIONS) as host:
        usual = host.front.answers[0]

        def cut(handler):
            if "/files" in handler.path and len(host.front.asked) < 6:
                handler.reply(200, b"PK\3\4", Content_Length="999")
            else:
                usual(handler)

        host.front.answers[:] = [cut]
        hosts.xnat_project(of(host), tmp_path)
    assert contents(tmp_path) == FILES


def test_a_wrong_password_at_xnat(tmp_path, monkeypatch):
    monkeypatch.setenv("XNAT_PASSWORD", "wrong")
    with xnat(SESSIONS) as host, pytest.raises(UserError, match="asks for a login: status 401"):
        hosts.xnat_project(of(host), tmp_path)


def test_an_xnat_project_without_sessions_or_without_wanted_scans(tmp_path):
    with xnat({}) as host, pytest.raises(UserError, match="no session that you may see"):
        hosts.xnat_project(of(host), tmp_path)
    with (
        xnat({"A": {"bold": b"1"}}) as host,
        pytest.raises(UserError, match=r"no scan in 1 sessions is of the types T1w.*there are bold"),
    ):
        hosts.xnat_project(of(host), tmp_path)


def test_a_login_page_instead_of_a_list(tmp_path):
    with xnat(SESSIONS) as host:
        host.front.answers[:] = [saying(200, b"0123456789"), saying(200, b"<html>")]
        with pytest.raises(UserError, match="something else than JSON"):
            hosts.xnat_project(of(host), tmp_path)


def test_a_password_is_not_sent_in_the_clear(tmp_path):
    with pytest.raises(UserError, match="over https only"):
        hosts.xnat_project(Archive("P", "xnat:http://xnat.example.org/P"), tmp_path)


REPOSITORY = {"a/sub 1/x.nii.gz": os.urandom(3000), "a/y.nii.gz": os.urandom(20), "meta.csv": b"a,b", "z.zip": b"z" * 9}
NAMED = Archive("n", "hf:o/n")


def fetch_repository(host, folder, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", host.front.url)
    return hosts.hugging_face(NAMED, folder)


def test_all_files_of_a_data_set_of_hugging_face(tmp_path, monkeypatch):
    files = {name.replace(" ", "%20"): body for name, body in REPOSITORY.items()}  # as the store is asked
    with hugging_face(REPOSITORY) as host:
        host.store.answers[:] = [lambda handler: serving(files[handler.path[1:].partition("?")[0]])(handler)]
        found = fetch_repository(host, tmp_path, monkeypatch)
        assert found == {"revision": "abc123", "files": 4, "bytes": 3032}
        assert {name: (tmp_path / name).read_bytes() for name in REPOSITORY} == REPOSITORY
        assert not [request for request in host.store.asked if "Authorization" in request] and len(host.store.asked) == 4
        (tmp_path / "a/y.nii.gz").unlink()
        fetch_repository(host, tmp_path, monkeypatch)
        assert len(host.store.asked) == 5


SMALL = {"a.zip": b"1" * 10, "b.csv": b"2", "c.zip": b"3" * 10}


def test_another_revision_is_compared_file_by_file(tmp_path, monkeypatch):
    with hugging_face(SMALL) as host:
        fetch_repository(host, tmp_path, monkeypatch)
        (tmp_path / ".revision.json").write_text('{"revision": "older"}')
        (tmp_path / "a.zip").write_bytes(b"0" * 10)
        fetch_repository(host, tmp_path, monkeypatch)
    assert (tmp_path / "a.zip").read_bytes() == SMALL["a.zip"] and len(host.store.asked) == 4


def test_checksums_of_hugging_face_are_checked_and_the_rest_is_kept(tmp_path, monkeypatch):
    with hugging_face(SMALL) as host:
        usual = host.store.answers[0]
        host.store.answers[:] = [lambda handler: serving(b"x" * 10)(handler) if "c.zip" in handler.path else usual(handler)]
        with (
            pytest.raises(UserError, match=r"c\.zip is not the file on record: sha256"),
            being_made(tmp_path / "n", keep=True) as making,
        ):
            fetch_repository(host, making, monkeypatch)
        host.store.answers[:] = [usual]
        with being_made(tmp_path / "n", keep=True) as making:
            fetch_repository(host, making, monkeypatch)
    assert {path.name for path in (tmp_path / "n").glob("[a-z]*")} == set(SMALL)
    assert [request["path"][1] for request in host.store.asked].count("c") == 2


def test_an_open_data_set_needs_no_token(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    with hugging_face(SMALL, needs_token=False) as host:
        fetch_repository(host, tmp_path, monkeypatch)
    assert not [request for request in host.front.asked if "Authorization" in request]


def test_names_of_a_host_do_not_lead_out_of_the_folder(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    with hugging_face({"../evil.zip": b"1", "b.csv": b"2"}) as host, pytest.raises(UserError, match="leads out of the folder"):
        fetch_repository(host, tmp_path / "in", monkeypatch)
    assert not (tmp_path / "evil.zip").exists()
    with xnat({"../evil": {"T1w": b"1"}}) as host, pytest.raises(UserError, match="leads out of the folder"):
        hosts.xnat_project(of(host), tmp_path / "in")


def test_a_list_that_goes_on_elsewhere_gets_no_token(tmp_path, monkeypatch):
    with hugging_face(SMALL) as host, synapse(b"") as other:
        host.front.answers[:] = [
            saying(200, b'{"sha": "abc123"}'),
            saying(200, b"[]", Link=f'<{other.front.url}/x>; rel="next"'),
        ]
        with pytest.raises(UserError, match="goes on at another host"):
            fetch_repository(host, tmp_path, monkeypatch)
    assert other.front.asked == []


WMH = {
    "test/Amsterdam/Philips_VU .PETMR_01./160/pre/FLAIR.nii.gz": os.urandom(3000),
    "test/Amsterdam/Philips_VU .PETMR_01./160/wmh.nii.gz": os.urandom(300),
    "readme.txt": b"read",
    "cases.csv": b"a,b",
}


def at_dataverse(host) -> Archive:
    return Archive("dataverse_files", f"dataverse:{host.front.url}/doi:10.1/AB")


def test_all_files_of_a_data_set_of_dataverse(tmp_path):
    with dataverse(WMH, table="cases.csv") as host:
        found = hosts.dataverse(at_dataverse(host), tmp_path)
        assert found == {"revision": "1.2", "files": 4, "bytes": 3307}
        assert {name: (tmp_path / name).read_bytes() for name in WMH} == WMH
        (tmp_path / "readme.txt").unlink()
        hosts.dataverse(at_dataverse(host), tmp_path)
        assert [request["path"] for request in host.store.asked[4:]] == ["/2"]
    assert not [request for request in host.front.asked + host.store.asked if "Authorization" in request]


def test_a_file_of_dataverse_goes_on_where_it_broke_off(tmp_path):
    with dataverse({"a/b.nii.gz": CONTENT}) as host:
        cut = saying(200, CONTENT[:20_000], Content_Length=str(len(CONTENT)), ETag='"v1"')
        host.store.answers[:] = [cut, serving(CONTENT)]
        hosts.dataverse(at_dataverse(host), tmp_path)
        assert host.store.asked[1]["Range"] == "bytes=20000-" and (tmp_path / "a/b.nii.gz").read_bytes() == CONTENT


def test_md5_and_names_of_dataverse_are_checked(tmp_path):
    (tmp_path / "in").mkdir()
    with dataverse({"a/b.nii.gz": CONTENT}) as host:
        host.store.answers[:] = [serving(CONTENT[::-1])]
        with pytest.raises(UserError, match=r"b\.nii\.gz is not the file on record: md5 is"):
            hosts.dataverse(at_dataverse(host), tmp_path / "in")
    with dataverse({"../../evil": b"1"}) as host, pytest.raises(UserError, match="leads out of the folder"):
        hosts.dataverse(at_dataverse(host), tmp_path / "in")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [".revision.json"]


def test_a_data_set_that_dataverse_does_not_have(tmp_path):
    with dataverse({}) as host:
        host.front.answers[:] = [saying(404, b'{"status": "ERROR"}')]
        with pytest.raises(UserError, match="does not have this file"):
            hosts.dataverse(at_dataverse(host), tmp_path)
