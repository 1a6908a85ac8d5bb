"""Archives that attack, archives that are damaged, and the odd ones that are all right."""

from __future__ import annotations

import io
import os
import stat
import struct
import subprocess
import tarfile
import zipfile
from types import SimpleNamespace

import pytest

from brainpretrain.download import archives
from brainpretrain.download.archives import MARKER, made_from, markers, stem, unpack
from brainpretrain.errors import UserError
from brainpretrain.files import read_json

FILES = {"a/one.nii": b"1" * 5000, "a/Philips_VU .PETMR_01./two.nii": os.urandom(3000), "a/empty": b""}
SUFFIXES = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}


def make_zip(path, files, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_tar(path, files, mode="w", **changes):
    """`changes`: attributes of the last member."""
    with tarfile.open(path, mode) as archive:
        for number, (name, content) in enumerate(files.items(), 1):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if number == len(files):
                for attribute, value in changes.items():
                    setattr(member, attribute, value)
            archive.addfile(member, io.BytesIO(content))
    return path


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != MARKER
    }


def refused(path, root, words):
    """The archive is refused with these words, and nothing at all is left of it."""
    before = sorted(root.rglob("*"))
    with pytest.raises(UserError, match=words) as error:
        unpack(path, root / "out", {})
    assert str(path) in str(error.value) and sorted(root.rglob("*")) == before


@pytest.mark.parametrize("suffix", [".zip", *SUFFIXES])
def test_an_archive_becomes_a_folder_with_a_marker(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    make_zip(path, FILES) if suffix == ".zip" else make_tar(path, FILES, SUFFIXES[suffix])
    marker = unpack(path, tmp_path / "out", {"name": path.name, "sha256": "abc"})
    assert contents(tmp_path / "out") == FILES
    assert marker == made_from(tmp_path / "out") == {"name": path.name, "sha256": "abc", "files": 3, "bytes": 8000}
    assert markers(tmp_path) == [marker] and not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_names_of_archives():
    assert [stem(name) for name in ("a.zip", "a.b.tar.gz", "A.ZIP", "a_encrypted.tar.gz", "a.nii.gz", "b.xlsx")] == [
        "a", "a.b", "A", "a", "a.nii.gz", "b.xlsx",
    ]  # fmt: skip


def test_a_file_that_is_no_archive_is_the_one_file_of_its_folder(tmp_path):
    (tmp_path / "map.xlsx").write_bytes(b"123")
    assert unpack(tmp_path / "map.xlsx", tmp_path / "out", {})["files"] == 1
    assert contents(tmp_path / "out") == {"map.xlsx": b"123"}


def test_what_macos_adds_is_left_out(tmp_path):
    extra = {"a/._one.nii": b"x", "__MACOSX/a/one.nii": b"x", "a/.DS_Store": b"x"}
    unpack(make_zip(tmp_path / "x.zip", FILES | extra), tmp_path / "zip", {})
    unpack(make_tar(tmp_path / "x.tar", FILES | extra), tmp_path / "tar", {})
    assert contents(tmp_path / "zip") == contents(tmp_path / "tar") == FILES


def test_members_can_be_moved(tmp_path):
    unpack(
        make_zip(tmp_path / "x.zip", {"s/scans/anat1-T1w/resources/NIFTI/files/v.nii": b"1"}),
        tmp_path / "out",
        {},
        lambda name: name.split("/")[-1],
    )
    assert contents(tmp_path / "out") == {"v.nii": b"1"}


def test_modes_and_owners_are_not_taken_over(tmp_path):
    unpack(make_tar(tmp_path / "x.tar", FILES, mode="w"), tmp_path / "plain", {})
    unpack(make_tar(tmp_path / "y.tar", {"f": b""}, mode="w"), tmp_path / "out", {})
    make_tar(tmp_path / "z.tar", {"f": b""}).rename(tmp_path / "z2.tar")
    path = make_tar(tmp_path / "s.tar", {"f": b"1"})
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("f")
        member.mode, member.uid, member.mtime = 0o4777, 12345, 1
        archive.addfile(member)
    unpack(path, tmp_path / "suid", {})
    found = (tmp_path / "suid" / "f").stat()
    assert not found.st_mode & (stat.S_ISUID | stat.S_IXUSR) and found.st_uid == os.getuid() and found.st_mtime > 1e9


def test_backslashes_between_folders_are_read(tmp_path):
    """As some programs of Windows write a zip."""
    unpack(make_zip(tmp_path / "x.zip", {"a\\": b"", "a\\b\\one.nii": b"1"}), tmp_path / "out", {})
    assert contents(tmp_path / "out") == {"a/b/one.nii": b"1"}


def test_two_separators_make_no_second_file(tmp_path):
    refused(make_zip(tmp_path / "x.zip", {"a\\b": b"1", "a/b": b"2"}), tmp_path, "'a/b' and 'a/b'")


TWINS = [({"a/x": b"1", "A/y": b"2"}, r"'a/' and 'A/'"), ({"a/x": b"1", "a/X": b"2"}, r"'a/x' and 'a/X'"), ({"a": b"1", "a/x": b"2"}, "'a' and 'a/'"),
         ({"é": b"1", "e\u0301": b"2"}, "one name")]  # fmt: skip


@pytest.mark.parametrize(("files", "words"), TWINS)
def test_no_two_members_with_one_name(tmp_path, files, words):
    refused(make_zip(tmp_path / "x.zip", files), tmp_path, words)
    refused(make_tar(tmp_path / "x.tar", files), tmp_path, words)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_no_member_twice(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("x", "1")
        archive.writestr("x", "2")
    refused(tmp_path / "x.zip", tmp_path, "'x' and 'x'")


def test_the_marker_cannot_be_forged(tmp_path):
    refused(make_zip(tmp_path / "x.zip", {MARKER: b"{}"}), tmp_path, "a name is reserved")


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_the_size_on_record_is_the_limit_where_there_is_one(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(archives, "SMALL_BYTES", 0)
    path, files = tmp_path / f"x{suffix}", {"zeros": bytes(1_000_000)}
    make_zip(path, files) if suffix == ".zip" else make_tar(path, files, "w:gz")
    with pytest.raises(UserError, match=r"more than 1 MB \(1\.5 times what is on record(.|\n)*as a zip bomb does"):
        unpack(path, tmp_path / "out", {}, unpacked_size=600_000)
    refused(path, tmp_path, "200 times its own size")
    assert unpack(path, tmp_path / "out", {}, unpacked_size=1_000_000)["bytes"] == 1_000_000


def test_a_bomb_of_empty_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "SMALL_BYTES", 100_000)
    refused(make_tar(tmp_path / "x.tar.xz", {f"{n:05}": b"" for n in range(3000)}, "w:xz"), tmp_path, "as a zip bomb does")


def test_a_zip_whose_members_share_their_bytes_is_counted_in_full(tmp_path, monkeypatch):
    """A zip with overlapping members can reach any ratio; the central directory states the sum of the sizes."""
    monkeypatch.setattr(archives, "SMALL_BYTES", 10_000)
    path = make_zip(tmp_path / "x.zip", {"a": b"0" * 5000, "b": b"0" * 5000, "c": b"0" * 5000})
    monkeypatch.setattr(archives, "MAX_RATIO", 1)
    refused(path, tmp_path, "as a zip bomb does")


def test_a_size_that_lies_is_found(tmp_path):
    path = make_zip(tmp_path / "x.zip", {"a": b"0" * 5000})
    data = path.read_bytes()
    path.write_bytes(data.replace(struct.pack("<L", 5000), struct.pack("<L", 4000)))
    refused(path, tmp_path, "damaged")


class Pipe(io.RawIOBase):
    """A stream that cannot go back, so that a zip gets data descriptors behind its members."""

    def __init__(self, path):
        self.stream = open(path, "wb")  # noqa: SIM115

    def writable(self):
        return True

    def write(self, data):
        return self.stream.write(data)

    def close(self):
        self.stream.close()
        super().close()


def test_a_streamed_zip64_as_a_server_makes_it(tmp_path):
    """Sizes behind the members and 64-bit fields, where they are not needed: some programs take such a zip for a bomb."""
    with Pipe(tmp_path / "x.zip") as pipe, zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in FILES.items():
            with archive.open(name, "w", force_zip64=True) as out:
                out.write(content)
    unpack(tmp_path / "x.zip", tmp_path / "out", {})
    assert contents(tmp_path / "out") == FILES


def test_a_zip_with_bytes_before_it(tmp_path):
    """Offsets that are wrong by a constant: members are found from the end, as in a zip that unpacks itself."""
    path = make_zip(tmp_path / "x.zip", FILES)
    path.write_bytes(b"x" * 1000 + path.read_bytes())
    unpack(path, tmp_path / "out", {})
    assert contents(tmp_path / "out") == FILES


@pytest.mark.parametrize("suffix", [".zip", *SUFFIXES])
@pytest.mark.parametrize("share", [0.0, 0.4, 0.7])
def test_a_cut_archive_is_found(tmp_path, suffix, share):
    files = {f"{n}": os.urandom(2048) for n in range(20)}
    path = tmp_path / f"x{suffix}"
    make_zip(path, files) if suffix == ".zip" else make_tar(path, files, SUFFIXES[suffix])
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share) // 512 * 512])
    refused(path, tmp_path, "damaged or is none")


@pytest.mark.parametrize("blocks", range(4, 16))
def test_a_tar_that_is_cut_between_two_blocks_is_found(tmp_path, blocks):
    """tarfile takes a cut between members for the end, also where the last bytes are zeros."""
    path = make_tar(tmp_path / "x.tar", {f"{n}": bytes(1024) for n in range(5)})
    path.write_bytes(path.read_bytes()[: blocks * 512])
    if blocks == 15:  # all five members, and no end
        with tarfile.open(path) as archive:
            assert len(archive.getmembers()) == 5
    refused(path, tmp_path, "damaged or is none")


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_a_flipped_bit_is_found(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    files = {"one": os.urandom(5000)}
    make_zip(path, files) if suffix == ".zip" else make_tar(path, files, "w:gz")
    data = bytearray(path.read_bytes())
    data[2500] ^= 1
    path.write_bytes(data)
    refused(path, tmp_path, "damaged")


def test_a_name_that_is_no_utf8(tmp_path):
    """Flagged as UTF-8, which it is not: the zip reader of Python gives up with an error of its text codec."""
    path = make_zip(tmp_path / "x.zip", {"\u00e9.nii": b"1"})
    path.write_bytes(path.read_bytes().replace("\u00e9".encode(), b"\xff\xfe"))
    refused(path, tmp_path, "damaged or is none: 'utf-8' codec")


def test_a_member_of_a_tar_that_claims_more_than_any_archive_may_hold(tmp_path):
    member = tarfile.TarInfo("a")
    member.size = 1 << 60
    (tmp_path / "x.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    refused(tmp_path / "x.tar", tmp_path, "'a': it unpacks to more than")


def test_an_encrypted_member_is_refused(tmp_path):
    path = make_zip(tmp_path / "x.zip", {"a": b"1"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    refused(path, tmp_path, "'a': a member is encrypted")


def test_a_killed_run_is_cleared_away(tmp_path):
    (tmp_path / ".making-out" / "a").mkdir(parents=True)
    (tmp_path / ".making-out" / "a" / "half").write_bytes(b"1")
    unpack(make_zip(tmp_path / "x.zip", FILES), tmp_path / "out", {})
    assert contents(tmp_path / "out") == FILES and not (tmp_path / ".making-out").exists()


def test_the_folder_of_a_user_is_not_touched(tmp_path):
    (tmp_path / "out").mkdir()
    refused_by = pytest.raises(UserError, match="exists already")
    with refused_by:
        unpack(make_zip(tmp_path / "x.zip", FILES), tmp_path / "out", {})
    assert not list((tmp_path / "out").iterdir())


def test_a_disk_that_is_too_small(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "SPARE_BYTES", 1 << 60)
    with pytest.raises(UserError, match="the disk is too small"):
        unpack(make_zip(tmp_path / "x.zip", FILES), tmp_path / "out", {})
    assert not (tmp_path / ".making-out").exists()


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_a_disk_that_fills_meanwhile(tmp_path, monkeypatch, suffix):
    """A member of 3 MB, and somebody else who writes 1 GB after its first MB."""
    path, files = tmp_path / f"x{suffix}", {"a": bytes(3 << 20)}
    make_zip(path, files) if suffix == ".zip" else make_tar(path, files, "w:gz")
    free = [1 << 30, 1 << 30, 0]
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free.pop(0)))
    with pytest.raises(UserError, match=r"the disk is too small: 0\.00 GB are needed, 0\.00 GB are free"):
        unpack(path, tmp_path / "out", {})
    assert free == [] and os.listdir(tmp_path) == [path.name]


PASSWORD = "canary-5f1c"


@pytest.fixture
def encrypted(tmp_path, monkeypatch):
    """An archive encrypted as the owners of ATLAS do it."""
    make_tar(tmp_path / "plain.tar.gz", FILES, "w:gz")
    path = tmp_path / "A_encrypted.tar.gz"
    line = ["openssl", "aes-256-cbc", "-md", "sha256", "-a", "-in", "plain.tar.gz", "-out", path.name, "-pass", "env:P"]
    subprocess.run(line, cwd=tmp_path, env=os.environ | {"P": PASSWORD}, check=True, capture_output=True)
    (tmp_path / "plain.tar.gz").unlink()
    monkeypatch.delenv("ATLAS_PASSWORD", raising=False)
    return path


def test_an_encrypted_archive_with_its_password(tmp_path, encrypted, monkeypatch):
    monkeypatch.setenv("ATLAS_PASSWORD", PASSWORD)
    unpack(encrypted, tmp_path / "out", {})
    assert contents(tmp_path / "out") == FILES and sorted(os.listdir(tmp_path)) == [encrypted.name, "out"]
    assert set(read_json(tmp_path / "out" / MARKER)) == {"files", "bytes"}


def test_the_password_is_on_no_command_line(tmp_path, encrypted, monkeypatch):
    monkeypatch.setenv("ATLAS_PASSWORD", PASSWORD)
    lines, run = [], subprocess.run
    monkeypatch.setattr(archives.subprocess, "run", lambda line, **options: lines.append(line) or run(line, **options))
    unpack(encrypted, tmp_path / "out", {})
    assert len(lines) == 1 and PASSWORD not in " ".join(lines[0])


def test_without_the_password_it_says_which_variable(tmp_path, encrypted):
    refused(encrypted, tmp_path, "the variable ATLAS_PASSWORD is not set")


def test_a_wrong_password(tmp_path, encrypted, monkeypatch):
    monkeypatch.setenv("ATLAS_PASSWORD", "wrong")
    refused(encrypted, tmp_path, "cannot decrypt|damaged")
