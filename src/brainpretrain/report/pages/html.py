"""Small self-contained HTML pages of the report: no script, no external address, everything escaped.

A page must read well in the report's frame, in a browser of its own and in black and white.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from brainpretrain import files
from brainpretrain.words import count as count
from brainpretrain.words import duration

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; color: #1f2328;
  background: #ffffff; margin: 1.5rem; }
main { max-width: 75rem; }
h1 { font-size: 1.35rem; margin: 0 0 .75rem; }
h2 { font-size: 1.05rem; margin: 1.5rem 0 .5rem; }
p, ul { max-width: 60rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(24rem, 1fr)); gap: 0 2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid #d8dee4; }
thead th { border-bottom: 2px solid #57606a; vertical-align: bottom; }
tbody th { font-weight: 600; }
th.number, td.number { text-align: right; padding: .3rem .6rem; }
tr.start > * { border-top: 2px solid #8c959f; }
.wrap { overflow-wrap: anywhere; min-width: 6.5rem; }
.detail { display: block; font-weight: 400; font-size: .87em; color: #57606a; white-space: nowrap; }
.up, .down, .same { border-radius: .25rem; padding: 0 .35rem; font-size: .87em; font-weight: 600;
  white-space: nowrap; }
.up { color: #0b5d27; background: #e3f5e8; }
.down { color: #9a1414; background: #fdeaea; }
.same { color: #424a53; background: #eef1f4; }
td.number, td.change { white-space: nowrap; }
td.change { padding: .3rem 1.2rem .3rem 0; }
th.number[colspan] { text-align: center; }
.missing { color: #57606a; font-style: italic; }
svg { max-width: 100%; height: auto; }
.published { display: block; font-weight: 400; font-size: .87em; color: #6a737d; white-space: nowrap; }
.notes { color: #424a53; font-size: .93em; }
"""

MAX_REJECTED_ROWS = 500
LONG_WORD = 24  # letters


def page(title: str, body: str) -> str:
    """A whole HTML document. `body` is HTML, `title` is text."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def write(path: Path | str, html: str) -> None:
    """Writes a page, atomically."""
    with files.atomic(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def table(header: Sequence[str], rows: Iterable[Sequence[Any]], numeric: Iterable[int] = ()) -> str:
    """An HTML table of plain values; `numeric` are the positions of the right-aligned columns.

    Words are broken only in columns that hold a long one, such as a path.
    """
    numeric, rows = set(numeric), [[str(value) for value in row] for row in rows]
    long = {i for row in rows for i, value in enumerate(row) if any(len(word) > LONG_WORD for word in value.split())}
    kinds = [' class="number"' if i in numeric else ' class="wrap"' if i in long else "" for i in range(len(header))]
    head = "".join(f'<th scope="col"{kind}>{escape(h)}</th>' for h, kind in zip(header, kinds, strict=True))
    body = ""
    for row in rows:
        cells = (f"<td{kind}>{escape(v)}</td>" for v, kind in zip(row, kinds, strict=True))
        body += f"<tr>{''.join(cells)}</tr>\n"
    return _scrolling(f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>")


def _scrolling(rows: str) -> str:
    """A table that scrolls by itself where the window is too narrow."""
    return f'<div class="scroll"><table>\n{rows}\n</table></div>\n'


def inline(svg: str) -> str:
    """An SVG as part of a page: without declarations and metadata, which name addresses and show nothing."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    return re.sub(r"\s+xmlns(:\w+)?=\"[^\"]*\"", "", svg)


# --- costs and label budgets


def costs_page(arms: pd.DataFrame, spec: Mapping[str, Any], svg: str, scale: float) -> str:
    """The figure of `plots.costs` and its numbers.

    Args:
        arms: what `costs.arms` returned.
        spec: the table.
        svg: the figure.
        scale: the score is shown times this.
    """
    header = ["No.", "Model", "Data", "Score", "SD", "Time", "Pretraining", "Fine-tuning", "Memory (GB)", "Devices"]
    header.append("Hardware")
    rows = []
    for cell in arms.to_dict("records"):
        score = _number(scale * cell["score"], ".2f")
        if score == "–":
            score = f"– ({cell['folds']} of {count(cell['folds_expected'], 'fold')})"
        facts = [score, _number(scale * cell["score_sd"], ".2f"), _hours(cell["hours"]), pretraining_time(cell)]
        facts += [_hours(cell["finetune_hours"]), _number(cell["memory_gb"], ".2f"), _number(cell["devices"], ".0f")]
        rows.append([cell["number"], cell["row"], f"{cell['column']} ({cell['cohort']})", *facts, cell["hardware"] or "–"])
    notes = [
        "Time: wall clock of the pretraining and, mean over folds, of a fine-tuning, over all attempts."
        " A pretraining that several arms share is counted whole in each.",
        "Memory: the peak of a process, of the GPU where one was used; the larger of pretraining and fine-tuning.",
        "Score: mean and SD (n - 1) over folds. Point at a bubble for its numbers. – means that runs are missing.",
    ]
    if arms["hardware"].nunique() > 1:
        notes.append("The trainings ran on different hardware: their hours and memory are not to be compared closely.")
    body = inline(svg) + "<h2>Numbers</h2>\n" + table(header, rows, numeric=(0, *range(3, 10))) + _notes(notes)
    return page(f"{spec['title']}: what it costs and what it brings", body)


def budgets_page(
    points: pd.DataFrame, matches: pd.DataFrame, spec: Mapping[str, Any], svg: str, scale: float, resamples: int
) -> str:
    """The figure of `plots.label_budgets`, the budget that matches full supervision, and the numbers.

    Args:
        points, matches: what `budgets.curves` and `budgets.matched` returned.
        spec: the table.
        svg: the figure.
        scale: the score is shown times this.
        resamples: of the bootstrap.
    """
    full = [[f"{m['column']} ({m['cohort']})", m["row"], m["words"], _full_words(m, scale)] for m in matches.to_dict("records")]
    rows = []
    for point in points.to_dict("records"):
        mean = _number(scale * point["mean"], ".2f")
        if mean == "–":
            mean = f"– ({point['folds']} of {count(point['folds_expected'], 'fold')})"
        names = [f"{point['column']} ({point['cohort']})", point["row"], point["n_train"], f"{point['subjects']:g}"]
        folds = ", ".join(_number(scale * float(value or "nan"), ".2f") for value in point["fold_scores"].split(" "))
        rows.append([*names, mean, _number(scale * point["sd"], ".2f"), folds])
    notes = [
        "Score: mean and SD (n - 1) over folds; each fold draws other training subjects."
        " Smaller budgets of a fold are part of its larger ones.",
        "Matched: labelled subjects at which the mean of the arm first reaches the baseline with all labels,"
        " interpolated in the logarithm of the number; nothing is extrapolated.",
        f"Interval: percentile bootstrap, {resamples:,} resamples of folds and of subjects;"
        " curve and target come from the same draw.",
    ]
    if (points["cohort"] == "val").any():
        notes.append("Cohort val: what a fold leaves of the pool, so larger budgets are scored on fewer cases.")
    body = inline(svg)
    if full:
        body += "<h2>Labels that match full supervision</h2>\n"
        body += table(["Data", "Model", "Matched at (subjects)", "Full supervision"], full)
    header = ["Data", "Model", "n_train", "Subjects", "Score", "SD", "Folds"]
    body += "<h2>Numbers</h2>\n" + table(header, rows, numeric=(2, 3, 4, 5)) + _notes(notes)
    return page(f"{spec['title']}: label budgets", body)


def _full_words(match: Mapping[str, Any], scale: float) -> str:
    n = match["full_n_train"]
    subjects = f"all {match['full_subjects']:g}" if n == "all" else f"{match['full_subjects']:g}"
    return f"{match['baseline']}, {subjects} subjects: {_number(scale * match['full_score'], '.2f')}"


def _notes(notes: Iterable[str]) -> str:
    return '<ul class="notes">\n' + "".join(f"<li>{escape(note)}</li>\n" for note in notes) + "</ul>\n"


def pretraining_time(cell: Mapping[str, Any]) -> str:
    """How long the pretraining of an arm of `costs.arms` took, in words."""
    if cell["pretrained_elsewhere"]:
        return "not known"
    return "none" if cell["pretrain_hours"] == 0 else _hours(cell["pretrain_hours"])


def _hours(value: float) -> str:
    return "–" if pd.isna(value) else duration(3600 * value)


def _number(value: float, form: str) -> str:
    return "–" if pd.isna(value) else f"{value:{form}}"


# --- rejected volumes


def rejected_page(stored: Mapping[str, pd.DataFrame]) -> str:
    """What preprocessing kept and what it turned down, and why; and what is odd about volumes that it kept.

    Args:
        stored: dataset -> rows of its table of stored volumes with columns volume, subject, sequence, status
            ('ok' or 'rejected'), reason, detail.
    """
    frames = [frame.assign(dataset=name) for name, frame in sorted(stored.items())]
    volumes = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["dataset", "status"])
    rejected = volumes[volumes["status"] == "rejected"]
    share = f" ({100 * len(rejected) / len(volumes):.1f} %)" if len(volumes) else ""
    body = f"<p>{len(rejected)} of {count(len(volumes), 'volume')} rejected in preprocessing{share}.</p>\n"
    if len(volumes):
        body += "<h2>Volumes by source and sequence</h2>\n" + _accepted_counts(volumes)
    if len(rejected):
        body += "<h2>Reasons</h2>\n" + _reason_counts(rejected)
        body += "<h2>Rejected volumes</h2>\n" + _listed(rejected, {"reason": "Reason", "detail": "Detail"})
    remarked = volumes[volumes["status"] == "ok"]
    remarked = remarked[remarked["detail"] != ""] if len(remarked) else remarked
    if len(remarked):
        body += "<h2>Remarks on accepted volumes</h2>\n" + _listed(remarked, {"detail": "Remark"})
    return page("Rejected volumes", body)


def _accepted_counts(volumes: pd.DataFrame) -> str:
    rows = []
    for (dataset, sequence), group in volumes.groupby(["dataset", "sequence"]):
        accepted = int((group["status"] == "ok").sum())
        subjects = group.loc[group["status"] == "ok", "subject"].nunique()
        rows.append((dataset, sequence, subjects, accepted, len(group) - accepted))
    accepted, rejected = (sum(row[i] for row in rows) for i in (3, 4))
    rows.append(("all", "", "", accepted, rejected))
    header = ["Source", "Sequence", "Subjects accepted", "Volumes accepted", "Volumes rejected"]
    return table(header, rows, numeric=(2, 3, 4))


def _reason_counts(rejected: pd.DataFrame) -> str:
    counts = rejected.groupby(["dataset", "reason"], as_index=False).size()
    counts = counts.sort_values(["dataset", "size", "reason"], ascending=[True, False, True])
    return table(["Source", "Reason", "Volumes"], counts.itertuples(index=False), numeric=(2,))


def _listed(volumes: pd.DataFrame, columns: Mapping[str, str]) -> str:
    """The first of some volumes, with the columns given (name to title), and how many more there are."""
    shown = {"dataset": "Source", "volume": "Volume", "sequence": "Sequence", **columns}
    listed = volumes.sort_values(["dataset", "volume"])[list(shown)].head(MAX_REJECTED_ROWS)
    html = table(list(shown.values()), listed.itertuples(index=False))
    more = len(volumes) - MAX_REJECTED_ROWS
    return html + (f'\n<p class="notes">{more} more are listed in volumes.tsv of their data sets.</p>' if more > 0 else "")


# --- run card

SECTIONS = {
    "Run": ["kind", "name", "commit", "started", "finished", "seconds", "resumed_from", "attempts", "redone_steps"],
    "Data": ["corpus", "volumes", "val_volumes", "subjects", "cases", "n_train", "fold"],
    "Training": ["parameters", "encoder_parameters", "steps", "patches_per_s", "data_wait", "peak_memory_gb"],
    "Hardware": ["hardware", "devices", "precision", "threads"],
    "Versions": ["python", "torch", "lightning"],
}


def run_card(run: Mapping[str, Any]) -> str:
    """The page of one training, from its run.json. Keys that are not known here are listed under 'More'."""
    known = {key for keys in SECTIONS.values() for key in keys} | {"config"}
    sections = {**SECTIONS, "More": sorted(set(run) - known)}
    body = '<div class="cards">\n'
    for title, keys in sections.items():
        rows = [row for key in keys if key in run for row in _facts(key, run[key])]
        if rows:
            body += f"<section>\n<h2>{title}</h2>\n{_key_values(rows)}</section>\n"
    body += "</div>\n"
    if run.get("config"):
        body += "<h2>Resolved config</h2>\n" + _key_values(_flat(run["config"]))
    return page(f"{str(run.get('kind', 'training')).capitalize()}: {run.get('name', 'unnamed')}", body)


def _key_values(rows: Iterable[tuple[str, str]]) -> str:
    lines = (f'<tr><th scope="row">{escape(k)}</th><td class="wrap">{escape(v)}</td></tr>\n' for k, v in rows)
    return _scrolling(f"<tbody>\n{''.join(lines)}</tbody>")


def _facts(key: str, value: Any) -> list[tuple[str, str]]:
    """One fact of run.json as readable lines; a nested one as a line for each leaf."""
    if isinstance(value, Mapping):
        return _flat(value, prefix=key)
    return [_fact(key, value)]


def _fact(key: str, value: Any) -> tuple[str, str]:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if key == "seconds" and number:
        return "duration", duration(value)
    if key == "data_wait" and number:
        return "time waiting for data", f"{100 * value:.1f} %"
    if key == "peak_memory_gb" and number:
        return "peak memory", f"{value:.2f} GB"
    if key == "patches_per_s" and number:
        return "patches per second", f"{value:.2f}"
    if key in ("parameters", "encoder_parameters", "steps", "volumes", "subjects") and number:
        return key.replace("_", " "), f"{value:,}"
    return key.replace("_", " "), _plain(value)


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """A nested mapping as dotted keys in their order."""
    lines: list[tuple[str, str]] = []
    for key, item in value.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        lines += _flat(item, name) if isinstance(item, Mapping) and item else [(name, _plain(item))]
    return lines


def _plain(value: Any) -> str:
    if value is None or value == "":
        return "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
