"""Faults 37 and 46: stored volumes that are damaged, and preprocessing that is killed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from tests.preprocess.test_shards import RECIPE, changed, content, source, stamps

import tiny
from brainpretrain import cli
from brainpretrain.files import read_tsv, write_json, write_tsv
from brainpretrain.preprocess import shards

__all__ = ["source"]  # a fixture

# ------------------------------------------------------------------------------------------------ damaged volumes


@pytest.fixture
def stored(tmp_path: Path) -> tiny.Cohort:
    """A cohort with the folders of the workflow, and a blank in its path, for the tests to damage."""
    cohort = tiny.make(tmp_path / "co hort", subjects=4)
    index = read_tsv(cohort.table)[list(shards.INDEX_COLUMNS)]
    write_json(cohort.data / "tiny/source.json", {"root": str(cohort.raw)})
    write_tsv(cohort.data / "tiny/index.tsv", index)
    os.utime(cohort.data / "tiny/index.tsv", ns=(1, 1))  # older than every file that depends on it
    return cohort


def flip(path: Path) -> None:
    """Flips a bit in the middle of a file."""
    block = bytearray(path.read_bytes())
    block[len(block) // 2] ^= 1
    path.write_bytes(block)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def repair(folder: Path, *options: str) -> int:
    return cli.main(["repair", str(folder), *options])


def pretrain_line(cohort: tiny.Cohort, out: Path, workers: int) -> list[str]:
    line = [
        "pretrain",
        "--corpus",
        str(cohort.corpus),
        "--data",
        str(cohort.data),
        "--work",
        f"{out}/work",
        "--out",
        f"{out}/out",
    ]
    return [*line, "--config", json.dumps(tiny.pretrain_config(6)), "--save-every", "1", "--workers", str(workers)]


@pytest.mark.parametrize("workers", [0, 2])
def test_37_a_pretraining_stops_at_a_wrong_bit_and_continues_after_the_command_it_names(
    stored: tiny.Cohort, tmp_path: Path, capsys: Any, workers: int
) -> None:
    assert cli.main(pretrain_line(stored, tmp_path / "clean", 0)) == 0
    flip(stored.folder / "volumes/s1_T1w.b2nd")
    line = pretrain_line(stored, tmp_path / "run", workers)
    assert cli.main(line) == 2
    said = capsys.readouterr().err
    first, where, fix = said.splitlines()
    assert first.startswith("error: the stored volume s1_T1w of shard 000, made from s1_T1w.nii.gz, is damaged: its checksum is")
    assert where.endswith("tiny/r/volumes/s1_T1w.b2nd")
    assert not (tmp_path / "run/out/encoder.safetensors").exists()
    (history,) = (tmp_path / "run/work").glob("*/history.jsonl")
    assert json.loads(history.read_text().splitlines()[-1])["line"].startswith("the stored volume s1_T1w of shard 000")
    command = shlex.split(re.search(r"fix:   (brainpretrain repair .*?)   \(", fix)[1])
    assert cli.main(command[1:]) == 0 and "1 repaired" in capsys.readouterr().out
    assert cli.main(line) == 0
    encoders = [(tmp_path / name / "out/encoder.safetensors").read_bytes() for name in ("clean", "run")]
    assert encoders[0] == encoders[1]


def test_37_fine_tuning_and_prediction_stop_too(stored: tiny.Cohort, tmp_path: Path, capsys: Any) -> None:
    label, image = (stored.folder / "volumes" / name for name in ("s1_T1w.label.b2nd", "s3_T1w.b2nd"))
    flip(label)
    assert cli.main(tiny.finetune_line(stored, tiny.finetune_config(2), tmp_path)) == 2
    said = capsys.readouterr().err
    assert "s1_T1w of shard 000, made from s1_label.nii.gz, is damaged" in said and str(label) in said
    image.unlink()
    assert repair(stored.folder) == 0
    assert cli.main(tiny.finetune_line(stored, tiny.finetune_config(2), tmp_path)) == 0
    cut(image)
    window = json.dumps({"overlap": 0, "weights": "constant", "batch": 1, "mirror": []})
    line = [
        "predict-cohort",
        "--model",
        f"{tmp_path}/out/model.safetensors",
        "--volumes",
        str(stored.table),
        "--root",
        str(stored.raw),
    ]
    line += [
        "--split",
        str(stored.split),
        "--task",
        json.dumps(tiny.TASK),
        "--n-train",
        "2",
        "--cohort",
        "val",
        "--inference",
        window,
    ]
    line += ["--out", f"{tmp_path}/predictions"]
    capsys.readouterr()
    assert cli.main(line) == 2
    assert "s3_T1w of shard 000, made from s3_T1w.nii.gz, is damaged" in capsys.readouterr().err
    assert not (tmp_path / "predictions/predictions.json").exists()
    assert repair(stored.folder) == 0 and cli.main(line) == 0
    assert len(list((tmp_path / "predictions").glob("*.nii.gz"))) == 2


def test_37_repair_restores_damaged_files_and_nothing_else(stored: tiny.Cohort, capsys: Any) -> None:
    clean, before = content(stored.folder), stamps(stored.folder)
    volumes = stored.folder / "volumes"
    flip(volumes / "s0_T1w.b2nd")
    cut(volumes / "s1_T1w.label.b2nd")
    (volumes / "s2_T1w.b2nd").unlink()
    (volumes / "s2_T1w.json").write_text("{half")
    assert repair(stored.folder) == 0
    said = capsys.readouterr().out
    for line in (
        "s0_T1w (shard000): s0_T1w.b2nd is damaged: its checksum is",
        "s1_T1w (shard000): s1_T1w.label.b2nd is damaged",
        "s2_T1w (shard000): s2_T1w.b2nd is missing. Restored from s2_T1w.nii.gz",
        "4 stored volumes checked: 3 repaired, 0 left",
    ):
        assert line in said
    assert content(stored.folder) == clean
    made = {str(path.relative_to(stored.folder)) for path, time_ns in stamps(stored.folder).items() if before[path] != time_ns}
    assert made == {f"volumes/{name}" for name in ("s0_T1w.b2nd", "s1_T1w.label.b2nd", "s2_T1w.b2nd", "s2_T1w.json")}
    before = stamps(stored.folder)
    assert repair(stored.folder) == 0 and "nothing repaired, 0 left" in capsys.readouterr().out
    assert stamps(stored.folder) == before


def test_37_what_cannot_be_restored_is_named_and_the_rest_is_restored(stored: tiny.Cohort, capsys: Any) -> None:
    clean, volumes = content(stored.folder), stored.folder / "volumes"
    for name in ("s0_T1w.b2nd", "s1_T1w.b2nd", "s2_T1w.b2nd"):
        flip(volumes / name)
    gone, other = stored.raw / "s0_T1w.nii.gz", stored.raw / "s1_T1w.nii.gz"
    whole = {path: path.read_bytes() for path in (gone, other)}
    gone.unlink()
    shutil.copyfile(stored.raw / "s3_T1w.nii.gz", other)  # it gives another volume
    (stored.raw / "s1_label.nii.gz").rename(stored.raw / "kept")
    shutil.copyfile(stored.raw / "s3_label.nii.gz", stored.raw / "s1_label.nii.gz")
    damaged = (volumes / "s1_T1w.b2nd").read_bytes()
    assert repair(stored.folder) == 2
    said = capsys.readouterr().err
    assert "2 could not be repaired" in said and f"Its raw file {gone}: file not found" in said
    assert f"Its raw file {other}: gives another volume than it did" in said and "fix:   put the raw files back" in said
    assert (volumes / "s1_T1w.b2nd").read_bytes() == damaged
    assert (volumes / "s2_T1w.b2nd").read_bytes() == clean["s2_T1w.b2nd"]
    for path, block in whole.items():
        path.write_bytes(block)
    (stored.raw / "kept").rename(stored.raw / "s1_label.nii.gz")
    elsewhere = stored.raw.rename(stored.root / "moved")
    assert repair(stored.folder) == 2
    assert repair(stored.folder, "--root", str(elsewhere)) == 0
    assert content(stored.folder) == clean


@pytest.mark.parametrize("fault", ["missing", "cut", "empty", "no table"])
def test_37_a_table_is_rebuilt_and_is_not_newer(stored: tiny.Cohort, capsys: Any, fault: str) -> None:
    clean, time_ns = stored.shard.read_bytes(), stored.shard.stat().st_mtime_ns
    if fault == "missing":
        stored.shard.unlink()
    else:
        stored.shard.write_bytes({"cut": clean[: len(clean) // 2], "empty": b"", "no table": b"\x93\x00\xff" * 99}[fault])
    assert repair(stored.folder) == 0
    assert "Rebuilt from the records of 4 volumes" in capsys.readouterr().out
    assert stored.shard.read_bytes() == clean and stored.shard.stat().st_mtime_ns <= time_ns


def test_37_without_a_recipe_on_record_one_must_be_given(stored: tiny.Cohort, capsys: Any) -> None:
    clean = content(stored.folder)
    kept = stored.folder / shards.RECIPE
    kept.unlink()
    flip(stored.folder / "volumes/s0_T1w.b2nd")
    assert repair(stored.folder) == 2
    assert "fix:   name it, as in config/: --recipe r" in capsys.readouterr().err
    assert repair(stored.folder, "--recipe", json.dumps(tiny.PREPROCESS | {"spacing_mm": [2, 2, 2]})) == 2
    assert "gives another volume" in capsys.readouterr().err
    assert repair(stored.folder, "--recipe", json.dumps(tiny.PREPROCESS)) == 0
    assert content(stored.folder) == {name: block for name, block in clean.items() if name != shards.RECIPE}
    assert repair(stored.raw) == 2 and "there are no shards" in capsys.readouterr().err


def test_37_after_a_repair_no_job_runs_again(finished: Any, capsys: Any) -> None:
    """In a complete study: a damaged volume of the corpus, a missing one of the task, a missing table, a truncated one."""
    folder = finished.root / "results/data/phantom_tiny/coarse_4mm"
    before = content(folder)
    tables = sorted(folder.glob("shard*.tsv"))
    flip(folder / read_tsv(tables[0])["file"][0])
    (folder / read_tsv(tables[1])["label_file"].max()).unlink()
    tables[1].unlink()
    cut(folder / "volumes.tsv")
    assert repair(folder) == 0
    said = capsys.readouterr().out
    assert "volumes.tsv is damaged. Joined from the tables of 2 shards" in said
    assert "4 repaired, 0 left" in said and content(folder) == before
    assert finished.planned() == {}
    (folder / "volumes.tsv").unlink()
    assert repair(folder) == 0 and "volumes.tsv is missing. Joined" in capsys.readouterr().out
    assert finished.planned() == {}


def test_37_a_truncated_table_stops_every_step_that_reads_it(stored: tiny.Cohort, tmp_path: Path, capsys: Any) -> None:
    cut(stored.table)
    spec = json.dumps({"sources": [{"dataset": "tiny", "sequences": [], "subsets": [], "pool_of": None}], "val_fraction": 0.5})
    corpus = ["corpus", "--volumes", f"tiny={stored.table}", "--data", str(stored.data), "--corpus", spec, "--seed", "0"]
    for line in (tiny.finetune_line(stored, tiny.finetune_config(1), tmp_path), [*corpus, "--out", f"{tmp_path}/corpus.tsv"]):
        assert cli.main(line) == 2
        said = capsys.readouterr().err
        assert "the table is damaged" in said and f"fix:   brainpretrain repair '{stored.folder}'" in said
    stored.table.write_bytes(stored.table.read_bytes().rpartition(b"\ts3_T1w.nii.gz")[0])
    assert cli.main([*corpus, "--out", f"{tmp_path}/corpus.tsv"]) == 2 and "the table is cut" in capsys.readouterr().err
    assert repair(stored.folder) == 0 and cli.main([*corpus, "--out", f"{tmp_path}/corpus.tsv"]) == 0


def test_37_a_volume_that_an_earlier_version_stored_is_not_repaired(stored: tiny.Cohort, capsys: Any) -> None:
    path = stored.folder / "volumes/s0_T1w.b2nd"
    table = read_tsv(stored.shard)
    table.loc[0, "checksum"] = f"{zlib.crc32(path.read_bytes()):08x}"
    write_tsv(stored.shard, table)
    assert repair(stored.folder) == 0  # intact, according to the checksum of the earlier version
    flip(path)
    assert repair(stored.folder) == 2
    said = capsys.readouterr().err
    assert f"--forcerun {stored.shard} -- {stored.table}" in said and "An earlier version stored it" in said


# ------------------------------------------------------------------------------------------------ killed preprocessing


def command(root: Path, out: Path, *options: str) -> list[str]:
    """The command line that builds a shard of `source`, with its index next to `out`."""
    line = [
        sys.executable,
        "-m",
        "brainpretrain.cli",
        "shard",
        "--index",
        str(out.with_suffix(".index.tsv")),
        "--root",
        str(root),
    ]
    line += ["--recipe", json.dumps(RECIPE), "--shard", "0", "--n-shards", "1", "--max-rejected", "0.5", *options]
    return [*line, "--out", str(out / "shard000.tsv")]


def alive(process: int) -> bool:
    """Whether a process runs. A process that ended may remain as a zombie if nothing collects orphans."""
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def waiting(out: Path, volume: str, done: int) -> bool:
    """Whether `done` volumes have a record and only `volume` is being processed."""
    with contextlib.suppress(FileNotFoundError):  # a note may disappear while it is read
        return len(list(out.glob("volumes/*.json"))) == done and shards.interrupted(out, 0) == [volume]
    return False


@pytest.mark.parametrize("workers", ["1", "2"])
def test_46_killed_at_60_percent_it_continues_with_the_same_result(source: Any, tmp_path: Path, workers: str) -> None:
    """A real process gets SIGKILL. Table and stored files equal, byte for byte, those of an uninterrupted run."""
    (root, rows), killed, whole = source, tmp_path / "killed", tmp_path / "whole"
    for out in (killed, whole):
        write_tsv(out.with_suffix(".index.tsv"), rows)
    hangs = root / rows[4]["path"]
    content_of_it = hangs.read_bytes()
    hangs.unlink()
    os.mkfifo(hangs)  # the process waits here, after it has finished the volumes before
    process = subprocess.Popen(command(root, killed, "--workers", workers), stdout=subprocess.DEVNULL, start_new_session=True)
    left = {"sub-04", "sub-05"} if workers == "1" else {"sub-04"}  # a second worker continues with the next volume
    done = len(rows) - len(left)
    deadline = time.monotonic() + 60
    while not waiting(killed, rows[4]["volume"], done) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert len(list(killed.glob("volumes/*.json"))) == done and not (killed / "shard000.tsv").exists()
    (note,) = (killed / "begun" / "000").iterdir()
    while alive(int(note.name)) and time.monotonic() < deadline:  # a worker ends with its parent
        time.sleep(0.02)
    assert not alive(int(note.name))
    litter = killed / "volumes" / f".{note.name}.part.{rows[4]['volume']}.b2nd"
    litter.write_bytes(b"half of it")

    hangs.unlink()
    hangs.write_bytes(content_of_it)
    before = stamps(killed)
    said = subprocess.run(command(root, killed), capture_output=True, text=True, check=True).stdout
    assert f"an earlier attempt was killed while preprocessing {rows[4]['volume']}; finished volumes are kept" in said
    assert changed(killed, before) == {"shard000.tsv", *left}
    subprocess.run(command(root, whole), capture_output=True, check=True)
    assert content(killed) == content(whole)
