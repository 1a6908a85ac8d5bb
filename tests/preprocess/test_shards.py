"""Shards: the outcome of good, bad and damaged volumes; the table does not depend on how it was computed."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from brainpretrain import datasets
from brainpretrain.download.index import index
from brainpretrain.errors import UserError
from brainpretrain.files import read_json, read_tsv, stable_hash, write_json, write_tsv
from brainpretrain.preprocess import frames, rejections, shards
from brainpretrain.preprocess.geometry import Geometry
from brainpretrain.preprocess.nifti import read_volume
from brainpretrain.preprocess.volumes import preprocess
from helpers import SHARED

RECIPE: dict[str, Any] = {
    "spacing_mm": [1.0, 1.0, 1.0],
    "upper_quantile": 0.99,
    "crop": "nonzero",
    "antialias": True,
    "min_size": 15,
    "allow_negative": False,
    "max_voxels": 10**7,
    "spacing_range_mm": [0.05, 20],
    "max_rejected_fraction": 0.5,
    "revision": 1,
}
SHAPE = (32, 36, 28)


def save(path: Path, array: np.ndarray, spacing_mm: float = 1.3) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([-spacing_mm, 1.0, spacing_mm, 1.0])), path)


def row(number: int, label: bool, **other: Any) -> dict[str, Any]:
    name = f"sub-{number:02d}"
    return {
        "volume": f"{name}_ses-1_T1w",
        "subject": name,
        "session": "ses-1",
        "sequence": "T1w",
        "subset": "train",
        "site": "",
        "path": f"{name}/T1 w.nii.gz",
        "label": f"{name}/label.nii.gz" if label else "",
        "channel": "",
    } | other


@pytest.fixture
def source(tmp_path: Path) -> tuple[Path, list[dict[str, Any]]]:
    """Six subjects, of which the even ones have labels; volume 4 is truncated, the label of volume 2 is on another grid."""
    root, rng = tmp_path / "raw data", np.random.default_rng(0)
    rows = [row(number, label=number % 2 == 0) for number in range(6)]
    for number, each in enumerate(rows):
        array = np.zeros(SHAPE, np.int16)
        array[3:-2, 2:-2, 5:-1] = rng.integers(1, 2000, (27, 32, 22))
        save(root / each["path"], array)
        if each["label"]:
            save(root / each["label"], (array > 1000).astype(np.float32) * 300, 1.3 if number != 2 else 1.4)
    broken = root / rows[4]["path"]
    broken.write_bytes(broken.read_bytes()[:20_000])
    return root, rows


def build(source: tuple[Path, list[dict[str, Any]]], out: Path, **changes: Any) -> pd.DataFrame:
    root, rows = source
    arguments = {"rows": rows, "source_root": root, "out_dir": out, "recipe": RECIPE, "shard": 0, "n_shards": 1}
    return shards.build(**(arguments | changes))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def verify(out: Path, row: Any) -> None:
    """Reads image and label, which compares their checksums."""
    frames.load(out, row)
    if row["label_file"]:
        frames.load_label(out, row)


def test_the_table_has_the_outcome_of_every_volume(source: Any, tmp_path: Path) -> None:
    table = build(source, tmp_path / "out")
    assert list(table.columns) == [*shards.INDEX_COLUMNS, *shards.RECORD_COLUMNS]
    assert table["status"].tolist() == ["ok", "ok", "rejected", "ok", "rejected", "ok"]
    assert table["reason"].tolist() == ["", "", "label_grid", "", "truncated", ""]
    assert table["detail"][2].startswith("label: it is up to") and "expected 64864 bytes" in table["detail"][4]
    assert not any(str(tmp_path) in str(cell) for cell in table.to_numpy().ravel())  # no path of this machine
    first = table.iloc[0]
    assert first["shape"] == "35 32 29" and first["native_shape"] == "32 36 28" and first["label_values"] == "0 300"
    assert first["native_spacing_mm"] == "1.3 1 1.3" and first["spacing_mm"] == "1.00286 1 0.986207"
    assert first["file"] == "volumes/sub-00_ses-1_T1w.b2nd" and first["label_file"] == "volumes/sub-00_ses-1_T1w.label.b2nd"
    stored = [tmp_path / "out" / name for name in (first["file"], first["label_file"])]
    assert first["bytes"] == sum(path.stat().st_size for path in stored)
    assert Geometry.from_json(first["geometry"]).native_shape == SHAPE
    assert not list((tmp_path / "out").rglob("sub-0[24]*.b2nd"))


def test_stored_arrays_are_the_preprocessed_ones(source: Any, tmp_path: Path) -> None:
    root, rows = source
    table = build(source, tmp_path / "out")
    image, label, _, _ = preprocess(read_volume(root / rows[0]["path"]), read_volume(root / rows[0]["label"]), RECIPE)
    first = table.iloc[0]
    whole = frames.load(tmp_path / "out", first)
    assert whole.dtype == np.float16
    np.testing.assert_array_equal(whole, image.astype(np.float16))
    assert first["mean"] == pytest.approx(image.mean(), rel=1e-5) and first["std"] == pytest.approx(image.std(), rel=1e-4)
    stored = frames.load_label(tmp_path / "out", first)
    assert stored.dtype == np.uint16
    np.testing.assert_array_equal(stored, label)
    box = (slice(3, 20), slice(0, 32), slice(28, 29))
    np.testing.assert_array_equal(frames.load(tmp_path / "out", first, box), whole[box])
    np.testing.assert_array_equal(frames.load_label(tmp_path / "out", first, box), stored[box])
    with pytest.raises(UserError, match="has no label"):
        frames.load_label(tmp_path / "out", table.iloc[1])


def test_the_table_does_not_depend_on_workers_or_interruptions(source: Any, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    one = build(source, tmp_path / "one", progress=lambda done, total: calls.append((done, total)))
    assert calls == [(n, 6) for n in range(1, 7)]
    two = build(source, tmp_path / "two", workers=2, rows=pd.DataFrame(source[1][::-1]))

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(source, tmp_path / "three", progress=stop)
    assert len(list((tmp_path / "three").glob("volumes/*.json"))) == 3
    three = build(source, tmp_path / "three")
    for number, table in enumerate((one, two, three)):
        write_tsv(tmp_path / f"{number}.tsv", table)
    assert len({(tmp_path / f"{number}.tsv").read_bytes() for number in range(3)}) == 1
    assert content(tmp_path / "one") == content(tmp_path / "two") == content(tmp_path / "three")


def test_rows_of_a_table_that_was_read_back_are_accepted(source: Any, tmp_path: Path) -> None:
    write_tsv(tmp_path / "index.tsv", source[1])
    write_tsv(tmp_path / "out" / "table.tsv", build(source, tmp_path / "out", rows=read_tsv(tmp_path / "index.tsv")))
    first = read_tsv(tmp_path / "out" / "table.tsv").to_dict("records")[0]
    assert frames.load(tmp_path / "out", first).shape == (35, 32, 29)
    verify(tmp_path / "out", first)


def changed(folder: Path, before: dict[Path, int]) -> set[str]:
    return {path.name.split("_")[0] for path, mtime_ns in stamps(folder).items() if before.get(path) != mtime_ns}


def stamps(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_only_what_changed_is_preprocessed_again(source: Any, tmp_path: Path) -> None:
    (root, rows), out = source, tmp_path / "out"
    table = build(source, out)
    before = stamps(out)
    rows[1]["site"] = "elsewhere"  # a column of the index that does not shape the array
    again = build(source, out, recipe=RECIPE | {"max_rejected_fraction": 0.9, "note": "a remark"})
    assert changed(out, before) == set() and again["site"][1] == "elsewhere"

    os.utime(root / rows[0]["label"], ns=(1, 1))
    (out / table["file"][1]).unlink()
    (out / table["file"][3]).write_bytes(b"short")
    save(root / rows[4]["path"], np.random.default_rng(0).integers(1, 9, SHAPE).astype(np.int16))  # repaired
    build(source, out)
    assert changed(out, before) == {"sub-00", "sub-01", "sub-03", "sub-04"}
    verify(out, table.iloc[3])

    before = stamps(out)
    build(source, out, recipe=RECIPE | {"revision": 2})
    assert changed(out, before) == {"recipe.json", *(row["subject"] for row in rows)}


def test_the_arrays_of_a_volume_that_becomes_bad_are_removed(source: Any, tmp_path: Path) -> None:
    (root, rows), out = source, tmp_path / "out"
    build(source, out)
    (root / rows[0]["path"]).unlink()
    table = build(source, out)
    assert table["reason"][0] == "missing" and not list(out.rglob("sub-00*.b2nd"))


def test_shards_divide_the_subjects(source: Any, tmp_path: Path) -> None:
    root, rows = source
    rows = [*rows, row(1, label=False, session="ses-2", volume="sub-01_ses-2_T1w")]
    tables = [build((root, rows), tmp_path / str(shard), shard=shard, n_shards=3) for shard in range(3)]
    assert sorted(volume for table in tables for volume in table["volume"]) == sorted(each["volume"] for each in rows)
    for shard, table in enumerate(tables):
        assert all(stable_hash(subject) % 3 == shard for subject in table["subject"])
    empty = build((root, []), tmp_path / "empty")
    assert len(empty) == 0 and list(empty.columns) == list(tables[0].columns)


def test_a_channel_of_a_4d_file(source: Any, tmp_path: Path) -> None:
    root, _ = source
    array = np.random.default_rng(0).integers(1, 99, (*SHAPE, 2)).astype(np.int16)
    nib.save(nib.Nifti1Image(array, np.eye(4)), root / "four.nii.gz")
    rows = [row(n, label=False, path="four.nii.gz", channel=channel) for n, channel in enumerate((0, "1", ""))]
    table = build((root, rows), tmp_path / "out")
    assert table["status"].tolist() == ["ok", "ok", "rejected"] and table["reason"][2] == "not_3d"
    assert table["checksum"][0] != table["checksum"][1]


def test_check_rejected(source: Any, tmp_path: Path) -> None:
    table = build(source, tmp_path / "out")
    rejections.check_rejected(table, 2 / 6)
    rejections.check_rejected(table[:0], 0)
    with pytest.raises(UserError) as caught:
        rejections.check_rejected(table, 0.3)
    for text in ("2 of 6", "sub-02/T1 w.nii.gz: label_grid", "sub-04/T1 w.nii.gz: truncated", "max_rejected_fraction"):
        assert text in str(caught.value)


def test_unlabelled_volumes_that_the_selection_leaves_out_are_not_counted(tmp_path: Path) -> None:
    session = tmp_path / "raw/OAS30001_MR_d0129"
    array = np.random.default_rng(0).integers(1, 99, (*SHAPE, 3)).astype(np.int16)
    save(session / "anat1/sub-OAS30001_ses-d0129_T1w.nii.gz", array[..., 0])
    save(session / "dwi1/sub-OAS30001_ses-d0129_dwi.nii.gz", array)
    rows = index(datasets.load("oasis3"), tmp_path / "raw")
    table = build((tmp_path / "raw", rows), tmp_path / "out")
    assert table[["status", "reason"]].to_numpy().tolist() == [["ok", ""], ["rejected", "not_3d"]]
    rejections.check_rejected(table, 0)
    with pytest.raises(UserError, match="1 of 2 volumes rejected"):
        rejections.check_rejected(table.assign(label="mask.nii.gz"), 0.1)
    with pytest.raises(UserError, match="1 of 2 volumes rejected"):
        rejections.check_rejected(table.replace({"reason": {"not_3d": "truncated"}}), 0.1)


def test_a_volume_that_earlier_rules_rejected_is_read_again(source: Any, tmp_path: Path) -> None:
    _, rows = source
    table = build(source, tmp_path / "out")
    records = {name: tmp_path / f"out/volumes/{rows[n]['volume']}.json" for n, name in ((0, "ok"), (4, "rejected"))}
    for path in records.values():
        write_json(path, {key: value for key, value in read_json(path).items() if key != "rules"})
    before = {name: path.stat().st_mtime_ns for name, path in records.items()}
    assert build(source, tmp_path / "out").equals(table)
    assert {name for name, path in records.items() if path.stat().st_mtime_ns != before[name]} == {"rejected"}


def test_volumes_of_which_none_is_stored(source: Any, tmp_path: Path) -> None:
    table = build(source, tmp_path / "out")
    rejections.check_any_stored(table, "this", "here")
    rejections.check_any_stored(table[:0], "this", "here")
    rejected = table[table["status"] == "rejected"]
    with pytest.raises(UserError, match=r"all 2 volumes of this are left out: 1 label_grid, 1 truncated\n[^!]*repair or remove"):
        rejections.check_any_stored(rejected.sort_values("reason"), "this", "here")


def test_invalid_arguments(source: Any, tmp_path: Path) -> None:
    root, rows = source
    with pytest.raises(UserError, match="lacks spacing_mm, crop"):
        build(source, tmp_path, recipe={k: v for k, v in RECIPE.items() if k not in ("spacing_mm", "crop")})
    with pytest.raises(UserError, match=r"several rows have the same name: sub-01_ses-1_T1w"):
        build((root, [*rows, rows[1]]), tmp_path)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_crash_is_not_a_rejection(source: Any, tmp_path: Path, workers: int) -> None:
    out = tmp_path / "out"
    (out / "volumes").mkdir(parents=True)
    (out / "volumes" / "sub-01_ses-1_T1w.b2nd").mkdir()  # cannot be replaced by a file
    with pytest.raises(OSError) as caught:
        build(source, out, workers=workers)
    assert caught.value.__notes__ == ["while preprocessing sub-01/T1 w.nii.gz"]


def test_a_killed_worker_is_an_error_and_the_rest_is_kept(source: Any, tmp_path: Path) -> None:
    (root, rows), out = source, tmp_path / "out"
    hangs = root / rows[3]["path"]
    whole = hangs.read_bytes()
    hangs.unlink()
    os.mkfifo(hangs)  # a worker waits for it until it is killed

    def kill(done: int, total: int) -> None:
        if done == total - 1:
            for child in multiprocessing.active_children():
                os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(UserError, match="killed while preprocessing sub-03_ses-1_T1w\n"):
        build(source, out, workers=2, progress=kill)
    assert len(list((out / "volumes").glob("*.json"))) == 5
    assert shards.interrupted(out, 0) == ["sub-03_ses-1_T1w"]
    hangs.unlink()
    hangs.write_bytes(whole)
    before = stamps(out)
    write_tsv(tmp_path / "resumed.tsv", build(source, out))
    assert changed(out, before) == {"sub-03"}
    write_tsv(tmp_path / "whole.tsv", build(source, tmp_path / "whole"))
    assert (tmp_path / "resumed.tsv").read_bytes() == (tmp_path / "whole.tsv").read_bytes()


def test_record_is_written_last(source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(shards, "write_json", full)
    with pytest.raises(OSError, match="disk full"):
        build(source, tmp_path / "out")
    monkeypatch.undo()
    assert not list((tmp_path / "out").glob("volumes/*.json"))
    table = build(source, tmp_path / "out")
    record = read_json(tmp_path / "out/volumes/sub-00_ses-1_T1w.json")["record"]
    assert record["checksum"] == table["checksum"][0]
    assert not [path for path in (tmp_path / "out").rglob("*") if ".part." in path.name]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data folder is not at hand")
def test_real_volumes(tmp_path: Path) -> None:
    names = [
        ("oasis_trt20_mindboggle/OASIS-TRT-20-01/T1_brain", "oasis_trt20_mindboggle/OASIS-TRT-20-01/labels_DKT31_aseg"),
        ("ixi_2mm/IXI012-HH-1211/T1", "ixi_2mm/IXI012-HH-1211/dlmuse"),
        ("isles22/sub-strokecase0009/FLAIR", "isles22/sub-strokecase0009/lesion_msk"),  # drawn on the DWI
        ("msd_task04_hippocampus/imagesTr/hippocampus_001", "msd_task04_hippocampus/labelsTr/hippocampus_001"),
    ]
    rows = [row(n, True) | {"path": f"{image}.nii.gz", "label": f"{label}.nii.gz"} for n, (image, label) in enumerate(names)]
    table = build((SHARED, rows), tmp_path, recipe=RECIPE | {"max_voxels": 40_000_000})
    assert table["reason"].tolist() == ["", "", "label_grid", ""]
    for good in table[table["status"] == "ok"].to_dict("records"):
        verify(tmp_path, good)
        image, label = frames.load(tmp_path, good), frames.load_label(tmp_path, good)
        assert image.shape == label.shape == tuple(map(int, good["shape"].split()))
        assert image.min() == 0 and image.max() == 1
        assert good["bytes"] < 0.5 * 4 * image.size  # half of the size as float32
