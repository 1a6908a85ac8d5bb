"""Feeds mutated files to the code that reads files from elsewhere, for a limited time.

    python -m fuzz --minutes 4                 all targets, each with a share of the time
    python -m fuzz --target archives --seed 7  one of them, with another seed
    python -m fuzz --repeat tests/fuzz/findings/archives-0123456789

A failing input is minimised and kept as a folder below tests/fuzz/findings/.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

sys.dont_write_bytecode = True  # what is written while an input is read would count as written by it

TARGETS = ("volumes", "configs", "archives", "weights")
ROOT = Path(__file__).parents[2]
FINDINGS = ROOT / "tests" / "fuzz" / "findings"
BATCH = 200  # inputs between two looks at the clock


class Session:
    """One process that tries inputs of one target.

    Args:
        target: name of a module of this package with `MEMORY`, `SECONDS`, `valid()`, `inputs()` and `check(folder, work)`.
        scratch: empty folder; the input is in `input`, which remains if the process dies, and `work` is writable.
    """

    def __init__(self, target: str, scratch: Path) -> None:
        from fuzz.guard import Guard

        warnings.simplefilter("error")  # as in the tests
        self.target, self.module = target, importlib.import_module(f"fuzz.{target}")
        self.folder, self.work = scratch / "input", scratch / "work"
        self.tried = self.accepted = 0
        self.found: dict[tuple, tuple[dict[str, bytes], str]] = {}
        self.known: set[tuple] = set()
        self._feed(self.module.valid())  # what it imports and keeps counts for no input
        assert self.accepted == 1, f"the valid input of {target} is refused"
        self.guard = Guard(self.work, self.module.MEMORY, self.module.SECONDS)

    def try_(self, files: dict[str, bytes]) -> None:
        """Raises the unexpected error of the target; the smallest input of each kind is kept."""
        self.tried += 1
        try:
            with warnings.catch_warnings():
                self._feed(files)
        except Exception as error:
            kind = _kind(error)
            smallest = self.found.get(kind)
            if smallest is None or _size(files) <= _size(smallest[0]):
                self.found[kind] = (files, "".join(traceback.format_exception(error)))
            if kind not in self.known and "took more than" not in str(error):  # to make that one small would take for ever
                raise

    def _feed(self, files: dict[str, bytes]) -> None:
        from brainpretrain.errors import UserError

        for folder in (self.folder, self.work):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        _write(self.folder, files)
        try:
            if hasattr(self, "guard"):
                with self.guard.watching():
                    self.module.check(self.folder, self.work)
            else:
                self.module.check(self.folder, self.work)
        except UserError as error:
            assert error.problem and error.fix, f"an error without problem or fix: {error}"
        else:
            self.accepted += 1

    def run(self, seconds: float, seed: int) -> None:
        """Batches of inputs until the time is over. A known finding does not end a later batch."""
        from hypothesis import HealthCheck, Phase, given, settings
        from hypothesis import seed as seeded

        end = time.monotonic() + seconds
        quick = settings(
            max_examples=BATCH,
            phases=[Phase.generate, Phase.shrink],  # to explain is to trace every line
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        )
        while time.monotonic() < end:

            @seeded(seed)
            @quick
            @given(self.module.inputs())
            def batch(files: dict[str, bytes]) -> None:
                if time.monotonic() < end + 30:  # to make a finding small may take a little longer
                    self.try_(files)

            try:
                batch()
            except BaseException as error:  # one finding, or a group of them: all are in `found`
                if isinstance(error, KeyboardInterrupt) or not self.found.keys() - self.known:
                    raise
            self.known |= self.found.keys()
            seed += 1


def _kind(error: Exception) -> tuple:
    """Equal for inputs that fail at the same place: the type of the error, and the innermost frame of the library."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if f"{os.sep}src{os.sep}" in frame.filename]
    frames = frames or traceback.extract_tb(error.__traceback__)[-1:]
    return (
        type(error).__name__,
        str(error)[:12] if type(error).__name__ == "Broken" else "",
        frames[-1].filename,
        frames[-1].lineno,
    )


def _size(files: dict[str, bytes]) -> int:
    return sum(map(len, files.values()))


def _keep(target: str, files: dict[str, bytes], said: str) -> None:
    """Writes an input to its folder and prints how to repeat it."""
    folder = FINDINGS / f"{target}-{hashlib.sha256(b''.join(files.values())).hexdigest()[:10]}"
    _write(folder, files)
    print(f"\n{said.rstrip()}\ninput:  {folder}\nrepeat: python -m fuzz --repeat {folder.relative_to(ROOT)}\n", flush=True)


def _write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def _read(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def worker(target: str, seconds: float, seed: int, scratch: Path) -> int:
    """The process that tries the inputs; the exit code is 1 if one failed."""
    session = Session(target, scratch)
    session.run(seconds, seed)
    for files, said in session.found.values():
        _keep(target, files, said)
    peak, limit = session.guard.peak / 2**20, session.guard.memory >> 20
    print(
        f"{target:9} {session.tried:7} inputs, {session.accepted} accepted, {session.tried - session.accepted} refused; "
        f"largest growth of memory {peak:.0f} of {limit} MiB; {len(session.found)} findings",
        flush=True,
    )
    return bool(session.found)


def supervise(target: str, seconds: float, seed: int) -> int:
    """Runs a worker, and keeps the input if the worker dies."""
    shm = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=shm, prefix="fuzz-") as scratch:
        line = [sys.executable, "-m", "fuzz", "--target", target, "--minutes", str(seconds / 60), "--seed", str(seed)]
        code = subprocess.run([*line, "--worker", scratch], cwd=ROOT).returncode
        if code not in (0, 1) and (Path(scratch) / "input").is_dir():
            _keep(target, _read(Path(scratch) / "input"), f"the process ended with {code}")
        return code


def repeat(folder: Path) -> int:
    """Reads one input under the same limits."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        session = Session(folder.name.rsplit("-", 1)[0], Path(scratch))
        session.try_(_read(folder))
    print("no failure")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=4, help="for all targets together")
    parser.add_argument("--target", choices=TARGETS, action="append", help="one target; may be given several times")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds give equal inputs")
    parser.add_argument("--repeat", type=Path, metavar="FOLDER", help="one input that was found")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    targets = args.target or TARGETS
    if args.repeat:
        return repeat(args.repeat)
    if args.worker:
        return worker(targets[0], args.minutes * 60, args.seed, args.worker)
    codes = [supervise(target, args.minutes * 60 / len(targets), args.seed) for target in targets]
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
