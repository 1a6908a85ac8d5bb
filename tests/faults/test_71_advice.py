"""Fault 71: advice that does not help. Each error is caused, its advice is followed to the letter, and the same step must pass."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml
from nibabel.processing import resample_to_output

import miniatures
import tiny
import workflow_fixture
from brainpretrain import cli, config, datasets, decoders
from brainpretrain.backbones import mednext, resenc, unetr
from brainpretrain.cli import arguments
from brainpretrain.cohorts import splits
from brainpretrain.cohorts.corpus import make_corpus
from brainpretrain.download.index import index
from brainpretrain.errors import UserError
from brainpretrain.plan import checks, tables
from brainpretrain.preprocess import nifti, rejections, shards, volumes
from brainpretrain.pretext import planning
from brainpretrain.sizes import check_size, ratio_range, token_grid
from helpers import ROOT

State = SimpleNamespace
Found = re.Match[str]


def follow(attempt: Callable[[], Any], advice: str, action: Callable[[Found], Any]) -> None:
    """Causes an error, finds `advice` in its text, does what it says, and sees the attempt pass."""
    with pytest.raises(UserError) as caught:
        attempt()
    found = re.search(advice, str(caught.value))
    assert found, f"no '{advice}' in: {caught.value}"
    action(found)
    attempt()


def set_keys(target: dict[str, Any], *, of: str = r"(\w+): (.+)") -> Callable[[Found], None]:
    """Writes the keys and values that the advice names."""

    def write(found: Found) -> None:
        pairs = re.findall(of, found[0])
        assert pairs, found[0]
        target.update({key: yaml.safe_load(value) for key, value in pairs})

    return write


# ------------------------------------------------------------------------------------------------ volumes that are rejected

RECIPE = tiny.PREPROCESS | {"min_size": 10}
REJECTED: list[tuple[str, np.ndarray, dict[str, Any], str, dict[str, Any]]] = [
    # reason, voxels, the recipe's change, the advice, and what its words mean where they are no `key: value`
    ("negative", miniatures.head() - 200, {}, r"allow_negative: true", {}),
    ("too_small", miniatures.head()[:, :, :8], {}, r"a lower (min_size)", {"min_size": 8}),
    ("too_large", miniatures.head(), {"max_voxels": 1000}, r"a higher (max_voxels)", {"max_voxels": 10**5}),
    ("spacing", miniatures.head(), {"spacing_range_mm": [2, 5]}, r"a wider (spacing_range_mm)", {"spacing_range_mm": [0.5, 5]}),
    ("empty", -miniatures.head(), {"allow_negative": True}, r"crop: none and allow_negative: true", {}),
]


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def row(**fields: Any) -> dict[str, Any]:
    return dict.fromkeys(shards.INDEX_COLUMNS, "") | {"volume": "v", "subject": "s", "sequence": "T1w", "path": "v.nii"} | fields


@pytest.mark.parametrize(("reason", "array", "change", "advice", "meant"), REJECTED, ids=[case[0] for case in REJECTED])
def test_71_what_helps_against_a_reason_of_rejection(
    reason: str, array: np.ndarray, change: dict[str, Any], advice: str, meant: dict[str, Any], tmp_path: Path
) -> None:
    save(tmp_path / "raw/v.nii", array)
    save(tmp_path / "raw/l.nii", (array > 500).astype(np.uint8))  # a labelled volume counts, whatever the reason
    recipe, most = RECIPE | change, {"max_rejected_fraction": 0.0}

    def attempt() -> None:
        table = shards.build([row(label="l.nii")], tmp_path / "raw", tmp_path / "out", recipe, 0, 1)
        assert set(table["reason"]) <= {reason, ""}
        rejections.check_rejected(table, most["max_rejected_fraction"])

    with pytest.raises(UserError, match="or, to go on without these volumes, raise max_rejected_fraction"):
        attempt()
    most["max_rejected_fraction"] = 1.0
    attempt()
    most["max_rejected_fraction"] = 0.0
    action = set_keys(recipe, of=r"(\w+): (\w+)") if not meant else lambda found: recipe.update({found[1]: meant[found[1]]})
    follow(attempt, advice, action)


def test_71_a_label_value_that_is_meant_is_named_by_the_data_set(tmp_path: Path) -> None:
    save(tmp_path / "raw/v.nii", miniatures.head())
    save(tmp_path / "raw/l.nii", miniatures.structures([1, 7]))
    labels = {1}

    def attempt() -> None:
        table = shards.build([row(label="l.nii")], tmp_path / "raw", tmp_path / "out", RECIPE, 0, 1, labels=labels)
        rejections.check_rejected(table, 0)

    follow(attempt, "these values in the `labels` of the data set", lambda found: labels.add(7))


def test_71_a_channel_of_a_4d_file_is_named_by_a_table(tmp_path: Path) -> None:
    save(tmp_path / "raw/v.nii", np.stack([miniatures.head(), miniatures.head(1)], -1))
    save(tmp_path / "raw/l.nii", miniatures.structures([1]))
    state = State(rows=[row(label="l.nii")])

    def attempt() -> None:
        table = shards.build(state.rows, tmp_path / "raw", tmp_path / "out", RECIPE, 0, 1)
        rejections.check_rejected(table, 0)

    def by_table(found: Found) -> None:
        (tmp_path / "raw/list.csv").write_text("subject,sequence,path,channel,label\ns,T1w,v.nii,1,l.nii\n")
        state.rows = index(datasets.describe(found[1], {"file": "list.csv"}), tmp_path / "raw")

    with pytest.raises(UserError, match=r"name the channel in a table \(module: csv\)"):
        nifti.read_volume(tmp_path / "raw/v.nii")
    follow(attempt, r"a table \(module (csv)\) that names the channel", by_table)


# ------------------------------------------------------------------------------------------------ files and headers


def contradicting(path: Path, found: Found | None = None) -> None:
    """sform and qform that contradict each other; once told, the sform in both."""
    image = nib.Nifti1Image(miniatures.head(), np.eye(4))
    image.set_sform(np.diag([1, 1, 1, 1]), 1)
    image.set_qform(np.diag([1, 1, 1, 1]) if found else np.diag([-1, -1, 1, 1]), 1)
    nib.save(image, path)


def in_metres(path: Path, found: Found | None = None) -> None:
    image = nib.Nifti1Image(miniatures.head(), np.eye(4))
    image.header["xyzt_units"] = 1
    if found:
        image.header[found[1]] = int(found[2])
    nib.save(image, path)


def sheared(path: Path, found: Found | None = None) -> None:
    affine = np.eye(4)
    affine[0, 1] = 0.4
    image = nib.Nifti1Image(miniatures.head(), affine)
    nib.save(resample_to_output(image, 1) if found else image, path)


def not_finite(path: Path, found: Found | None = None) -> None:
    array = miniatures.head().astype(np.float32)
    array[3, 3, 3] = 0 if found else np.nan
    save(path, array)


def renamed(path: Path, found: Found | None = None) -> None:
    """NRRD under the name of a NIfTI file; once told, under its own, and converted by the command."""
    if not found:
        miniatures.write_nrrd(path, miniatures.head())
        return
    own = path.rename(path.with_name(f"v{found[1]}"))
    assert cli.main(shlex.split(found[2].replace("FILE", shlex.quote(str(own))))) == 0
    assert own.with_name("v.nii.gz").exists()


def half_of_a_pair(path: Path, found: Found | None = None) -> None:
    if not found:
        nib.Nifti1Pair(miniatures.head(), np.eye(4)).to_filename(path.with_name("v.hdr"))
        path.with_name("v.hdr").rename(path)
        return
    path.rename(path.with_name("v.hdr"))
    assert cli.main(shlex.split(found[1].replace("FILE", shlex.quote(str(path.with_name("v")))))) == 0


FILES = [
    (contradicting, "v.nii", "find out which one is right, and write it into both"),
    (in_metres, "v.nii", r"set the spatial unit of the header \((\w+)\) to (\d)"),
    (sheared, "v.nii", "resample it to a grid with right angles"),
    (not_finite, "v.nii", "repair the volume"),
    (renamed, "v.nii.gz", r"ending with (\.\w+), then convert it: brainpretrain (convert FILE)"),
    (half_of_a_pair, "v.nii", r"name it \.hdr again, beside its \.img, then convert the pair: brainpretrain (convert FILE\.img)"),
]


@pytest.mark.parametrize(("make", "name", "advice"), FILES, ids=[case[0].__name__ for case in FILES])
def test_71_what_is_said_about_a_file_makes_it_readable(make: Callable, name: str, advice: str, tmp_path: Path) -> None:
    path = tmp_path / name
    make(path)

    def attempt() -> None:
        converted = path if path.exists() else tmp_path / "v.nii.gz"
        found = nifti.read_volume(converted)
        assert found.array.shape == miniatures.SHAPE or make is sheared
        assert np.isfinite(found.array).all()

    follow(attempt, advice, lambda found: make(path, found))


def test_71_a_label_that_is_moved_or_on_another_grid(tmp_path: Path) -> None:
    state = State(affine=np.diag([1, 1, 1, 1]) + np.array([[0, 0, 0, 5], *[[0] * 4] * 3]), array=miniatures.structures([1]))
    image = nifti.read_volume(save(tmp_path / "v.nii", miniatures.head()))

    def attempt() -> None:
        label = nifti.read_volume(save(tmp_path / "l.nii", state.array, state.affine))
        volumes.require_same_grid(image, label, label.path)

    follow(attempt, "align their headers", lambda found: setattr(state, "affine", image.affine))
    state.array = state.array[:-1]
    follow(attempt, "bring it to the grid of its image", lambda found: setattr(state, "array", miniatures.structures([1])))


# ------------------------------------------------------------------------------------------------ sizes and networks


@pytest.mark.parametrize("size", [[100, 96, 96], [96, 8, 96], [72, 72, 72], [16, 16, 16], [10, 16, 16], [20, 20, 20], [8, 8, 8]])
def test_71_every_size_that_is_advised_fits(size: list[int]) -> None:
    with pytest.raises(UserError) as caught:
        check_size(size, 16)
    fix = str(caught.value).rpartition("nearest valid size")[2]
    choices = dict(re.findall(r"(\d+): ([\d or]+)", fix))
    for number in range(2):
        advised = [int((re.findall(r"\d+", choices.get(str(n), str(n))) * 2)[number]) for n in size]
        if not choices:
            advised = [int(re.search(r"\d+", fix)[0]), *size[1:]]
        check_size(advised, 16)


def decoder_of(name: str, architecture: str) -> None:
    entry = {
        "swinunetr": {"architecture": "swinunetr", "options": {"feature_size": 12}},
        "unet": {"architecture": "unet", "options": {"width": 4, "levels": 3, "convs_per_stage": 1}},
    }[architecture]
    options = {"unet": {"convs_per_stage": 1, "skips": True}, "unetr": {"feature_size": 4}}.get(name, {})
    decoders.build_network(entry | {"decoder": name, "decoder_options": options}, 1, 2)


def pretext_of(state: State) -> None:
    options = {"mask_size": state.mask_size, "mask_ratio": 0.6, "pool": state.pool}
    planning.check(state.method, options, state.patch, state.batch, (state.architecture, 32), "pretexts.x")


def swin(**changes: Any) -> State:
    start = {"method": "swinunetr", "mask_size": 16, "pool": "token", "patch": [64, 64, 64], "batch": 2}
    return State(**(start | {"architecture": "swinunetr"} | changes))


def changed(state: State, key: str, value: Callable[[Found], Any]) -> Callable[[Found], None]:
    return lambda found: setattr(state, key, value(found))


def network_cases() -> Iterator[tuple[str, Callable[[], Any], str, Callable[[Found], Any]]]:
    blocks = State(size=5)
    yield (
        "mask",
        lambda: token_grid([16, 8, 24], blocks.size),
        r"valid sizes: \[.*?(\d+)\]",
        changed(blocks, "size", lambda m: int(m[1])),
    )
    ratio = State(value=60)
    yield (
        "ratio",
        lambda: ratio_range(ratio.value),
        r"give a number in (\d)\.\.(\d)",
        changed(ratio, "value", lambda m: (int(m[1]) + int(m[2])) / 2),
    )
    kernel = State(size=4)
    narrow = {"width": 4, "blocks": [1] * 9, "expansions": [1] * 9}
    yield (
        "kernel",
        lambda: _built(mednext, narrow | {"kernel_size": kernel.size}),
        r"use (\d), (\d) or (\d)",
        changed(kernel, "size", lambda m: int(m[2])),
    )
    levels = State(blocks=[1, 1])
    yield (
        "levels",
        lambda: _built(resenc, {"widths": [4, 8, 8], "blocks": levels.blocks}),
        "one number per level",
        changed(levels, "blocks", lambda m: [1, 1, 1]),
    )
    heads = State(width=100, heads=12)
    vit = {"image_size": [32, 32, 32], "mlp_width": 8}
    yield (
        "heads",
        lambda: _built(unetr, vit | {"width": heads.width, "num_heads": heads.heads, "depth": 4}),
        r"has (\d+) and (\d+)",
        lambda m: (setattr(heads, "width", int(m[1]) // 4), setattr(heads, "heads", int(m[2]) // 4)),
    )
    depth = State(value=2)
    yield (
        "depth",
        lambda: _built(unetr, vit | {"width": 24, "num_heads": 2, "depth": depth.value}),
        r"need (\d) blocks",
        changed(depth, "value", lambda m: int(m[1])),
    )
    for name in ("swinunetr", "unetr", "mednext"):
        decoder = State(name=name)
        yield (
            f"decoder {name}",
            lambda decoder=decoder: decoder_of(decoder.name, "unet"),
            r"use '(\w+)'",
            changed(decoder, "name", lambda m: m[1]),
        )
    one = swin(batch=1)
    yield "batch", lambda: pretext_of(one), r"use at least (\d+)", changed(one, "batch", lambda m: int(m[1]))
    flat = swin(patch=[64, 64, 32])
    yield "plane", lambda: pretext_of(flat), "make y and z equal", changed(flat, "patch", lambda m: [64, 64, 64])
    token = swin(patch=[32, 32, 32])
    yield "one token", lambda: pretext_of(token), r"such as (\d+) along x", changed(token, "patch", lambda m: [int(m[1]), 32, 32])
    pool = swin(patch=[32, 32, 32])
    yield "pool", lambda: pretext_of(pool), r"'pool: (\w+)'", changed(pool, "pool", lambda m: m[1])


def _built(module: Any, options: dict[str, Any]) -> None:
    known = inspect.signature(module.build).parameters
    module.build(1, **{name: value for name, value in options.items() if name in known})


NETWORKS = list(network_cases())


@pytest.mark.parametrize(("attempt", "advice", "action"), [case[1:] for case in NETWORKS], ids=[case[0] for case in NETWORKS])
def test_71_what_is_said_about_sizes_and_networks_fits(attempt: Callable, advice: str, action: Callable) -> None:
    follow(attempt, advice, action)


# ------------------------------------------------------------------------------------------------ who trains and who is scored


def an_index(n: int = 10, **columns: Any) -> pd.DataFrame:
    names = [f"s{number}" for number in range(n)]
    frame = pd.DataFrame({"volume": names, "subject": names, "session": "", "sequence": "T1w", "subset": "train", "label": "l"})
    return frame.assign(site="", status="ok", reason="", path="p", detail="", **columns)


def a_task(**split: Any) -> dict[str, Any]:
    rule = {"seed": 0, "test_fraction": 0.0} | split
    return {"dataset": "d", "sequences": ["T1w"], "subsets": [], "split": rule, "ood": {"dataset": "d", "subsets": []}}


def cohort_cases() -> Iterator[tuple[str, Callable[[], Any], str, Callable[[Found], Any]]]:
    frame, wrong = an_index(), State(subsets=["test"], sequence="T1w")
    split = lambda: splits.split(frame, a_task() | {"subsets": wrong.subsets, "sequences": [wrong.sequence]})  # noqa: E731
    yield (
        "subset",
        split,
        r"name subsets with labels in the `subsets` of the task: (\w+)",
        changed(wrong, "subsets", lambda m: [m[1]]),
    )
    other = State(name="FLAIR")
    yield (
        "sequence",
        lambda: splits.split(frame, a_task() | {"sequences": [other.name]}),
        r"name a sequence with labels in the task: (\w+)",
        changed(other, "name", lambda m: m[1]),
    )
    site = a_task(stratify="site")
    yield "site", lambda: splits.split(frame, site), r"remove '(\w+)' from the split", lambda m: site["split"].pop(m[1])
    fold = {"order": list(frame["subject"]), "dataset": "d", "fold": 0}
    asked = State(n="12")
    yield (
        "n_train",
        lambda: splits.training_subjects(fold, set(fold["order"]), asked.n),
        r"lower n_train to (\d+)",
        changed(asked, "n", lambda m: m[1]),
    )
    left = State(n="10")
    yield (
        "val",
        lambda: splits.cohort_subjects(fold, set(fold["order"]), left.n, "val"),
        "lower n_train",
        changed(left, "n", lambda m: "9"),
    )
    drawn = a_task(draw="hash")
    scored = lambda: splits.cohort_subjects(fold, set(fold["order"]), "1", "test", splits.split(frame, drawn))  # noqa: E731
    yield "test", scored, r"raise (test_fraction) of the task", lambda m: drawn["split"].update({m[1]: 0.5})
    everyone = a_task(draw="hash", test_fraction=0.99)
    few = an_index(2)
    yield (
        "all in the test set",
        lambda: splits.split(few, everyone),
        r"change (test_fraction) or seed",
        lambda m: everyone["split"].update({m[1]: 0.1}),
    )
    outside = a_task() | {"ood": {"dataset": "d", "subsets": ["elsewhere"]}}
    nobody = {"dataset": "d", "pool": [], "test": []}
    yield (
        "ood",
        lambda: splits.ood(frame, outside, nobody),
        r"in the `subsets` of its 'ood': (\w+)",
        lambda m: outside["ood"].update(subsets=[m[1]]),
    )
    twice = pd.concat([an_index(), an_index().assign(subset="other")])
    versions = a_task()
    yield (
        "versions",
        lambda: splits.split(twice, versions),
        r"such as `subsets: (\[\w+\])`",
        lambda m: versions.update(subsets=yaml.safe_load(m[1])),
    )
    source = {"dataset": "d", "sequences": [], "subsets": [], "pool_of": None}
    spec = {"sources": [source | {"exclude": ["nobody"]}], "val_fraction": 0.9}
    table = an_index(
        3, dataset="d", file="f", checksum=list("abc"), shape="1 1 1", bytes="1", mean=list("123"), std="1", patient=""
    )
    corpus = lambda: make_corpus({"d": table}, spec, {}, 0)  # noqa: E731
    yield "exclude", corpus, "correct the names", lambda m: (spec["sources"][0].update(exclude=[]), spec.update(val_fraction=0.1))
    empty = spec | {"sources": [source | {"subsets": ["no"], "exclude": []}], "val_fraction": 0.1}
    yield (
        "empty",
        lambda: make_corpus({"d": table}, empty, {}, 0),
        r"subsets (\w+)",
        lambda m: empty["sources"][0].update(subsets=[m[1]]),
    )
    shares = spec | {"sources": [source | {"exclude": []}], "val_fraction": 0.9}
    yield (
        "val_fraction",
        lambda: make_corpus({"d": table}, shares, {}, 0),
        r"lower (val_fraction) to ([\d.]+)",
        lambda m: shares.update({m[1]: float(m[2])}),
    )
    number = spec | {"sources": [source | {"exclude": []}], "val_fraction": 0.1, "subjects": 9}
    yield (
        "subjects",
        lambda: make_corpus({"d": table}, number, {}, 0),
        r"lower it to (\d+)",
        lambda m: number.update(subjects=int(m[1])),
    )


COHORTS = list(cohort_cases())


@pytest.mark.parametrize(("attempt", "advice", "action"), [case[1:] for case in COHORTS], ids=[case[0] for case in COHORTS])
def test_71_what_is_said_about_subjects_gives_a_cohort(attempt: Callable, advice: str, action: Callable) -> None:
    follow(attempt, advice, action)


# ------------------------------------------------------------------------------------------------ configs and plans


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A config folder with the study `tiny`, and the study as plain data."""
    workflow = workflow_fixture.copy(tmp_path_factory.mktemp("advice"))
    return workflow.root / "config", yaml.safe_load(workflow.study.read_text())


def at(content: dict[str, Any], path: str) -> Any:
    for key in path.split("."):
        content = content[int(key)] if key.isdigit() else content[key]
    return content


def put(path: str, value: Any) -> Callable[[dict[str, Any], Found | None], None]:
    """Puts a value, which may be a function of what the advice says; a value of None removes the key."""

    def change(content: dict[str, Any], found: Found | None = None) -> None:
        place, _, key = path.rpartition(".")
        target = at(content, place) if place else content
        new = value(found) if callable(value) else value
        if new is None:
            del target[key]
        else:
            target[key] = new

    return change


def renamed_to_nearest(path: str) -> Callable[[dict[str, Any], Found], None]:
    def change(content: dict[str, Any], found: Found) -> None:
        place, _, key = path.rpartition(".")
        target = at(content, place) if place else content
        target[found[1]] = target.pop(key)

    return change


COLUMN, TASK = "tables.tiny.columns.0", "tasks.tissue"
NEAREST = r"did you mean '(.+?)'"
PLANS = [
    ("key", put("pretexts.amaes_tiny.globl_batch", 2), NEAREST, renamed_to_nearest("pretexts.amaes_tiny.globl_batch")),
    ("section", put("tabels", {}), NEAREST, put("tabels", None)),
    ("entry", put("tables.tiny.recipe", "tyni"), NEAREST, put("tables.tiny.recipe", lambda m: m[1])),
    ("like", put("backbones.unet_micro.like", "unet_tinny"), NEAREST, put("backbones.unet_micro.like", lambda m: m[1])),
    ("circle", put("backbones.a", {"like": "b"}), "did you mean|known|remove one 'like'", put("backbones.a", None)),
    ("name", put("backbones.2", {"like": "unet_tiny"}), "names are text; put it in quotes", None),
    ("twice", put("backbones.unet_b", {"decoder": "unet"}), r"add the key '(like): (\w+)'", lambda content, m: at(content, "backbones.unet_b").update({m[1]: m[2]})),
    ("option", put("backbones.unet_micro.options.widht", 4), NEAREST, put("backbones.unet_micro.options.widht", None)),
    ("number", put("pretexts.amaes_tiny.options", {"mask_ratio": "0,6"}), r"as in ([\d.]+)", put("pretexts.amaes_tiny.options.mask_ratio", lambda m: float(m[1]))),
    ("sequence", put(f"{TASK}.sequences", ["T1ww"]), NEAREST, put(f"{TASK}.sequences", lambda m: [m[1]])),
    ("subset", put(f"{TASK}.subsets", ["trian"]), NEAREST, put(f"{TASK}.subsets", lambda m: [m[1]])),
    ("values", put(f"{TASK}.labels.lesion", [7]), r"use values of the data set: .*?(\d) lesion|use values of the data set:[^\d]*(?:\d \w+, )*?(3)", put(f"{TASK}.labels.lesion", [3])),
    ("recipe", put(f"{TASK}.preprocess", "amaes"), r"such as 'preprocess: (\w+)' in the task", put(f"{TASK}.preprocess", lambda m: m[1])),
    ("ood", put(f"{COLUMN}.cohort", "ood"), "[Aa]dd 'ood: ", put(f"{TASK}.ood", {"dataset": "phantom_tiny", "subsets": ["train"]})),
    ("no test set", put(f"{TASK}.split.test_fraction", 0), r"use 'cohort: (val)'", put(f"{COLUMN}.cohort", lambda m: m[1])),
    ("lesions", lambda content, m=None: (content["tables"]["tiny"].update(metric="lesion_f1"), content["tasks"]["tissue"].pop("lesions")), "name its 'lesions'", put(f"{TASK}.lesions", ["lesion"])),
    ("all", lambda content, m=None: (content["tables"]["tiny"].update(n_train="all"), at(content, COLUMN).update(cohort="val")), r"use 'cohort: (test)' and a test_fraction", put(f"{COLUMN}.cohort", lambda m: m[1])),
    ("no labels", put(f"{TASK}.dataset", "adni_"), NEAREST, put(f"{TASK}.dataset", "phantom_tiny")),
    ("patch", put("finetune.tiny.patch_size", [18, 16, 16]), r"18: (\d+) or (\d+)", put("finetune.tiny.patch_size", lambda m: [int(m[2]), 16, 16])),
]  # fmt: skip


@pytest.mark.parametrize(("cause", "advice", "action"), [case[1:] for case in PLANS], ids=[case[0] for case in PLANS])
def test_71_what_is_said_about_a_config_makes_a_plan(
    cause: Callable, advice: str, action: Callable | None, study: tuple[Path, dict[str, Any]]
) -> None:
    folder, content = study[0], json.loads(json.dumps(study[1]))
    cause(content, None)
    if action is None:  # the key without its quotes
        content["backbones"] = {int(key) if key.isdigit() else key: entry for key, entry in content["backbones"].items()}

    def attempt() -> None:
        (folder / "studies" / "tiny.yaml").write_text(yaml.safe_dump(content))
        tables.make(config.load(folder, {"study": "tiny"}))

    def act(found: Found) -> None:
        if action is None:
            content["backbones"] = {str(key): entry for key, entry in content["backbones"].items()}
        else:
            action(content, found)

    follow(attempt, advice, act)


MACHINES = [
    ("16-mixed", [16, 16, 16], r"use (\S+) or 32-true"),
    ("16-mixed", [8, 16, 16], r"use (32-true)$"),  # bf16-mixed would be refused next
    ("bf16-mixed", [8, 16, 16], r"use precision (32-true)"),
]


@pytest.mark.parametrize(("precision", "patch", "advice"), MACHINES)
def test_71_a_precision_that_is_advised_runs_on_this_machine(
    precision: str, patch: list[int], advice: str, study: tuple[Path, dict[str, Any]]
) -> None:
    folder, content = study[0], json.loads(json.dumps(study[1]))
    content["finetune"]["tiny"] |= {"precision": precision, "patch_size": patch}

    def attempt() -> None:
        (folder / "studies" / "tiny.yaml").write_text(yaml.safe_dump(content))
        checks.check_machine(tables.make(config.load(folder, {"study": "tiny"})), "finetune", 1, 1, has_gpu=False)

    follow(attempt, advice, lambda found: content["finetune"]["tiny"].update(precision=found[1]))


# ------------------------------------------------------------------------------------------------ folders that `check` cannot read


@pytest.mark.parametrize("kind", ["nested", "no dataset.json", "nrrd"])
def test_71_what_check_says_about_a_folder_makes_it_readable(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    state = State(folder=tmp_path / "data")
    about = json.dumps(
        {"channel_names": {"0": "T1w"}, "labels": {"background": 0, "a": 1}, "numTraining": 1, "file_ending": ".nii.gz"}
    )
    top = state.folder / "Dataset001_X" if kind == "nested" else state.folder
    if kind == "nrrd":
        miniatures.write_nrrd(state.folder / "sub-01/anat/sub-01_T1w.nrrd", miniatures.head())
        advice = r"brainpretrain (convert .+)"
    else:
        save(top / "imagesTr/a_0000.nii.gz", miniatures.head())
        save(top / "labelsTr/a.nii.gz", miniatures.structures([1]).astype(np.uint8))
        advice = "with channel_names and labels: add it"
    if kind == "nested":
        (top / "dataset.json").write_text(about)
        advice = r"one level down: check (\S+)"

    def attempt() -> None:
        if cli.main(["check", str(state.folder)]):
            raise UserError("refused", fix=capsys.readouterr().err.rpartition("fix:   ")[2].strip())

    def act(found: Found) -> None:
        if kind == "nested":
            state.folder = Path(found[1])
        elif kind == "nrrd":
            assert cli.main(shlex.split(found[1])) == 0
        else:
            (top / "dataset.json").write_text(about)

    follow(attempt, advice, act)


# ------------------------------------------------------------------------------------------------ words of all advice

# Snake-case words in advice that are no keys of the config: each with the place where a user finds it.
ELSEWHERE = {
    "xyzt_units": "NIfTI header",
    "sform_code": "NIfTI header",
    "channel_names": "dataset.json of nnU-Net",
    "mem_mb": "resource of a profile",
    "tasks_per_node": "resource of a profile",
    "state_dict": "key of a file of torch.save",
    "network_weights": "key of a file of torch.save",
    "model_state_dict": "key of a file of torch.save",
    "nnssl_adaptation_plan": "key of a file of nnssl",
    "model_state": "key of a file of torch.save",
    "position_axis": "tensor of a network",
    "position_plane": "tensor of a network",
    "ct_window": "entry of config/preprocess.yaml",
    "val_dice": "column of log.csv",
    "key": "any key",
}
# Options of other programs.
PROGRAMS = {"--notest": "convmv", "--forcerun": "snakemake"}


def advice_texts() -> list[tuple[str, str]]:
    """Every text of the library that can be part of a fix, with its place: literals in `fix=`, and what the names in it stand for."""
    texts = []
    for path in sorted((ROOT / "src" / "brainpretrain").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        values: dict[str, list[ast.AST]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign):
                for name in (name for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)):
                    values.setdefault(name.id, []).append(node.value)
        fixes = [
            word.value for node in ast.walk(tree) if isinstance(node, ast.Call) for word in node.keywords if word.arg == "fix"
        ]
        fixes += values.get("fix", []) + values.get("FIXES", [])
        for fix in fixes:
            names = {node.id for node in ast.walk(fix) if isinstance(node, ast.Name)}
            constants = [value for name in names if name.isupper() or name.startswith("_") for value in values.get(name, [])]
            for part in (fix, *constants):
                texts += [(path.name, node.value) for node in ast.walk(part) if _is_text(node)]
    return sorted({text for text in texts if len(text[1]) > 3})


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def keys_of(node: Any) -> set[str]:
    """The names of all keys in a JSON schema."""
    if isinstance(node, list):
        return set().union(*map(keys_of, node), set())
    if not isinstance(node, dict):
        return set()
    return set(node.get("properties", {})).union(*map(keys_of, node.values()), set())


def test_71_every_key_that_an_advice_names_exists() -> None:
    texts = advice_texts()
    assert len(texts) > 200 and any("allow_negative" in text for _, text in texts)
    schema = json.loads((ROOT / "config/schema.json").read_text())
    known = keys_of(schema) | {"like", "module"} | set(ELSEWHERE) | set(rejections.FIXES)
    known |= {name for path in (ROOT / "src/brainpretrain").glob("*/*.py") for name in _parameters(path)}
    wrong = []
    for place, text in texts:
        text = re.sub(
            r"[\w<>./-]+\.(?:tsv|csv|json|md|yaml|txt|py|npz|nii|gz|com)\b|<[^>]*>|https?:\S*|[\w.-]*/[\w./<>-]*", "", text
        )
        named = set(re.findall(r"\b[a-z]+(?:_[a-z0-9]+)+\b(?!\()", text)) | set(re.findall(r"['`(]([a-z_]+): ?[\[\w']", text))
        wrong += [(place, name, text) for name in named if name not in known]
    assert wrong == []


def _parameters(path: Path) -> set[str]:
    """The options of modules that configs name: parameters of `build`, and fields of the options of own data."""
    if path.parent.name not in ("backbones", "decoders", "pretext", "datasets"):
        return set()
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name == "build":
            names |= {argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)}
    return names


def test_71_every_command_and_option_that_an_advice_names_exists() -> None:
    known = {name: file for commands in cli.COMMANDS.values() for name, (file, _) in commands.items()}
    options: dict[str, set[str]] = {}
    for name, file in known.items():
        importlib.import_module(f"brainpretrain.cli.{file}")
        options[name] = {flag for flags, _ in arguments.REGISTERED[name][1] for flag in flags if flag.startswith("-")}
    every = set().union(*options.values())
    rules = {
        name for path in (ROOT / "rules").glob("*.smk") for name in re.findall(r"^rule (\w+):", path.read_text(), re.MULTILINE)
    }
    commands = 0
    for place, text in advice_texts():
        for command, rest in re.findall(r"brainpretrain ([a-z][a-z-]*)([^;`\n]*)", text):
            assert command in known, (place, text)
            assert set(re.findall(r"--[a-z][a-z-]*", rest)) <= options[command], (place, text)
            commands += 1
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text):
            assert option in every or option in PROGRAMS, (place, option, text)
        for rule in re.findall(r"--forcerun (\w+)|the step '(\w+)'", text):
            assert set(rule) - {""} <= rules, (place, text)
    assert commands > 5
