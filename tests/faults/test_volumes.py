"""Faults 11 to 24, 60 to 64 and 75: the command `shard` with unusable volumes and labels."""

from __future__ import annotations

import gzip
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from tests.preprocess.test_shards import RECIPE, SHAPE, content, row, verify

from brainpretrain import cli
from brainpretrain.files import read_tsv, write_tsv
from brainpretrain.preprocess import frames
from brainpretrain.preprocess.geometry import Geometry
from brainpretrain.preprocess.nifti import BadVolume, read_volume

AFFINE = np.diag([-1.3, 1.0, 1.3, 1.0])
BAD = 1  # the subject with the fault, between two good ones
Damage = Callable[[Path], Any]


@dataclass
class Collection:
    """Three labelled subjects in the folder of a user, and the command that builds a shard from them."""

    root: Path
    capsys: Any
    suffix: str = ".nii.gz"
    options: dict[str, Any] = field(default_factory=lambda: {"recipe": RECIPE, "labels": "1"})

    def __post_init__(self) -> None:
        names = {"path": f"T1 w{self.suffix}", "label": f"seg{self.suffix}"}
        self.rows = [row(n, True) | {key: f"sub-{n:02d}/{name}" for key, name in names.items()} for n in range(3)]
        rng = np.random.default_rng(0)
        for each in self.rows:
            image = np.zeros(SHAPE, np.int16)
            image[3:-2, 2:-2, 5:-1] = rng.integers(1, 2000, (27, 32, 22))
            save(self.root / "raw" / each["path"], image)
            save(self.root / "raw" / each["label"], (image > 1000).astype(np.uint8))

    @property
    def image(self) -> Path:
        return self.root / "raw" / self.rows[BAD]["path"]

    @property
    def label(self) -> Path:
        return self.root / "raw" / self.rows[BAD]["label"]

    def shard(self, out: str, max_rejected: str = "0") -> tuple[int, str]:
        """The exit code and all output."""
        index = self.root / "index.tsv"
        write_tsv(index, self.rows)
        line = ["shard", "--index", str(index), "--root", str(self.root / "raw"), "--shard", "0", "--n-shards", "1"]
        line += ["--recipe", json.dumps(self.options["recipe"]), "--labels", self.options["labels"]]
        code = cli.main([*line, "--max-rejected", max_rejected, "--out", str(self.root / out / "shard000.tsv")])
        said = self.capsys.readouterr()
        return code, said.out + said.err

    def table(self, out: str) -> list[dict[str, Any]]:
        return read_tsv(self.root / out / "shard000.tsv").to_dict("records")


@pytest.fixture
def collection(tmp_path: Path, capsys: pytest.CaptureFixture) -> Collection:
    return Collection(tmp_path, capsys)


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE, **header: Any) -> None:
    """Writes a file with the given header fields, which nibabel would not accept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, affine)
    image.set_qform(affine, 1)
    image.set_sform(affine, 1)
    block = bytearray(image.to_bytes())
    fields = nib.Nifti1Header(bytes(block[:348]), check=False)
    for name, value in header.items():
        fields[name] = value
    block[:348] = fields.binaryblock
    path.write_bytes(gzip.compress(bytes(block)) if path.suffix == ".gz" else bytes(block))


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def assert_refused(collection: Collection, path: Path, damage: Damage, reason: str, *words: str) -> None:
    """The error names the file and the problem. If the recipe accepts rejections, the shard continues without the file, and the
    other volumes are kept. Once the file is repaired, the result is that of a shard without the fault."""
    assert collection.shard("clean")[0] == 0
    whole = path.read_bytes()
    damage(path)
    code, said = collection.shard("out")
    assert code == 2 and not (collection.root / "out/shard000.tsv").exists()
    about = "label: " if path == collection.label else ""
    for text in (f"{collection.rows[BAD]['path']}: {reason} ({about}", "1 of 3 volumes rejected", "fix:", *words):
        assert text in said, said
    code, said = collection.shard("out", "0.5")
    assert code == 0 and "2 volumes stored, 1 rejected" in said
    table = collection.table("out")
    assert [found["status"] for found in table] == ["ok", "rejected", "ok"] and table[BAD]["reason"] == reason
    assert not table[BAD]["file"]
    for found in (table[0], table[2]):
        verify(collection.root / "out", found)
    before = {path: path.stat().st_mtime_ns for path in (collection.root / "out/volumes").glob("sub-0[02]*")}
    path.write_bytes(whole)
    assert collection.shard("out")[0] == 0
    for part in ("shard000.tsv", "volumes/sub-01_ses-1_T1w.b2nd", "volumes/sub-01_ses-1_T1w.label.b2nd"):
        assert (collection.root / "out" / part).read_bytes() == (collection.root / "clean" / part).read_bytes()
    assert before == {path: path.stat().st_mtime_ns for path in before}


def cut(share: float) -> Damage:
    return lambda path: path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


@pytest.mark.parametrize("what", ["image", "label"])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_11_half_of_a_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture, suffix: str, what: str) -> None:
    collection = Collection(tmp_path, capsys, suffix)
    path = getattr(collection, what)
    expected = 352 + voxels(path).nbytes
    assert_refused(collection, path, cut(0.5), "truncated", f"expected {expected} bytes, got ")


@pytest.mark.parametrize("place", [0.5, 1.0])
def test_12_a_wrong_bit_is_refused(collection: Collection, place: float) -> None:
    def flip(path: Path) -> None:
        block = bytearray(path.read_bytes())
        block[int(len(block) * place) - 6] ^= 1  # in the voxels, or in the checksum at the end
        path.write_bytes(block)

    assert_refused(collection, collection.image, flip, "corrupt", "damaged")


@pytest.mark.parametrize(
    ("block", "reason", "words"),
    [(b"", "empty_file", "the file is empty"), (b"<!DOCTYPE html><html>log in" * 30, "html", "this is a web page, not a volume")],
)
def test_13_an_empty_file_or_a_web_page_is_refused(collection: Collection, block: bytes, reason: str, words: str) -> None:
    assert_refused(collection, collection.image, lambda path: path.write_bytes(block), reason, words)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_14_nan_and_inf_are_counted(collection: Collection, value: float) -> None:
    def spoil(path: Path) -> None:
        array = voxels(path).astype(np.float32)
        array[4:6, 7, 8:10] = value
        save(path, array)

    assert_refused(collection, collection.image, spoil, "nonfinite", "4 voxels are NaN or Inf, the first at (4, 7, 8)")


def one_slice(path: Path) -> None:
    array = np.zeros(SHAPE, np.int16)
    array[3:20, 3:20, 9] = voxels(path)[3:20, 3:20, 9]
    save(path, array)


@pytest.mark.parametrize(
    ("damage", "reason", "words"),
    [
        (lambda path: save(path, np.zeros(SHAPE, np.int16)), "constant", "every voxel is 0"),
        (lambda path: save(path, np.full(SHAPE, 7, np.int16)), "constant", "every voxel is 7"),
        (one_slice, "too_small", "all voxels above 0 are in one slice"),
        (lambda path: save(path, voxels(path)[..., 9:10]), "too_small", "an axis of 1 voxels"),
    ],
)
def test_15_a_volume_without_content_is_refused(collection: Collection, damage: Damage, reason: str, words: str) -> None:
    assert_refused(collection, collection.image, damage, reason, words)


@pytest.mark.parametrize(
    ("array", "reason", "words"),
    [
        (np.ones((*SHAPE, 4), np.int16), "not_3d", "4-D (32, 36, 28, 4) where 3-D is needed"),
        (np.ones(SHAPE[:2], np.int16), "not_3d", "2-D (32, 36) where 3-D is needed"),
        (np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")]), "dtype", "RGB voxels"),
        (np.ones(SHAPE, np.complex64), "dtype", "complex voxels"),
    ],
)
def test_16_other_than_one_real_3d_volume_is_refused(collection: Collection, array: np.ndarray, reason: str, words: str) -> None:
    assert_refused(collection, collection.image, lambda path: save(path, array), reason, words)


def test_16_a_channel_of_a_4d_file_is_taken_where_the_index_names_it(collection: Collection) -> None:
    assert collection.shard("one")[0] == 0
    array = voxels(collection.image)
    save(collection.image, np.stack([array[::-1], array], axis=-1))
    collection.rows[BAD]["channel"] = "1"
    assert collection.shard("four")[0] == 0
    assert collection.table("four")[BAD]["checksum"] == collection.table("one")[BAD]["checksum"]


@pytest.mark.parametrize("step", [0, np.nan, -1.3, 50])
def test_17_an_implausible_spacing_is_refused(collection: Collection, step: float) -> None:
    def write(path: Path) -> None:
        pixdim = [1, step, 1, 1.3, 0, 0, 0, 0]
        save(path, voxels(path), pixdim=pixdim, **({"srow_x": [-50, 0, 0, 0]} if step == 50 else {}))

    assert_refused(collection, collection.image, write, "spacing", f"spacing {step:g} x 1 x 1.3 mm is not within 0.05 to 20 mm")


def test_17_the_limits_are_those_of_the_recipe(collection: Collection) -> None:
    for path in (collection.image, collection.label):
        save(path, voxels(path), np.diag([-50, 1, 1.3, 1]))
    collection.options["recipe"] = RECIPE | {"spacing_range_mm": [0.05, 60]}
    assert collection.shard("out")[0] == 0
    assert collection.table("out")[BAD]["native_spacing_mm"] == "50 1 1.3"


def assert_remarked(collection: Collection, words: str) -> dict[str, Any]:
    """The volume is accepted, with a remark in the output, in its row, and in the report. Returns the row."""
    code, said = collection.shard("out")
    assert code == 0 and f"remark on {collection.rows[BAD]['path']}: {words}" in said, said
    found = collection.table("out")[BAD]
    assert found["status"] == "ok" and words in found["detail"]
    page, table = collection.root / "rejected.html", collection.root / "out/shard000.tsv"
    line = ["page-rejected", "--volumes", f"mine={table}", "--data", str(collection.root), "--out", str(page)]
    assert cli.main(line) == 0 and words in page.read_text()
    return found


def test_18_without_qform_and_sform_the_spacing_is_used_and_a_remark_says_so(collection: Collection) -> None:
    for path in (collection.image, collection.label):
        save(path, voxels(path), qform_code=0, sform_code=0)
    found = assert_remarked(collection, "neither qform nor sform: orientation unknown, pixdim used")
    np.testing.assert_allclose(Geometry.from_json(found["geometry"]).native_affine, np.diag([1.3, 1, 1.3, 1]), rtol=1e-6)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"srow_x": [1.3, 0, 0, 0]}, "sform (RAS, 1.3 x 1 x 1.3 mm) and qform (LAS, 1.3 x 1 x 1.3 mm) contradict each other"),
        ({"srow_y": [0, 2, 0, 0]}, "sform (LAS, 1.3 x 2 x 1.3 mm) and qform (LAS, 1.3 x 1 x 1.3 mm) contradict each other"),
        ({"srow_x": [0, 1.3, 0, 0], "srow_y": [1.0, 0, 0, 0]}, "contradict each other"),
    ],
)
def test_19_forms_that_contradict_each_other_are_refused(collection: Collection, header: dict, words: str) -> None:
    assert_refused(collection, collection.image, lambda path: save(path, voxels(path), **header), "forms", words)


def test_19_forms_that_place_the_same_volume_elsewhere_are_remarked(collection: Collection) -> None:
    for path in (collection.image, collection.label):
        save(path, voxels(path), qoffset_x=4)
    assert_remarked(collection, "qform and sform differ by up to 4.00 mm: sform used")


def turned(degrees: Iterable[float]) -> np.ndarray:
    """A rotation about x, then y, then z."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians(list(degrees))):
        one = np.eye(3)
        a, b = [other for other in range(3) if other != axis]
        one[[a, a, b, b], [a, b, a, b]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        matrix = one @ matrix
    return matrix


@pytest.mark.parametrize("degrees", [(0, 0, 20), (25, -15, 10), (-30, 0, 0)])
def test_20_a_point_of_an_oblique_volume_lands_where_it_was(collection: Collection, degrees: tuple[float, ...]) -> None:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turned(degrees) @ np.diag([-1.3, 1.0, 2.0]), [12, -7, 30]
    point = np.array([14.0, 20.0, 11.0])  # in voxels of the file
    squared = ((np.indices(SHAPE) - point[:, None, None, None]) * np.array([1.3, 1, 2])[:, None, None, None]) ** 2
    image = (50 + 1000 * np.exp(-squared.sum(axis=0) / (2 * 2.5**2))).astype(np.float32)  # brightest at `point`; distances in mm
    save(collection.image, image, affine)
    save(collection.label, (squared.sum(axis=0) < 9).astype(np.uint8), affine)
    assert collection.shard("out")[0] == 0
    found = collection.table("out")[BAD]
    geometry = Geometry.from_json(found["geometry"])
    expected = geometry.world_to_stored(affine[:3, :3] @ point + affine[:3, 3])
    stored = frames.load(collection.root / "out", found).astype(float)
    weight = np.where(stored > 0.6, stored, 0)
    centre = (np.indices(stored.shape) * weight).sum(axis=(1, 2, 3)) / weight.sum()
    assert np.abs(centre - expected).max() < 0.5
    label = frames.load_label(collection.root / "out", found)
    assert np.abs(np.argwhere(label).mean(axis=0) - expected).max() < 0.5


@pytest.mark.parametrize(
    ("header", "reason", "words"),
    [
        ({"srow_x": [-1.3, 0.4, 0, 0]}, "sheared", "sheared by 21.8 degrees"),
        ({"srow_x": [0, 0, 0, 0]}, "affine", "the affine is singular"),
        ({"srow_x": [np.nan, 0, 0, 0]}, "affine", "NaN or Inf in the affine"),
    ],
)
def test_21_a_meaningless_affine_is_refused(collection: Collection, header: dict, reason: str, words: str) -> None:
    assert_refused(collection, collection.image, lambda path: save(path, voxels(path), **header), reason, words)


def claiming(shape: tuple[int, int, int], members: int) -> bytes:
    """A .nii.gz that holds a multiple of 16 MiB of zeros, with any `shape` in its header."""
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header["dim"] = [3, *shape, 1, 1, 1, 1]
    header["pixdim"][1:4] = 1
    header["magic"], header["vox_offset"] = b"n+1", 352
    return gzip.compress(header.binaryblock + bytes(4)) + members * gzip.compress(bytes(1 << 24), 9)


# prints the peak memory of the command's own process, since the kernel counts the parent's memory as well for a parent
PEAK = """
import sys
from brainpretrain import cli
code = cli.main(sys.argv[1:])
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM:")))
sys.exit(code)
"""


@pytest.mark.parametrize(
    ("claim", "members", "reason", "words"),
    [
        ((30000, 30000, 30000), 0, "too_large", "27000000000000 voxels (30000, 30000, 30000), more than max_voxels"),
        ((1024, 1024, 1024), 64, "too_large", "1073741824 voxels (1024, 1024, 1024), more than max_voxels"),
        ((20, 20, 20), 64, "length", "more than the 8352 bytes that its header states"),
    ],
)
def test_22_a_bomb_is_refused_before_memory_is_taken(
    collection: Collection, claim: tuple[int, int, int], members: int, reason: str, words: str
) -> None:
    """The command runs in a process of its own, whose memory can be measured."""
    block = claiming(claim, members)
    assert len(block) < 1.2e6
    collection.image.write_bytes(block)
    write_tsv(collection.root / "index.tsv", collection.rows)
    line = ["shard", "--index", "index.tsv", "--root", "raw", "--shard", "0", "--n-shards", "1", "--recipe", json.dumps(RECIPE)]
    line += ["--max-rejected", "0.5", "--out", "out/shard000.tsv"]
    done = subprocess.run([sys.executable, "-c", PEAK, *line], cwd=collection.root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = collection.table("out")
    assert [each["reason"] for each in found] == ["", reason, ""] and words in found[BAD]["detail"]
    assert int(done.stdout.split()[-2]) < 200 * 1024, done.stdout  # kB of the whole process, including its libraries


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: save(path, voxels(path)[1:]), "shape (31, 36, 28) on a grid of (32, 36, 28)"),
        (lambda path: save(path, voxels(path), AFFINE + np.eye(4, k=3) * 20), "it is up to 20.00 mm off the grid of its image"),
        (lambda path: save(path, voxels(path), AFFINE @ np.diag([-1, 1, 1, 1])), "off the grid of its image"),
        (lambda path: save(path, voxels(path), AFFINE @ np.diag([1.1, 1, 1, 1])), "off the grid of its image"),
    ],
)
def test_23_a_label_on_another_grid_is_refused(collection: Collection, damage: Damage, words: str) -> None:
    assert_refused(collection, collection.label, damage, "label_grid", words)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.5, "1 label values are not integers"),
        (-1, "label values -1 to 1"),
        (7, "holds 7, which the data set does not name (its labels: 1)"),
        (70000, "label values 0 to 70000"),
    ],
)
def test_24_a_label_with_an_impossible_value_is_refused(collection: Collection, value: float, words: str) -> None:
    def spoil(path: Path) -> None:
        array = voxels(path).astype(np.float32)
        array[9, 9, 9] = value
        save(path, array)

    assert_refused(collection, collection.label, spoil, "label_value", words)


def test_24_a_label_that_is_off_by_rounding_is_rounded(collection: Collection) -> None:
    assert collection.shard("clean")[0] == 0
    save(collection.label, np.where(voxels(collection.label) > 0, 0.9999, 0.0001).astype(np.float32))
    assert collection.shard("out")[0] == 0
    assert collection.table("out")[BAD]["label_checksum"] == collection.table("clean")[BAD]["label_checksum"]


def test_24_an_empty_label_is_remarked(collection: Collection) -> None:
    save(collection.label, np.zeros(SHAPE, np.uint8))
    assert assert_remarked(collection, "the label is empty")["label_values"] == "0"


# ------------------------------------------------------------------------------------------------ 60 to 64, and 75


HALF_TURN = np.diag([1.3, -1.0, -1.3, 1.0])  # about x: its quaternion has no first number


@pytest.mark.parametrize(
    ("affine", "header"),
    [
        (np.diag([1.3, 1.0, 1.3, 1.0]), {"pixdim": [0, 1.3, 1, 1.3, 0, 0, 0, 0], "sform_code": 0}),
        (HALF_TURN, {"quatern_b": 1 + 1e-6, "sform_code": 0}),
        (HALF_TURN, {"quatern_b": 1 + 1e-4, "sform_code": 0}),
        (AFFINE, {"scl_slope": np.nan}),
        (AFFINE, {"dim": [7, *SHAPE, 1, 1, 1, 1]}),
    ],
)
def test_60_an_odd_header_is_read_as_nibabel_reads_it(collection: Collection, affine: np.ndarray, header: dict) -> None:
    """All kinds that NIfTI allows are in tests/preprocess/test_headers.py."""
    for path in (collection.image, collection.label):
        save(path, voxels(path), affine)
    assert collection.shard("clean")[0] == 0
    for path in (collection.image, collection.label):
        save(path, voxels(path), affine, **header)
    code, said = collection.shard("out")
    assert code == 0 and "remark" not in said
    for name in ("checksum", "label_checksum", "geometry"):
        assert collection.table("out")[BAD][name] == collection.table("clean")[BAD][name]


def test_60_units_are_converted_and_remarked(collection: Collection) -> None:
    assert collection.shard("clean")[0] == 0
    for path in (collection.image, collection.label):
        save(path, voxels(path), np.diag([1e-3, 1e-3, 1e-3, 1]) @ AFFINE, xyzt_units=1)
    assert (
        "label: the header is in m: converted to mm"
        in assert_remarked(collection, "the header is in m: converted to mm")["detail"]
    )
    assert collection.table("out")[BAD]["checksum"] == collection.table("clean")[BAD]["checksum"]


def test_60_check_says_what_shard_says(collection: Collection) -> None:
    """Of every fault that a header shows, and of a label on another grid."""
    odd = [{"srow_x": [-1.3, 0.4, 0, 0]}, {"pixdim": [1, 0, 1, 1.3, 0, 0, 0, 0]}, {"scl_inter": np.inf}, {"sform_code": -1}]
    collection.rows = [row(n, True) | {"path": f"{n}.nii.gz", "label": f"{n}_seg.nii.gz"} for n in range(6)]
    for n, each in enumerate(collection.rows):
        image = np.ones(SHAPE, np.int16) if n == 5 else np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE) % 500
        save(collection.root / "raw" / each["path"], image, **(odd[n] if n < len(odd) else {}))
        save(collection.root / "raw" / each["label"], np.ones(SHAPE, np.uint8), AFFINE + np.eye(4, k=3) * (n == 4) * 20)
    (collection.root / "raw/list.csv").write_text(
        "subject,sequence,path,label\n"
        + "".join(f"s{n},T1w,{each['path']},{each['label']}\n" for n, each in enumerate(collection.rows))
    )
    assert cli.main(["check", str(collection.root / "raw")]) == 2
    said = collection.capsys.readouterr().out
    _, rejected = collection.shard("out")
    lines = re.findall(r"^ +(\d\.nii\.gz: .*)$", rejected, re.MULTILINE)
    assert len(lines) == 6  # the last one is of one value, which no header shows
    for line in lines[:5]:
        assert line in said
    assert "5 problems" in said


def test_61_a_sform_and_a_pixdim_that_differ_are_remarked(collection: Collection) -> None:
    for path in (collection.image, collection.label):
        save(path, voxels(path), pixdim=[1, 1, 1, 1, 0, 0, 0, 0], qform_code=0)
    words = "sform (1.3 x 1 x 1.3 mm) and pixdim differ: sform used; SimpleITK and nnU-Net read 1 x 1 x 1 mm"
    assert assert_remarked(collection, words)["native_spacing_mm"] == "1.3 1 1.3"
    (collection.root / "raw/list.csv").write_text(f"subject,sequence,path\na,T1w,{collection.rows[BAD]['path']}\n")
    assert cli.main(["check", str(collection.root / "raw")]) == 0
    assert words in collection.capsys.readouterr().out


@pytest.mark.parametrize("code", [1, 2])
def test_61_the_remark_says_which_form_simpleitk_reads(collection: Collection, code: int) -> None:
    for path in (collection.image, collection.label):
        save(path, voxels(path), qoffset_x=4, sform_code=code)
    found = assert_remarked(collection, "qform and sform differ by up to 4.00 mm: sform used")
    theirs = SimpleITK.ReadImage(str(collection.image)).GetOrigin()[0]
    assert ("SimpleITK and nnU-Net read the qform" in found["detail"]) == (abs(theirs) == 4) == (code == 2)


def test_62_a_name_that_is_not_utf8_is_named_and_works_when_it_is_renamed(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    raw = os.fsencode(tmp_path) + b"/raw"
    save(tmp_path / "raw/imagesTr/x.nii.gz", np.ones(SHAPE, np.int16))
    save(tmp_path / "raw/labelsTr/x.nii.gz", np.ones(SHAPE, np.uint8))
    stated = {"channel_names": {"0": "FLAIR"}, "labels": {"background": 0, "lesion": 1}, "file_ending": ".nii.gz"}
    (tmp_path / "raw/dataset.json").write_text(json.dumps(stated))
    os.rename(raw + b"/imagesTr/x.nii.gz", raw + b"/imagesTr/M\xfcller_0000.nii.gz")
    os.rename(raw + b"/labelsTr/x.nii.gz", raw + b"/labelsTr/M\xfcller.nii.gz")
    options = ["--dataset", "nnunet", "--root", str(tmp_path / "raw"), "--options", '{"sequences": ["FLAIR"]}']
    commands = [["check", str(tmp_path / "raw")]]
    commands += [[name, *options, "--out", str(tmp_path / f"{name}.out")] for name in ("fetch", "index")]
    for line in commands:
        assert cli.main(line) == 2
        said = capsys.readouterr().err
        assert (
            r"the names of 2 files are not UTF-8: imagesTr/M\xfcller_0000.nii.gz, labelsTr/M\xfcller.nii.gz" in said
            and "rename" in said
        )
    os.rename(raw + b"/imagesTr/M\xfcller_0000.nii.gz", tmp_path / "raw/imagesTr/Müller_0000.nii.gz")
    os.rename(raw + b"/labelsTr/M\xfcller.nii.gz", tmp_path / "raw/labelsTr/Müller.nii.gz")
    for line in commands:
        assert cli.main(line) == 0
    assert read_tsv(tmp_path / "index.out")["volume"][0] == "Müller_FLAIR"


def test_63_rounding_below_0_is_clipped_and_remarked(collection: Collection) -> None:
    for each in collection.rows:
        each["label"] = ""  # as a corpus
    whole = voxels(collection.image).astype(np.float32)
    save(collection.image, whole)
    assert collection.shard("clean")[0] == 0
    save(collection.image, np.where(whole > 0, whole, np.float32(-1e-6)))
    remark = assert_remarked(collection, f"{np.count_nonzero(whole == 0)} voxels down to -1e-06 are rounding (above -1.9")
    assert "clipped to 0" in remark["detail"] and remark["checksum"] == collection.table("clean")[BAD]["checksum"]


def test_63_more_than_rounding_is_refused_and_the_fix_works(collection: Collection) -> None:
    array = voxels(collection.image)
    array[0, 0, 0] = -3
    save(collection.image, array)
    code, said = collection.shard("out")
    assert code == 2 and "negative (negative voxels down to -3)" in said
    assert "fix:   negative: allow_negative: true in the preprocess recipe" in said
    collection.options["recipe"] = RECIPE | {"allow_negative": True}
    assert collection.shard("out")[0] == 0


def test_63_padding_that_leaves_few_grey_levels_is_remarked(collection: Collection) -> None:
    array = voxels(collection.image)
    save(collection.image, np.where(array > 0, array, -32768).astype(np.int16))
    collection.options["recipe"] = RECIPE | {"allow_negative": True, "crop": "none"}
    found = assert_remarked(collection, "few grey levels: 90 % of the voxels above the lowest value are stored as 0.94")
    assert "levels (the lowest value is -32768)" in found["detail"]


def test_64_a_data_set_of_which_nothing_is_stored_is_an_error_and_the_fix_works(collection: Collection) -> None:
    """Unlabelled negative volumes count as no damage, and the shard alone succeeds."""
    for each in collection.rows:
        path = collection.root / "raw" / each["path"]
        save(path, voxels(path) - np.int16(900))
        each["label"] = ""
    shutil.copy(collection.root / "raw" / collection.rows[0]["path"], collection.root / "raw/small.nii.gz")
    save(collection.root / "raw/small.nii.gz", np.ones((20, 20, 9), np.int16))
    collection.rows.append(row(3, False) | {"path": "small.nii.gz"})
    line = ["volumes", str(collection.root / "out/shard000.tsv"), "--out", str(collection.root / "out/volumes.tsv")]
    assert collection.shard("out")[0] == 0
    assert cli.main(line) == 2 and not (collection.root / "out/volumes.tsv").exists()
    said = collection.capsys.readouterr().err
    assert "all 4 volumes of this data set are left out: 3 negative, 1 too_small" in said
    assert "negative: allow_negative: true in the preprocess recipe" in said and "too_small: a lower min_size" in said
    collection.options["recipe"] = RECIPE | {"allow_negative": True}
    assert collection.shard("out")[0] == 0 and cli.main(line) == 0
    assert list(read_tsv(collection.root / "out/volumes.tsv")["status"]) == ["ok", "ok", "ok", "rejected"]


POINTERS = [
    ("/annex/objects/MD5E-s1234--d41d8cd98f00b204e9800998ecf8427e.nii.gz\n", "git-annex", "datalad get"),
    ("../../.git/annex/objects/Xk/9q/MD5E-s12--d4.nii.gz/MD5E-s12--d4.nii.gz", "git-annex", "datalad get"),
    ("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "Git LFS", "git lfs pull"),
]


@pytest.mark.parametrize(("text", "program", "fix"), POINTERS)
def test_75_a_pointer_in_place_of_a_volume_says_how_to_fetch_it(
    collection: Collection, text: str, program: str, fix: str
) -> None:
    words = f"a pointer of {program}, not the volume itself"
    assert_refused(collection, collection.image, lambda path: path.write_text(text), "pointer", words, fix)
    collection.image.write_text(text)
    (collection.root / "raw/list.csv").write_text(f"subject,sequence,path\na,T1w,{collection.rows[BAD]['path']}\n")
    assert cli.main(["check", str(collection.root / "raw")]) == 2
    said = collection.capsys.readouterr().out
    assert f"pointer ({words})" in said and fix in said


def test_75_gzip_within_gzip_is_named_and_the_fix_works(collection: Collection) -> None:
    def twice(path: Path) -> None:
        path.write_bytes(gzip.compress(path.read_bytes()))

    words = "gzip within gzip: it was compressed twice"
    assert_refused(collection, collection.image, twice, "compressed_twice", words)
    twice(collection.image)
    with pytest.raises(BadVolume, match="gunzip -c") as caught:
        read_volume(collection.image)
    *command, mark, target = shlex.split(caught.value.fix.split(": ", 1)[1].split(",")[0])
    assert (mark, target) == (">", "once.nii.gz")
    with open(collection.image.parent / target, "wb") as stream:
        subprocess.run(command, check=True, cwd=collection.image.parent, stdout=stream)
    (collection.image.parent / "once.nii.gz").replace(collection.image)
    assert collection.shard("out")[0] == 0


def test_00_good_files_are_taken_without_a_remark(collection: Collection) -> None:
    """Without this, the tests above would prove nothing."""
    code, said = collection.shard("out")
    assert code == 0 and "remark" not in said and "3 volumes stored, 0 rejected" in said
    assert len(content(collection.root / "out")) == 3 * 3 + 2
