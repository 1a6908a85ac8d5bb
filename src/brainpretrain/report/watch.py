"""One look at a whole study: stages, trainings, curves, queue and estimate, from files alone (and `squeue`, where there is one).

`Watcher.frame` is called again and again. It reads run folders, what was added to records and logs since the last call, and the
config only if it has changed. The estimate and the queue are renewed more seldom.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from brainpretrain import config
from brainpretrain.errors import UserError
from brainpretrain.files import read_mapping
from brainpretrain.plan import tables
from brainpretrain.plan.runs import Plan
from brainpretrain.report import forecast, jobs, status
from brainpretrain.report.curves import Curve, Curves
from brainpretrain.report.status import Training
from brainpretrain.training import history
from brainpretrain.words import count, duration

ESTIMATE_S, QUEUE_S = 60.0, 30.0  # between two of them
SQUEUE_S = 10.0  # after which squeue is given up
RECENT = 6  # finished trainings whose curves are shown


@dataclass(frozen=True)
class Stage:
    """A stage: results that exist, of those planned; and jobs of the last run of Snakemake. `planned` 0: not counted."""

    name: str
    exist: int = 0
    planned: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0
    jobs: int = 0


@dataclass(frozen=True)
class Frame:
    """What is shown of a study at one time.

    Attributes:
        time: local, 'YYYY-MM-DD HH:MM:SS'.
        stages: empty without the config of the study and a record of Snakemake.
        curves: by run, of trainings that are running or stopped, and of those that finished last.
        queue: own jobs in Slurm's queue, in words; '' where there is no squeue.
        estimate: lines on the time that is left.
        notes: what could not be read.
    """

    study: str
    title: str
    time: str
    trainings: list[Training]
    stages: list[Stage]
    curves: dict[str, Curve]
    queue: str
    estimate: list[str]
    notes: list[str]

    @property
    def counts(self) -> Counter[str]:
        return Counter(training.state for training in self.trainings)

    @property
    def running(self) -> list[Training]:
        return [training for training in self.trainings if training.state == "running"]

    @property
    def troubles(self) -> list[Training]:
        """Trainings with a trouble, those that stopped first."""
        return sorted((t for t in self.trainings if t.trouble), key=lambda t: t.state == "running")

    @property
    def complete(self) -> bool:
        """True if every result of every stage exists; never without the config."""
        counted = [stage for stage in self.stages if stage.planned]
        return bool(counted) and all(stage.exist >= stage.planned for stage in counted)


class Watcher:
    """Looks at a study again and again.

    Args:
        results: folder of the results.
        study: name or path of a study; None for the one that trains now, else that of the settings.
        root: the repository; None to look for it beside the results and in the current folder.
    """

    def __init__(self, results: Path, study: str | None = None, root: Path | None = None) -> None:
        self.results, self.asked, self.root = results, study, root or _root(results)
        self.curves = Curves()
        self.plan: Plan | None = None
        self.notes: list[str] = []
        self._stamp = -1.0
        self._rules = jobs.by_rule(self.root) if self.root else {}
        self._followers: dict[str, jobs.Follower] = {}
        self._estimate: tuple[float, list[str]] = (0.0, [])
        self._queue: tuple[float, str] = (0.0, "")

    def frame(self) -> Frame:
        """The study now.

        Raises:
            UserError: there is no trace of the study, and no config that plans it.
        """
        self._load()
        trainings = self._trainings()
        study = self.plan.config.study_name if self.plan else trainings[0].study
        return Frame(
            study=study,
            title=self.plan.config.study.title if self.plan else "",
            time=datetime.now().strftime("%Y-%m-%d %H:%M:%S"),
            trainings=trainings,
            stages=self._stages(study),
            curves={t.run: self.curves.read(_log_csv(self.results, t)) for t in _drawn(trainings)},
            queue=self._queued(),
            estimate=self._estimated(trainings),
            notes=list(self.notes),
        )

    def _load(self) -> None:
        """The plan, made again if a file of the config has changed."""
        folder = self.root / "config" if self.root else None
        if folder is None:
            return
        stamp = max((path.stat().st_mtime for path in folder.rglob("*.yaml")), default=0.0)
        if stamp == self._stamp:
            return
        self._stamp, self.plan, self.notes = stamp, None, []
        try:
            study = self.asked or _at_work(self.results, folder)
            self.plan = tables.make(config.load(folder, {"study": study} if study else None))
        except UserError as error:  # the config may be being edited; what runs can still be shown
            self.notes = [f"stages and trainings not begun are left out, since the config has an error: {error}"]

    def _trainings(self) -> list[Training]:
        if self.plan:
            study = self.plan.config.study_name
            runs = [*(pretraining.path for pretraining in self.plan.pretrainings), *self.plan.trainings]
            return status.collect(self.results, study, planned=[(study, run) for run in runs])
        found = status.collect(self.results, Path(self.asked).stem if self.asked else None, planned=[])
        signs = [t for t in found if t.study and t.seen_s is not None]
        last = min(signs, key=lambda t: t.seen_s or 0.0).study if signs else found[0].study
        return [training for training in found if training.study == last]

    def _stages(self, study: str) -> list[Stage]:
        planned = jobs.results_of(self.plan, self.results) if self.plan else {}
        record = self._record(study)
        counted: dict[str, Counter[str]] = {name: Counter() for name in ("running", "done", "failed", "jobs")}
        if record:
            for what, rules in (
                ("running", Counter(record.running.values()) if not record.ended else Counter()),
                ("done", record.done),
                ("failed", Counter(record.failed.values())),
                ("jobs", record.planned),
            ):
                for rule, number in rules.items():
                    if rule != "all":
                        counted[what][self._rules.get(rule, "report")] += number
        stages = [
            Stage(
                name,
                exist=sum(path.exists() for path in planned.get(name, [])),
                planned=len(planned.get(name, [])),
                **{what: numbers[name] for what, numbers in counted.items()},
            )
            for name in jobs.STAGES
        ]
        return [stage for stage in stages if stage.planned or stage.jobs]

    def _record(self, study: str) -> jobs.Record | None:
        if not self.root:
            return None
        return self._followers.setdefault(study, jobs.Follower(self.root, study)).read()

    def _estimated(self, trainings: list[Training]) -> list[str]:
        """Renewed every `ESTIMATE_S`, since it reads the run.json of every training again."""
        since, lines = self._estimate
        if not lines or time.monotonic() - since > ESTIMATE_S:
            lines = _estimate(self.plan, self.results, trainings)
            self._estimate = (time.monotonic(), lines)
        return lines

    def _queued(self) -> str:
        since, said = self._queue
        if not since or time.monotonic() - since > QUEUE_S:
            said = queue()
            self._queue = (time.monotonic(), said)
        return said


def queue() -> str:
    """Own jobs in Slurm's queue by state, with the reasons of those that wait; '' where there is no squeue."""
    if not shutil.which("squeue"):
        return ""
    line = ["squeue", "--me", "--noheader", "--format=%T|%r"]
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=SQUEUE_S)
    except (OSError, subprocess.TimeoutExpired):
        return "squeue does not answer"
    if done.returncode:
        return f"squeue failed: {next(iter(done.stderr.strip().splitlines()), 'no message')}"
    rows = [row.strip().partition("|") for row in done.stdout.splitlines() if row.strip()]
    states, parts = Counter(state for state, _, _ in rows), []
    for state, number in sorted(states.items(), key=lambda item: (item[0] != "RUNNING", item[0])):
        reasons = Counter(reason for other, _, reason in rows if other == state and reason not in ("", "None"))
        why = f" ({', '.join(f'{reason} {n}' for reason, n in reasons.most_common())})" if reasons else ""
        parts.append(f"{number} {state.lower()}{why}")
    return ", ".join(parts) or "no job of yours"


def _estimate(plan: Plan | None, results: Path, trainings: list[Training]) -> list[str]:
    """Time that is left: of the trainings that run, and of those that do not run yet at the rates of finished ones."""
    lines, running = [], [t for t in trainings if t.state == "running"]
    left = [t.left_s for t in running if t.left_s is not None]
    if left:
        lines.append(f"the last of {count(len(running), 'running training')} ends in about {duration(max(left))}")
    if plan is None:
        return lines
    rest = forecast.lines(plan, results, leave_out={t.run for t in running})
    hours = sum(line.hours or 0.0 for line in rest)
    unknown = sum(line.trainings for line in rest if line.hours is None)
    known = sum(line.trainings for line in rest) - unknown
    if known:
        lines.append(f"{count(known, 'training')} not running: {duration(hours * 3600)} one after another")
        if len(running) > 1:
            together = (hours * 3600 + sum(left)) / len(running)
            lines.append(f"at {len(running)} at a time all of it takes about {duration(together)}")
    if unknown:
        lines.append(f"{count(unknown, 'training')} without an estimate: no training of that network has finished yet")
    return lines or ["no training is left"]


def _at_work(results: Path, folder: Path) -> str | None:
    """The study of the newest training with a recent sign of life, if the config has it."""
    signs = {path: path.stat().st_mtime for path in results.glob("work/*/alive.json")}
    newest = max(signs, key=lambda path: signs[path], default=None)
    if newest is None or time.time() - signs[newest] > history.SILENT_S:
        return None
    name = Path(read_mapping(newest.with_name("about.json")).get("out", "..")).parts[0]
    return name if (folder / "studies" / f"{name}.yaml").exists() else None


def _root(results: Path) -> Path | None:
    """The repository that writes to these results: the folder above them, or the current one if its settings say so."""
    above, here = results.absolute().parent, Path.cwd()
    if _is_repository(above):
        return above
    if not _is_repository(here):
        return None
    try:
        return here if Path(config.load(here / "config").settings.results).resolve() == results.resolve() else None
    except UserError:
        return None


def _is_repository(folder: Path) -> bool:
    return (folder / "config" / "config.yaml").exists() and (folder / "Snakefile").exists()


def _drawn(trainings: list[Training]) -> list[Training]:
    """Those whose curves are shown."""
    finished = sorted((t for t in trainings if t.state == "finished" and t.seen_s is not None), key=lambda t: t.seen_s or 0.0)
    return [t for t in trainings if t.state not in ("finished", "not begun")] + finished[:RECENT]


def _log_csv(results: Path, training: Training) -> Path:
    return (Path(training.work) if training.work else results / training.study / training.run) / "log.csv"
