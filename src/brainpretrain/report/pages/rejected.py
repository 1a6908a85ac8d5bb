"""The page of the volumes that preprocessing rejected, with the reasons."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from brainpretrain.report.pages.html import Table, render, table
from brainpretrain.words import count

MAX_VOLUMES = 500


def page(stored: Mapping[str, pd.DataFrame], filtered: Mapping[str, pd.DataFrame] | None = None) -> str:
    """Volumes that preprocessing accepted and rejected, the reason of each rejection, and remarks on accepted volumes.

    Args:
        stored: dataset -> rows of its table of stored volumes with columns volume, subject, sequence, status
            ('ok' or 'rejected'), reason, detail.
        filtered: corpus -> the volumes that its filters leave out, with columns dataset, volume, sequence, reason, detail.
    """
    frames = [frame.assign(dataset=name) for name, frame in sorted(stored.items())]
    volumes = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["dataset", "status", "detail"])
    rejected = volumes[volumes["status"] == "rejected"]
    remarked = volumes[(volumes["status"] == "ok") & (volumes["detail"] != "")]
    return render(
        "rejected",
        title="Rejected volumes",
        rejected=len(rejected),
        volumes=count(len(volumes), "volume"),
        share=f"{100 * len(rejected) / len(volumes):.1f}" if len(volumes) else None,
        by_sequence=_by_sequence(volumes) if len(volumes) else None,
        reasons=_reasons(rejected) if len(rejected) else None,
        rejected_volumes=_listed(rejected, {"reason": "Reason", "detail": "Detail"}) if len(rejected) else None,
        filtered=[_filtered(corpus, table) for corpus, table in sorted((filtered or {}).items())],
        remarks=_listed(remarked, {"detail": "Remark"}) if len(remarked) else None,
    )


def _filtered(corpus: str, left_out: pd.DataFrame) -> tuple[str, str, Table | None, tuple[Table, int] | None]:
    """A corpus, what its filters leave out in words, the counts of reasons, and the volumes."""
    words = count(len(left_out), "volume")
    if not len(left_out):
        return corpus, words, None, None
    return corpus, words, _reasons(left_out), _listed(left_out, {"reason": "Filter", "detail": "Detail"})


def _by_sequence(volumes: pd.DataFrame) -> Table:
    rows = []
    for (dataset, sequence), group in volumes.groupby(["dataset", "sequence"]):
        accepted = group[group["status"] == "ok"]
        rows.append((dataset, sequence, accepted["subject"].nunique(), len(accepted), len(group) - len(accepted)))
    accepted, rejected = (sum(row[i] for row in rows) for i in (3, 4))
    rows.append(("all", "", "", accepted, rejected))
    header = ["Source", "Sequence", "Subjects accepted", "Volumes accepted", "Volumes rejected"]
    return table(header, rows, numeric=(2, 3, 4))


def _reasons(rejected: pd.DataFrame) -> Table:
    counts = rejected.groupby(["dataset", "reason"], as_index=False).size()
    counts = counts.sort_values(["dataset", "size", "reason"], ascending=[True, False, True])
    return table(["Source", "Reason", "Volumes"], counts.itertuples(index=False), numeric=(2,))


def _listed(volumes: pd.DataFrame, columns: Mapping[str, str]) -> tuple[Table, int]:
    """The first volumes with the given columns (name to title), and the number of volumes that are not listed."""
    shown = {"dataset": "Source", "volume": "Volume", "sequence": "Sequence", **columns}
    rows = volumes.sort_values(["dataset", "volume"])[list(shown)].head(MAX_VOLUMES)
    return table(list(shown.values()), rows.itertuples(index=False)), len(volumes) - MAX_VOLUMES
