"""OpenMind: 114 thousand 3-D volumes of head and neck from 800 data sets of OpenNeuro, without labels.

The release also holds masks, so the volumes and their sequences are read from its table `openneuro_metadata.csv`. Only a part of
the release needs to be in place. It includes maps computed from diffusion volumes (ADC, FA, MD, TRACE).
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from brainpretrain.datasets.base import (
    Archive,
    Dataset,
    Layout,
    NotInPlace,
    Row,
    Scan,
    duplicates,
    how_to_place,
    refuse,
    volume_id,
)

TABLE = "openneuro_metadata.csv"
EXAMPLES = (TABLE, "OpenMind/ds000117/sub-01/ses-mri/anat/sub-01_ses-mri_acq-mprage_T1w.nii.gz")


def _list(dataset: Dataset, root: Path) -> Scan:
    """The volumes of the table that are in place."""
    tables = sorted([*root.glob(TABLE), *root.glob(f"*/{TABLE}")])
    if not tables:
        raise NotInPlace(
            f"the data set '{dataset.name}' is not in place: there is no {TABLE}",
            where=root,
            fix=how_to_place(dataset, root),
        )
    with open(tables[0], newline="", encoding="utf-8") as stream:
        listed = [_row(line, tables[0].parent.relative_to(root)) for line in csv.DictReader(stream)]
    rows = sorted((row for row in listed if (root / row["path"]).is_file()), key=lambda row: row["volume"])
    if not rows:
        problem = f"none of the {len(listed)} volumes of {TABLE} is in place, such as {listed[0]['path'] if listed else ''}"
        raise NotInPlace(problem, where=root, fix=how_to_place(dataset, root))
    refuse(dataset.name, root, duplicates(rows), [])
    return Scan("openneuro_metadata.csv", rows, [], [])


def _row(line: dict[str, Any], top: Path) -> Row:
    """The index row of a line of the table, whose path is `<OpenNeuro data set>/<subject>[/<session>]/.../<file>`."""
    parts = line["image_path"].split("/")
    subject = f"{parts[0]}-{parts[1]}"
    session = parts[2].removeprefix("ses-") if parts[2].startswith("ses-") else ""
    name = "-".join(part.split(".")[0] for part in parts[2:] if not part.startswith("ses-"))
    return {
        "volume": volume_id(subject, session, name, line["modality"]),
        "subject": subject,
        "patient": subject,
        "session": session,
        "sequence": line["modality"],
        "subset": "unlabelled",
        "site": parts[0],
        "path": (top / "OpenMind" / line["image_path"]).as_posix(),
        "label": "",
        "channel": "",
    }


DATASET = Dataset(
    name="openmind",
    title="OpenMind",
    access="auto",
    page="https://huggingface.co/datasets/AnonRes/OpenMind",
    licence="CC BY 4.0",
    licence_url="https://creativecommons.org/licenses/by/4.0/",
    citation="Wald et al., An OpenMind for 3D medical vision self-supervised learning, arXiv:2412.17041",
    redistribution=True,
    archives=(Archive(name="OpenMind", url="hf:AnonRes/OpenMind"),),
    layouts=(Layout(name="openneuro_metadata.csv", patterns=(), examples=EXAMPLES),),
    labels={},
    label_sequences=(),
    expected={"volumes": 113921},
    n_shards=446,
    lister=_list,
)
