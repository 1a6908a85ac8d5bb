"""Faults 9 and 10. Canaries: credentials in the environment, every command that could let one out, and a search through all that was written."""

from __future__ import annotations

import base64
import os
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from tests.download.test_download import BRAINS

import workflow_fixture
from brainpretrain import cli, datasets
from brainpretrain.datasets.base import Archive
from brainpretrain.download import hosts
from brainpretrain.download import http as download
from fake_hosts import BASIC, SECRETS, TICKET, hugging_face, synapse, xnat, zipped
from faulty_server import Server, saying

VOLUME = "sub1/T1w.nii.gz"
CANARIES = {
    word.encode() for value in SECRETS.values() for word in (value, quote(value), base64.b64encode(value.encode()).decode())
}
CANARIES |= {BASIC.split()[1].encode(), TICKET.encode(), b"canary-signature"}


def found_in(folder: Path, *texts: str) -> list[str]:
    """Where a canary is: files of a folder (their names too), and what was printed."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) >= 1
    contents = {str(path): str(path).encode() + path.read_bytes() for path in files} | {text: text.encode() for text in texts}
    return [name for name, content in contents.items() if any(canary in content for canary in CANARIES)]


@pytest.fixture(autouse=True)
def account(monkeypatch):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(download, "ATTEMPTS", 2)


def run(tmp_path, monkeypatch, capfd, archive, codes, before=lambda: None) -> None:
    """Downloads by the command, then looks at what it printed and left."""
    monkeypatch.setattr(datasets, "load", lambda name: replace(BRAINS, archives=(archive,), access="credential"))
    root, out = tmp_path / "data" / "brains", tmp_path / "results" / "source.json"
    for code in codes:
        before()
        line = ["--dataset", "brains", "--root", str(root), "--out", str(out)]
        assert cli.main(["download", *line]) == code
        if code == 0:
            assert cli.main(["fetch", *line]) == 0 and archive.name in out.read_text()
    said = capfd.readouterr()
    assert not found_in(tmp_path, said.out, said.err) and "brains" in said.out


def left_in(*folders: Path) -> list[Path]:
    """Files of these folders, but for the lock."""
    return [path for folder in folders for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]


@pytest.mark.parametrize(
    ("url", "name", "needed"),
    [
        ("synapse:syn1", "one.zip", "SYNAPSE_AUTH_TOKEN"),
        ("xnat:example.org/P", "P", "XNAT_USER and XNAT_PASSWORD"),
        ("hf:owner/name", "name", "HF_TOKEN"),
        ("https://example.org/A_encrypted.tar.gz", "A_encrypted.tar.gz", "ATLAS_PASSWORD"),
    ],
)
def test_09_a_variable_that_is_not_set_is_named_before_the_host_is_asked(tmp_path, monkeypatch, capfd, url, name, needed):
    for variable in SECRETS:
        monkeypatch.delenv(variable)
    dataset = replace(BRAINS, archives=(Archive(name, url),), access="credential")
    monkeypatch.setattr(datasets, "load", lambda name: dataset)
    root, incoming = tmp_path / "data" / "brains", tmp_path / "data" / "incoming"
    assert cli.main(["download", "--dataset", "brains", "--root", str(root), "--out", str(tmp_path / "out.json")]) == 2
    said = capfd.readouterr().err
    assert f"set the environment variable {needed}\n  where: {url}\n  fix:   register" in said and str(incoming) in said
    assert not left_in(root, incoming) and not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("status", [401, 403])
def test_09_a_wrong_secret_is_named_and_the_right_one_succeeds(tmp_path, monkeypatch, capfd, status):
    with xnat({"sub1": {"T1w": b"1"}}) as host:
        dataset = replace(BRAINS, archives=(Archive("P", f"xnat:{host.front.url}/ir/P", scans=("T1w",)),), access="credential")
        monkeypatch.setattr(datasets, "load", lambda name: dataset)
        root = tmp_path / "data" / "brains"
        line = ["download", "--dataset", "brains", "--root", str(root), "--out", str(tmp_path / "out.json")]
        monkeypatch.setenv("XNAT_PASSWORD", "canary-wrong")
        host.refuse = status
        assert cli.main(line) == 2
        said = capfd.readouterr().err
        words = (
            f"asks for a login: status {status}",
            "check XNAT_USER and XNAT_PASSWORD, and accept the terms at",
            host.front.url,
        )
        assert all(word in said for word in words) and "canary" not in said
        assert not left_in(root, root.parent / "incoming") and not (tmp_path / "out.json").exists()
        host.refuse = 0
        monkeypatch.setenv("XNAT_PASSWORD", SECRETS["XNAT_PASSWORD"])
        assert cli.main(line) == 0 and (tmp_path / "out.json").exists()


def test_09_the_workflow_starts_no_job_where_a_variable_is_not_set(tmp_path, monkeypatch):
    for name in SECRETS:
        monkeypatch.delenv(name)
    workflow = workflow_fixture.copy(tmp_path)
    targets = ["--config", "study=amaes", "--", "download_wmh", "download_oasis3"]
    said = workflow.snakemake(*targets, check=False, https_proxy="http://127.0.0.1:9", no_proxy="")
    assert "to download OASIS3 of 'oasis3', set the environment variable XNAT_USER and XNAT_PASSWORD" in said
    assert not (tmp_path / "results").exists() and not (tmp_path / "data").exists()
    assert "download_oasis3" in workflow.snakemake("-n", *targets, XNAT_USER="me", XNAT_PASSWORD="x")


def switch(host, *statuses):
    """Before each run, the host refuses with the next status, or does not."""
    left = list(statuses)

    def before():
        host.refuse = left.pop(0)

    return before


def test_10_no_secret_gets_out_with_synapse(tmp_path, monkeypatch, capfd):
    content = zipped({VOLUME: b"1"})
    with synapse(content) as host:
        monkeypatch.setattr(hosts, "SYNAPSE", f"{host.front.url}/repo/v1")
        monkeypatch.setattr(hosts, "SYNAPSE_FILES", f"{host.front.url}/file/v1")
        cut = saying(200, b"PK", Content_Length=str(len(content)))
        host.store.answers[:] = [cut, cut, host.store.answers[0]]
        run(tmp_path, monkeypatch, capfd, Archive("one.zip", "synapse:syn1"), [2, 2, 2, 0], switch(host, 403, 500, 0, 0))


def test_10_no_secret_gets_out_with_xnat(tmp_path, monkeypatch, capfd):
    with xnat({"sub1": {"T1w": b"1"}}) as host:
        archive = Archive("P", f"xnat:{host.front.url}/ir/P", scans=("T1w",))
        run(tmp_path, monkeypatch, capfd, archive, [2, 2, 0], switch(host, 401, 500, 0))


def test_10_no_secret_gets_out_with_hugging_face(tmp_path, monkeypatch, capfd):
    with hugging_face({VOLUME: b"1", "b.csv": b"2"}) as host:
        monkeypatch.setenv("HF_ENDPOINT", host.front.url)
        run(tmp_path, monkeypatch, capfd, Archive("n", "hf:o/n"), [2, 2, 0], switch(host, 401, 500, 0))


def test_10_no_secret_gets_out_with_an_encrypted_archive(tmp_path, monkeypatch, capfd, tmp_path_factory):
    made = tmp_path_factory.mktemp("made")
    (made / "T1w.nii.gz").touch()
    with tarfile.open(made / "plain", "w:gz") as archive:
        archive.add(made / "T1w.nii.gz", VOLUME)
    incoming = tmp_path / "data" / "incoming" / "brains"
    incoming.mkdir(parents=True)
    line = ["openssl", "aes-256-cbc", "-md", "sha256", "-a", "-in", str(made / "plain"), "-pass", "env:ATLAS_PASSWORD", "-out"]
    subprocess.run([*line, str(incoming / "A_encrypted.tar.gz")], check=True, capture_output=True)
    wrong = iter([True, False])

    def before():
        monkeypatch.setenv("ATLAS_PASSWORD", "x" if next(wrong) else SECRETS["ATLAS_PASSWORD"])

    run(tmp_path, monkeypatch, capfd, Archive("A_encrypted.tar.gz"), [2, 0], before)


def test_10_no_secret_follows_a_redirect_to_another_host(tmp_path, monkeypatch, capfd):
    with Server(saying(200, b"PK")) as thief, xnat({"sub1": {"T1w": b"1"}}) as host:
        host.front.answers[:] = [saying(302, Location=f"{thief.url}/steal")]
        run(tmp_path, monkeypatch, capfd, Archive("P", f"xnat:{host.front.url}/ir/P", scans=("T1w",)), [2])
    assert thief.asked and not [
        word for request in thief.asked for word in request.values() if any(c.decode() in word for c in CANARIES)
    ]


def test_10_no_secret_is_in_what_is_left_of_the_workflow_and_in_its_report(tmp_path):
    """MSSEG-1, whose archive a user places, through failure and success, with everything that Snakemake keeps of it."""
    workflow = workflow_fixture.copy(tmp_path)
    (tmp_path / "config" / "studies" / "tiny.yaml").write_text(
        workflow_fixture.STUDY.replace("{dataset: phantom_tiny, subsets: [unlabelled]}", "{dataset: msseg1}")
    )
    offline = SECRETS | {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "no_proxy": ""}
    said = [workflow.snakemake("--", "download_msseg1", check=False, **offline)]
    assert "cannot be downloaded without you" in said[-1] and "MSSEG-Training.zip" in said[-1] and "shanoir.irisa.fr" in said[-1]
    said.append(workflow.snakemake("-n", "--", "download_all", **offline))
    assert "Not asked for, since they need you: msseg1" in said[-1]
    said.append(workflow.snakemake("--", "results/data/msseg1/source.json", check=False, **offline))
    assert "-- download_msseg1" in said[-1]
    incoming = tmp_path / "data" / "incoming" / "msseg1"
    (incoming / "MSSEG-Training.zip").write_bytes(
        zipped({example: b"" for example in datasets.load("msseg1").layouts[0].examples})
    )
    said.append(workflow.snakemake("--", "download_all", **offline))
    assert "In place: msseg1" in said[-1] and (tmp_path / "data" / "msseg1" / "MSSEG-Training").is_dir()
    source = "results/data/msseg1/source.json"
    said.append(workflow.snakemake("-n", "--", "download_all", **offline))
    assert "download_all" in said[-1] and "asked" in said[-1]  # a request looks again
    said.append(workflow.snakemake("--", source, **offline))
    assert '"source": "incoming"' in (tmp_path / source).read_text()
    said.append(workflow.snakemake("--report", "report.html", "--", source, **offline))
    assert (tmp_path / "report.html").stat().st_size > 1e5 and any((tmp_path / ".snakemake" / "metadata").iterdir())
    assert not found_in(tmp_path, *said)
    assert found_in(tmp_path, os.environ["HF_TOKEN"])  # the search finds what there is
