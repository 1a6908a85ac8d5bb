"""Archives for `archives.unpack`: zip and tar files with wrong values in any field, compressed in all ways."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from brainpretrain.download import archives
from brainpretrain.errors import UserError
from brainpretrain.files import sha256
from fuzz.odd import damaged, few, ints, maybe

archives.SMALL_BYTES = 4 << 20  # so that a bomb is a small one
MEMORY = 24 << 20  # what any archive may unpack to, an extended header of a tar in the worst case, and pieces of 1 MiB
SECONDS = 20
NAMES = [
    b"a", b"a/b.nii", b"A/b.nii", b"a/B.NII", b"a/", b"c d/e;f.nii", b"../evil", b"/evil", b"a/../../evil", b"a\\..\\evil", b"C:/evil",
    b"\\\\host\\evil", b"~/evil", b"./a", b"a//b", b"a/./c", b".", b"..", b"", b"/", b"//", b"a/b.nii/c", b"\xc3\xa9", b"e\xcc\x81", b"\xff\xfe",
    b"\x80.nii", b"con", b"nul.nii", b"x" * 300, b"d/" * 300 + b"x", b"a\0b", b"a\nb", b".archive.json", b"x/.archive.json",
    b"__MACOSX/a", b"._a", b"%2e%2e/evil", b"..\\evil", b"a/..", b" ", b"a ", b"a.", b"$HOME/x", b"|id", b"-rf", b"\xe2\x80\xae.nii",
]  # fmt: skip
names = st.sampled_from(NAMES) | st.sampled_from(NAMES[:6]) | st.binary(max_size=8)
ZEROS = bytes(8 << 20)
contents = st.sampled_from([b"", b"x", b"1" * 700, bytes(5000), bytes(range(256)) * 9]) | st.binary(max_size=30)


def valid() -> dict[str, bytes]:
    """An archive that is unpacked."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/b.nii", b"1" * 700)
    return {"x.zip": stream.getvalue()}


@st.composite
def inputs(draw: Callable[..., Any]) -> dict[str, bytes]:
    """A zip or a tar with up to five members."""
    if maybe(draw, 2):
        return {"x.zip": draw(damaged(zip_of(draw, [(draw(names), draw(contents)) for _ in range(draw(st.integers(0, 5)))]), 1))}
    suffix = draw(st.sampled_from(list(archives._TARS)))
    content = draw(damaged(_tar(draw), draw(few)))
    packed = _packed(draw, content, suffix)
    return {"x" + suffix: draw(damaged(packed, 1)) if maybe(draw) else packed}


# ------------------------------------------------------------------------------------------------ zip

METHODS = {0: lambda content: content, 8: lambda content: _deflate(content), 12: bz2.compress, 14: lambda content: _lzma(content)}


def _deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def _lzma(content: bytes, dictionary: int = 1 << 16) -> bytes:
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, "lc": 3, "lp": 0, "pb": 2}]
    packer = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=filters)
    return struct.pack("<BBHBL", 9, 4, 5, 93, dictionary) + packer.compress(content) + packer.flush()


def zip_of(draw: Callable[..., Any], members: list[tuple[bytes, bytes]], methods: list[int] | None = None) -> bytes:
    """A zip file; some fields differ from their other copy, or from the truth."""
    body, directory, count = bytearray(draw(st.sampled_from([b"", b"", b"", b"PK\3\4", b"x" * 100]))), bytearray(), 0
    for name, content in members:
        method = draw(st.sampled_from(methods or [0, 8, 8, 12, 14]))
        packed = METHODS[method](content)
        if method == 14 and maybe(draw):
            packed = _lzma(content, draw(ints) & 0xFFFFFFFF)
        flags = draw(st.sampled_from([0, 0, 0, 0x800, 8, 1, 0x20, 0x40, 0x2000]))
        fields = {
            "version": 20, "flags": flags, "method": method, "time": 0, "crc": zlib.crc32(content), "packed": len(packed),
            "size": len(content), "kind": 0, "at": len(body), "extra": b"",
        }  # fmt: skip
        if maybe(draw, 6):
            extra = draw(st.binary(max_size=20))
            number = draw(st.sampled_from([1, 1, 0x7075, 0x5455, 0x9901]))
            fields["extra"] = struct.pack("<HH", number, draw(st.sampled_from([len(extra), 8, 16, 24, 65535]))) + extra
        if maybe(draw, 6):
            fields["kind"] = draw(st.sampled_from([0o120777, 0o040755, 0o020666, 0o010644, 0o140777, 0o104755])) << 16
        wrong = dict(fields)
        if maybe(draw, 5):
            key = draw(st.sampled_from(["version", "flags", "method", "crc", "packed", "size", "at"]))
            wrong[key] = draw(ints) & (0xFFFF if key in ("version", "flags", "method") else 0xFFFFFFFF)
        local = wrong if maybe(draw, 2) else fields
        inner = name if not maybe(draw, 12) else draw(names)
        body += struct.pack(
            "<4s5H3L2H", b"PK\3\4", *_common(local), local["packed"], local["size"], len(inner), len(local["extra"])
        )
        body += inner + local["extra"] + packed
        directory += struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, *_common(wrong), wrong["packed"], wrong["size"], len(name),
                                 len(wrong["extra"]), 0, 0, 0, wrong["kind"], wrong["at"]) + name + wrong["extra"]  # fmt: skip
        count += 1
        if maybe(draw, 12):  # once more, the same bytes
            directory += directory[-(46 + len(name) + len(wrong["extra"])) :]
            count += 1
    end = [0, 0, count, count, len(directory), len(body)]
    if maybe(draw, 8):
        end[draw(st.integers(0, 5))] = draw(ints)
    comment = draw(st.sampled_from([b"", b"", b"PK\5\6" + bytes(18), b"c" * 50]))
    sixty_four = b""
    if maybe(draw, 8):
        numbers = [44, 45, 45, 0, 0, count, count, len(directory), len(body)]
        if maybe(draw, 2):
            numbers[draw(st.sampled_from([0, 5, 6, 7, 8]))] = draw(ints) & (2**64 - 1)
        sixty_four = struct.pack("<4sQ2H2L4Q", b"PK\6\6", *numbers)
        sixty_four += struct.pack("<4sLQL", b"PK\6\7", 0, len(body) + len(directory), 1)
        end[2:6] = [0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF]
    ended = struct.pack("<4s4H2LH", b"PK\5\6", *(n & 0xFFFF for n in end[:4]), *(n & 0xFFFFFFFF for n in end[4:]), len(comment))
    return bytes(body + directory + sixty_four + ended + comment)


def _common(fields: dict[str, Any]) -> tuple:
    return fields["version"], fields["flags"], fields["method"], fields["time"], 33, fields["crc"]


# ------------------------------------------------------------------------------------------------ tar

TYPES = b"0000055\x00123467gxLKSDMVNAX"
RECORDS = [
    b"path=../evil", b"path=/evil", b"path=a\0b", b"path=\xff\xfe", b"size=-1", b"size=99999999999999999999", b"size=x", b"size=0x10",
    b"linkpath=/etc/passwd", b"GNU.sparse.major=1", b"GNU.sparse.minor=0", b"GNU.sparse.map=0,1,2", b"GNU.sparse.size=9999999999",
    b"GNU.sparse.realsize=99999999", b"GNU.sparse.name=../evil", b"hdrcharset=BINARY", b"hdrcharset=\xff", b"mtime=nan", b"mtime=x",
    b"uid=9" * 5, b"=", b"a", b"path=ok", b"uid=" + b"9" * 5000, b"GNU.sparse.numbytes=1", b"GNU.sparse.offset=x",
]  # fmt: skip


def _tar(draw: Callable[..., Any]) -> bytes:
    """A tar; also with extended headers, sparse members, checksums that are wrong and an end that is missing."""
    out = bytearray()
    for _ in range(draw(st.integers(0, 5))):
        kind = TYPES[draw(st.integers(0, len(TYPES) - 1))]
        content, name = draw(contents), draw(names)
        match chr(kind):
            case "L" | "K":
                content = draw(names) + b"\0"
            case "x" | "g" | "X":
                content = b"".join(_record(draw, record) for record in draw(st.lists(st.sampled_from(RECORDS), max_size=4)))
            case "1" | "2" | "3" | "4" | "5" | "6":
                content = b"" if not maybe(draw) else content
        if maybe(draw, 20):
            content = ZEROS
        out += _header(draw, name, kind, len(content)) + content + bytes(-len(content) % 512)
    return bytes(out + bytes(draw(st.sampled_from([1024, 1024, 1024, 10240, 512, 0, 700]))))


def _record(draw: Callable[..., Any], record: bytes) -> bytes:
    """A line of an extended header, which begins with its own length."""
    size = next(n for n in range(len(record) + 3, len(record) + 9) if len(str(n)) + len(record) + 2 == n)
    size = draw(ints) if maybe(draw, 10) else size
    return b"%d " % size + record + b"\n"


def _header(draw: Callable[..., Any], name: bytes, kind: int, size: int) -> bytes:
    info = tarfile.TarInfo("x")
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT if maybe(draw, 2) else tarfile.USTAR_FORMAT))
    block[0:100] = name[:100].ljust(100, b"\0")
    block[124:136] = _number(draw, size)
    block[156] = kind
    if chr(kind) in "12" or maybe(draw, 10):
        block[157:257] = draw(names)[:100].ljust(100, b"\0")
    if maybe(draw, 10):
        block[345:500] = draw(st.binary(max_size=155) | names).ljust(155, b"\0")[:155]
    if maybe(draw, 10):
        at = draw(st.sampled_from([100, 108, 116, 136, 257, 263, 329, 337, 386, 482]))
        block[at : at + 12] = draw(st.binary(min_size=12, max_size=12))
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    if maybe(draw, 20):
        block[148] ^= 1
    return bytes(block)


def _number(draw: Callable[..., Any], size: int) -> bytes:
    if maybe(draw, 8):
        value = draw(ints)
        if maybe(draw, 2):
            return bytes([255 if value < 0 else 128]) + (value & (2**88 - 1)).to_bytes(11, "big")
        return draw(
            st.sampled_from([b"%011o\0" % (value & (2**33 - 1)), b" " * 12, b"-1" + bytes(10), b"99999999999\0", b"\xff" * 12])
        )
    return b"%011o\0" % size


def _packed(draw: Callable[..., Any], content: bytes, suffix: str) -> bytes:
    match suffix:
        case ".tar":
            return content
        case ".tar.bz2":
            packed = bz2.compress(content, 1)
        case ".tar.xz":
            preset = draw(st.sampled_from([0, 0, 0, 6]))
            packed = lzma.compress(content, draw(st.sampled_from([lzma.FORMAT_XZ, lzma.FORMAT_ALONE])), preset=preset)
            if maybe(draw, 8) and packed[:1] == b"]":
                packed = packed[:1] + (draw(ints) & 0xFFFFFFFF).to_bytes(4, "little") + packed[5:]
        case _:
            packed = gzip.compress(content, 1)
    return packed + (packed if maybe(draw, 12) else b"") + (draw(st.binary(max_size=20)) if maybe(draw, 12) else b"")


# ------------------------------------------------------------------------------------------------ check


def check(folder: Path, work: Path) -> None:
    """Unpacks it: the result is a folder of plain files with its marker, or an error and no files."""
    (path,) = folder.iterdir()
    before = sha256(path)
    try:
        marker = archives.unpack(path, work / "out", {"name": path.name})
    except UserError as error:
        assert not os.listdir(work), f"left behind: {os.listdir(work)}"
        assert str(path) in str(error) or "cannot unpack" in str(error)
        raise
    finally:
        assert sha256(path) == before
    assert os.listdir(work) == ["out"]
    found = [entry for entry in (work / "out").rglob("*") if not entry.is_dir()]
    assert all(entry.is_file() and not entry.is_symlink() for entry in found)
    files = [entry for entry in found if entry != work / "out" / archives.MARKER]
    assert (len(files), sum(entry.stat().st_size for entry in files)) == (marker["files"], marker["bytes"])
    assert archives.made_from(work / "out") == marker
    _compare(path, work / "out", files)


def _compare(path: Path, out: Path, files: list[Path]) -> None:
    """An accepted archive has at most the members that the standard library finds, with the same bytes."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            by_name = {info.orig_filename: info for info in archive.infolist()}
            for file in files:
                name = file.relative_to(out).as_posix()
                if name in by_name:
                    assert archive.read(by_name[name]) == file.read_bytes()
