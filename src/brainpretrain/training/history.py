"""The history of a training in its work folder, for readers without access to its process or its log.

`about.json` says which training it is, `alive.json` is its last sign of life, and `history.jsonl` has an event per line:

    start    an attempt begins: attempt, resumed_from, redone (steps that the attempt before did and did not save)
    save     a checkpoint was written
    validation   a fine-tuning was validated: step, dice (null if not a number), best_step
    stop     ended by a signal
    error    ended by an error, with its line
    refused  not begun, since too many attempts in a row made no checkpoint
    end      all results are written; the file moves next to them

Only the first process of a training writes. Imports neither torch nor pandas, since `status` uses it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from brainpretrain.errors import UserError
from brainpretrain.files import atomic, parse_mapping, read_mapping, write_json

BEAT_S = 10.0  # between two signs of life
BEATS = 30  # number of signs of life that the speed is computed from
SILENT_S = (
    180.0  # a training counts as dead after this long without a sign of life, which a network file system may show a minute late
)
LINE = 300  # characters of an error that are kept

Event = dict[str, Any]


class History:
    """Writes the history of one training. Until `begin` the other methods do nothing.

    Args:
        work: the work folder.
    """

    def __init__(self, work: Path) -> None:
        self.work, self.path = work, work / "history.jsonl"
        self.beat: _Beat | None = None
        self.saved_step = 0

    def begin(self, about: dict[str, Any], checkpoint: str, max_idle: int, step: Callable[[], int]) -> None:
        """Begins an attempt, and prints one line about the end of the one before.

        Args:
            about: kind, out (relative to the results), total_steps, patches_per_step.
            checkpoint: name of the checkpoint it resumes from; '' from the start.
            max_idle: number of attempts in a row without a new checkpoint after which the next is refused.
            step: returns the current optimiser step.

        Raises:
            UserError: `max_idle` attempts in a row made no checkpoint.
        """
        before = attempts(read(self.work))
        resumed_from = int(checkpoint.removeprefix("step-") or 0)
        origin = f"resuming from {checkpoint}" if checkpoint else "starting from step 0"
        end = ending(before[-1], self.work) if before else None
        redone = max(0, end["step"] - resumed_from) if end else 0
        if end and idle(before) >= max_idle:
            self._refuse(f"{idle(before)} attempts in a row ended without a new checkpoint; the last {end['text']}", origin)
        if end:
            price = f"{redone} step(s) are redone" if redone else "nothing is redone"
            print(f"attempt {len(before) + 1}: attempt {len(before)} {end['text']}; {origin}, {price}", flush=True)
        elif checkpoint:
            print(origin, flush=True)
        write_json(self.work / "about.json", about)
        here = {"host": socket.gethostname(), "pid": os.getpid(), "job": os.environ.get("SLURM_JOB_ID", "")}
        self._append("start", attempt=len(before) + 1, resumed_from=resumed_from, redone=redone, **here)
        self.saved_step = resumed_from
        self.beat = _Beat(self.work, step, {"attempt": len(before) + 1, **here}, about["patches_per_step"])
        self.beat.start()

    def _refuse(self, problem: str, origin: str) -> None:
        self._append("refused", line=problem)
        fix = f"correct the cause, then delete this file and give the same command again ({origin}); or raise max_idle_attempts"
        raise UserError(problem, where=self.path, fix=fix)

    def saved(self, step: int) -> None:
        """Records that the checkpoint of `step` is complete."""
        if self.beat:
            self.saved_step = step
            self._append("save", step=step)

    def validated(self, step: int, dice: float | None, best_step: int) -> None:
        """Records a validation."""
        if self.beat:
            self._append("validation", step=step, dice=dice, best_step=best_step)

    def stopped(self, signal: str) -> None:
        """Records the end by a signal."""
        self._end("stop", signal=signal)

    def failed(self, error: BaseException) -> None:
        """Records the end by an error or by Ctrl-C, and prints one line on how to continue."""
        if not self.beat:
            return
        step = self.beat.step()
        if isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt):
            self.stopped("SIGINT")
            end = "stopped by SIGINT"
        else:
            self._end("error", line=one_line(error))
            end = f"failed: {one_line(error)}"
        print(f"at step {step} {end}; saved up to step {self.saved_step}, from where the same command continues", flush=True)

    def finish(self, out: Path) -> None:
        """Records that all results are written, and moves the history next to them."""
        self._end("end")
        if self.path.is_file():
            with atomic(out / self.path.name) as temporary:
                shutil.copyfile(self.path, temporary)

    def summary(self) -> dict[str, int]:
        """Number of attempts, and of steps done more than once, for run.json."""
        starts = [events[0] for events in attempts(read(self.work))]
        return {"attempts": len(starts), "redone_steps": sum(start["redone"] for start in starts)}

    def _end(self, event: str, **facts: Any) -> None:
        if self.beat:
            self._append(event, step=self.beat.step(), **facts)
            self.beat.stop()
            self.beat = None

    def _append(self, event: str, **facts: Any) -> None:
        """Appends a line. A history that cannot be written, as on a full disk, neither ends the training nor hides an error."""
        line = json.dumps({"event": event, "time": _now(), **facts}) + "\n"
        try:
            with open(self.path, "ab+") as stream:
                if stream.tell():
                    stream.seek(-1, os.SEEK_END)
                    line = line if stream.read() == b"\n" else f"\n{line}"  # a kill may have cut off the line before
                stream.write(line.encode())
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            print(f"the history could not be written: {error}", flush=True)


class _Beat(threading.Thread):
    """Writes alive.json every `BEAT_S` seconds: the step, and the speed.

    It is a thread, since a step may take minutes (validation, compilation) and must not look like the end of the process.
    """

    def __init__(self, work: Path, step: Callable[[], int], facts: dict[str, Any], patches_per_step: int) -> None:
        super().__init__(daemon=True, name="sign of life")
        self.path, self.step, self.facts, self.patches_per_step = work / "alive.json", step, facts, patches_per_step
        self.ended = threading.Event()

    def run(self) -> None:
        recent: deque[tuple[float, int]] = deque(maxlen=BEATS)
        moved = 0.0
        while True:
            now, step = time.monotonic(), self.step()
            if not recent or step > recent[-1][1]:
                moved = now
            recent.append((now, step))
            first, begin = recent[0]
            rate = (step - begin) * self.patches_per_step / (now - first) if step > begin else 0.0
            speed = {"patches_per_s": round(rate, 3), "still_s": round(now - moved)}
            with suppress(OSError, UserError):  # the next one may succeed
                write_json(self.path, {"time": _now(), "step": step, **speed, **self.facts})
            if self.ended.wait(BEAT_S):
                return

    def stop(self) -> None:
        self.ended.set()
        self.join(timeout=BEAT_S)  # not longer, since the file system may hang


def one_line(error: BaseException) -> str:
    """The first line of an error; the log has all of it."""
    if isinstance(error, UserError):
        return error.problem.splitlines()[0][:LINE]
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"[:LINE]


def read(work: Path) -> list[Event]:
    """The events of a work folder, without a line that a kill cut off."""
    try:
        lines = (work / "history.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [event for event in map(parse_mapping, lines) if event]


def alive(work: Path) -> dict[str, Any]:
    """The last sign of life: time, step, patches_per_s, still_s (since the last step), attempt, host, pid, job; or nothing."""
    return read_mapping(work / "alive.json")


def attempts(events: list[Event]) -> list[list[Event]]:
    """Events by attempt; each list begins with a `start`."""
    result: list[list[Event]] = []
    for event in events:
        if event["event"] == "start":
            result.append([])
        if result:
            result[-1].append(event)
    return result


def ending(attempt: list[Event], work: Path) -> dict[str, Any]:
    """The end of the last attempt: the last `step` that it is known to have reached, and `text`, a clause about the end.

    Args:
        attempt: events of the attempt.
        work: the work folder as the attempt left it.
    """
    start, sign = attempt[0], alive(work)
    alive_step = sign["step"] if sign.get("attempt") == start["attempt"] else 0
    step = max(alive_step, _logged(work), *(event.get("step", event.get("resumed_from", 0)) for event in attempt))
    last = next((event for event in reversed(attempt) if event["event"] in ("stop", "error", "end")), {"event": ""})
    if last["event"] == "stop":
        text = f"was stopped by {last['signal']} at step {step}"
    elif last["event"] == "error":
        text = f"failed at step {step} ({last['line']})"
    else:
        job = f", Slurm job {start['job']}" if start["job"] else ""
        text = f"ended without a word at step {step} (killed, or the node was lost; host {start['host']}{job})"
    return {"step": step, "text": text}


def _logged(work: Path) -> int:
    """Step of the last row of log.csv, which may be newer than the last sign of life."""
    try:
        with open(work / "log.csv", "rb") as stream:
            stream.seek(max(0, stream.seek(0, 2) - 4096))
            step = stream.read().decode().rpartition("\n")[0].rpartition("\n")[2].split(",")[1]
    except (OSError, IndexError):
        return 0
    return int(step) if step.isdigit() else 0


def idle(before: list[list[Event]]) -> int:
    """Number of last attempts in a row that made no checkpoint and were not stopped by a signal."""
    count = 0
    for events in reversed(before):
        if {event["event"] for event in events} & {"save", "stop", "end"}:
            break
        count += 1
    return count


def is_alive(sign: dict[str, Any]) -> bool:
    """True if a sign of life is recent. On the machine of the training, its process must exist too."""
    if not sign:
        return False
    gone = sign["host"] == socket.gethostname() and not Path(f"/proc/{sign['pid']}").exists()
    return age_s(sign["time"]) < (2 * BEAT_S if gone else SILENT_S)  # a process that is not visible may run in a container


def age_s(moment: str) -> float:
    """Seconds since a time in ISO format."""
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
