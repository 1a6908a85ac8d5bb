"""The stored form of a volume: parts read as stored, and damage that every read notices."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.preprocess.test_shards import build, source, verify

from brainpretrain.errors import UserError
from brainpretrain.preprocess import frames

__all__ = ["source"]  # a fixture


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 47, 48), (31, 65, 97), (144, 16, 49)])
@pytest.mark.parametrize("dtype", [np.float16, np.uint8])
def test_a_part_is_read_as_it_was_stored(shape: tuple[int, ...], dtype: type, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    array = (rng.random(shape) * 200).astype(dtype)
    frame = frames.compress(array)
    row = {"volume": "v", "file": "v.b2nd", "checksum": frames.checksum_of(frame)}
    frames.write(tmp_path / "v.b2nd", frame)
    np.testing.assert_array_equal(frames.load(tmp_path, row), array)
    for _ in range(8):
        box = tuple(slice(*sorted(rng.choice(n + 1, 2, replace=False))) for n in shape)
        np.testing.assert_array_equal(frames.load(tmp_path, row, box), array[box])


def test_damage_is_found_and_named(source: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    table = build(source, out)
    for good in table[table["status"] == "ok"].to_dict("records"):
        verify(out, good)
    first = table.iloc[0]
    for name in (first["file"], first["label_file"]):
        path = out / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:])
        with pytest.raises(UserError, match="damaged") as caught:
            verify(out, first)
        raw = first["label" if name == first["label_file"] else "path"]
        assert str(path) in str(caught.value) and f"made from {raw}" in str(caught.value)
        path.unlink()
        with pytest.raises(UserError, match="missing"):
            verify(out, first)
        path.write_bytes(whole)
    (out / first["file"]).write_bytes((out / first["file"]).read_bytes()[:3000])
    with pytest.raises(UserError, match="damaged"):
        frames.load(out, first)
    (out / first["file"]).unlink()
    with pytest.raises(UserError, match="missing"):
        frames.load(out, first)


def test_a_crc_of_an_earlier_version_is_accepted(source: Any, tmp_path: Path) -> None:
    row = build(source, tmp_path).iloc[0].to_dict()
    path = tmp_path / row["file"]
    row["checksum"] = f"{zlib.crc32(path.read_bytes()):08x}"
    verify(tmp_path, row)
    assert frames.load(tmp_path, row).shape == tuple(map(int, row["shape"].split()))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(UserError, match=r"damaged: its checksum is [0-9a-f]{8}, and"):
        frames.load(tmp_path, row)
    with pytest.raises(UserError, match="damaged"):
        verify(tmp_path, row)
