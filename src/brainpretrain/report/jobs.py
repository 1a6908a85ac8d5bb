"""Jobs of a study by stage: the results that its plan asks for, and what Snakemake's record of its last run says."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from brainpretrain.plan.runs import Plan

STAGES = ("download", "preprocess", "cohorts", "weights", "training", "evaluation", "report")
COUNTED = {  # what `results` lists of a stage
    "download": "data sets listed",
    "preprocess": "data sets stored",
    "cohorts": "corpora and splits",
    "training": "trainings",
    "evaluation": "cohorts scored",
    "report": "tables",
}
RECORDS = Path(".snakemake") / "log"  # below the root of the repository
HEAD = 200_000  # bytes of a record in which its study is looked for
BEGUN = re.compile(r"^(?:local)?(?:rule|checkpoint) (\w+):$")
FAILED = re.compile(r"^Error in (?:local)?(?:rule|checkpoint) (\w+):$")
FINISHED = re.compile(r"^Finished jobid: (\d+) \(Rule: (\w+)\)$")
STEPS = re.compile(r"^(\d+) of (\d+) steps \(.*\) done$")
PLANNED = re.compile(r"^(\w+) +(\d+)$")
ENDED = re.compile(r"^(Exiting because|Complete log|Nothing to be done)")


def by_rule(root: Path) -> dict[str, str]:
    """Stage of every rule, from the names of the files below rules/."""
    found = {}
    for stage in STAGES:
        for name in (stage, "figures") if stage == "report" else (stage,):
            path = root / "rules" / f"{name}.smk"
            text = path.read_text(encoding="utf-8") if path.exists() else ""
            found |= dict.fromkeys(re.findall(r"^ *(?:rule|checkpoint) (\w+):", text, re.MULTILINE), stage)
    return found


def results_of(plan: Plan, results: Path) -> dict[str, list[Path]]:
    """For each stage the files whose existence shows its progress, see `COUNTED`."""
    data, study = results / "data", results / plan.config.study_name
    trained = [*(pretraining.path for pretraining in plan.pretrainings), *plan.trainings]
    return {
        "download": [data / dataset / "index.tsv" for dataset in plan.datasets],
        "preprocess": [data / dataset / recipe / "volumes.tsv" for dataset, recipe in plan.preprocessed],
        "cohorts": [
            *(study / "corpora" / corpus / "corpus.tsv" for corpus in plan.corpora),
            *(study / "splits" / task / "subjects.json" for task in plan.tasks),
        ],
        "training": [study / path / "run.json" for path in trained],
        "evaluation": sorted({study / one.path / "scores.tsv" for one in [*plan.scored, *plan.tunings]}),
        "report": [study / "tables" / f"{table}.html" for table in plan.tables],
    }


@dataclass
class Record:
    """What Snakemake printed about a run, read line by line.

    Attributes:
        planned: number of jobs by rule when the run began.
        total: number of jobs now; it can grow while a study runs.
        running, failed: rule by number of the job.
        done: number of finished jobs by rule.
        last_failed: number of the job that failed last.
        ended: true if Snakemake said that it ends.
    """

    planned: Counter[str] = field(default_factory=Counter)
    total: int = 0
    running: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    done: Counter[str] = field(default_factory=Counter)
    last_failed: str = ""
    ended: bool = False
    _names: dict[str, str] = field(default_factory=dict)
    _block: tuple[str, str] = ("", "")  # kind and rule of the lines that are being read
    _log: str = ""
    _job: str = ""
    _table: bool = False

    def feed(self, line: str) -> str:
        """Takes in one line; returns the one line that a person is shown for it, '' for most."""
        line = line.rstrip("\n")
        said = ""
        if line.startswith(" "):
            said = self._fact(line.strip())
        elif self._block[0]:
            said, self._block = self._told(), ("", "")
        if line == "Job stats:":
            self.planned, self._table = Counter(), True
        elif self._table and (match := PLANNED.match(line)):
            self._table = match[1] != "total"
            if match[1] == "total":
                self.total = int(match[2])
            else:
                self.planned[match[1]] = int(match[2])
        elif match := BEGUN.match(line):
            self._block, self._log, self._job = ("begun", match[1]), "", ""
        elif match := FAILED.match(line):
            self._block, self._log, self._job = ("failed", match[1]), "", ""
        elif match := FINISHED.match(line):
            self.running.pop(match[1], None)
            self.failed.pop(match[1], None)
            self.done[match[2]] += 1
            self._job = match[1]
        elif match := STEPS.match(line):
            self.total = int(match[2])
            said = f"{match[1]} of {match[2]} jobs done: {self._names.get(self._job, 'a job')}"
        elif ENDED.match(line):
            self.ended = True
        return said

    def _fact(self, line: str) -> str:
        """A line of the description of a job."""
        kind, rule = self._block
        if not kind:
            return ""
        if line.startswith("log: "):
            self._log = line.removeprefix("log: ").partition(" (")[0].partition(", ")[0]
        elif line.startswith("jobid: "):
            self._job = line.removeprefix("jobid: ")
        if self._job:
            name = re.sub(r"^.*?logs/", "", self._log).removesuffix(".log") if self._log else ""
            self._names[self._job] = name if name.startswith(rule) else f"{rule} {name}".strip()
            if kind == "begun":
                self.running[self._job] = rule
                self.failed.pop(self._job, None)
            else:
                self.running.pop(self._job, None)
                self.failed[self._job], self.last_failed = rule, self._job
        return ""

    def _told(self) -> str:
        """After the description of a job: one that failed is told with its log."""
        if self._block[0] != "failed":
            return ""
        log = f"; log: {self._log}" if self._log else ""
        return f"FAILED: {self._names.get(self._job, self._block[1])}{log}"


class Follower:
    """The newest record of Snakemake below a root that is about a study. Each call reads what was added since the last."""

    def __init__(self, root: Path, study: str) -> None:
        self.root, self.study = root, study
        self.path: Path | None = None
        self.record, self._offset = Record(), 0
        self._others: set[Path] = set()  # of other studies

    def read(self) -> Record | None:
        """None if there is no record of the study."""
        newest = self._newest()
        if newest is None:
            return None
        if newest != self.path:
            self.path, self.record, self._offset = newest, Record(), 0
        with open(newest, "rb") as stream:
            stream.seek(self._offset)
            text, _, _ = stream.read().rpartition(b"\n")
        self._offset += len(text) + 1 if text else 0
        for line in text.decode("utf-8", errors="replace").splitlines() if text else ():
            self.record.feed(line)
        return self.record

    def _newest(self) -> Path | None:
        for path in sorted((self.root / RECORDS).glob("*.log"), reverse=True):
            if path == self.path:
                return path
            if path in self._others or not path.stat().st_size:
                continue
            with open(path, "rb") as stream:
                head = stream.read(HEAD).decode("utf-8", errors="replace")
            if f"study={self.study}" in head or f"/{self.study}/" in head:
                return path
            if len(head) == HEAD or "Complete log" in head or "Nothing to be done" in head:
                self._others.add(path)
        return None
