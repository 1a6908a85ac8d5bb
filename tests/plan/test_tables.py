import json

import pytest

from brainpretrain import config
from brainpretrain.cohorts import DISJOINT, splits
from brainpretrain.errors import UserError
from brainpretrain.plan import specs, tables
from brainpretrain.plan.table_spec import TableSpec
from helpers import ROOT, edit


@pytest.fixture(scope="module")
def paper():
    return tables.make(config.load(ROOT / "config", {"study": "amaes"}))


def test_the_papers_tables(paper):
    assert set(paper.tables) == {"table2", "table3", "table4"}
    assert len(paper.tables["table4"].rows) == 11
    assert paper.corpora == ["brains45k"] and paper.tasks == ["brats21_flair", "isles22_dwi", "wmh_flair"]
    assert len(paper.datasets) == 9


def test_a_row_is_one_line_and_a_list_multiplies(config_dir, paper):
    edit(
        config_dir / "tables.yaml",
        "init: swinunetr}",
        "init: swinunetr}\n      - {backbone: unet_b, init: amaes, n_train: [10, 40]}",
    )
    more = tables.make(config.load(config_dir))
    new = set(more.evaluations) - set(paper.evaluations)
    assert set(paper.evaluations) < set(more.evaluations)
    assert {e.arm.n_train for e in new} == {"10", "40"} and len(new) == 2 * 4 * 6
    titles = [row.title for row in more.tables["table4"].rows[-2:]]
    assert titles == ["unet_b, amaes, n=10", "unet_b, amaes, n=40"]


def test_a_row_that_departs_from_the_tables_default_says_so_in_its_title(config_dir):
    edit(config_dir / "tables.yaml", "init: swinunetr}", "init: swinunetr}\n      - {backbone: unet_b, n_train: 5}")
    rows = tables.make(config.load(config_dir)).tables["table4"].rows
    assert rows[-1].title == "unet_b, scratch, n=5"
    assert len({row.title for row in rows}) == len(rows)


def test_one_more_fold_adds_only_that_fold(config_dir, paper):
    edit(config_dir / "studies" / "amaes.yaml", "folds: 6", "folds: 7")
    new = set(tables.make(config.load(config_dir)).evaluations) - set(paper.evaluations)
    assert {e.fold for e in new} == {6}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("backbone: swinunetr, init: swinunetr", "backbone: swinunet, init: swinunetr", "no entry 'swinunet' in 'backbones'"),
        ("cohort: ood", "cohort: test", "'wmh_flair' has no fixed test set"),
        ("init: amaes_noaug}", "init: amaes_noaug, n_train: [20, 20]}", "occurs twice"),
        ("    corpus: brains45k", "    metric: lesion_f1\n    corpus: brains45k", "'brats21_flair' names no lesions"),
        ("task: isles22_dwi, cohort: val", "task: isles22_dwi, cohort: ood", "'isles22_dwi' has no cohort 'ood'"),
        ("task: isles22_dwi, cohort: val", "task: isles22_dwi, cohort: vla",
         r"no cohort 'vla'\n *where: .*tables.yaml: tables.table4.columns\.\d+(, line \d+)?\n.*did you mean 'val'\?.*'cohorts: \{vla: \{dataset: "),
        ("task: isles22_dwi, cohort: val", "task: isles22_dwi, cohort: Site B", "cohort: 'Site B' becomes a part of paths"),
        ("init: swinunetr}", "init: swinunetr, n_train: all}", "n_train 'all' leaves no case"),
        ("init: swinunetr}", "init: swinunet}", r"no entry 'swinunet' in 'pretexts' or 'weights'[\s\S]*did you mean 'swinunetr'"),
        ("init: swinunetr}", "init: amaes_release}", r"did you mean 'amaes_released'"),
        ("init: swinunetr}", "init: amaes_released}", "'amaes_released' has no file for the backbone 'swinunetr'"),
    ],
)  # fmt: skip
def test_a_table_names_what_does_not_exist(config_dir, old, new, message):
    edit(config_dir / "tables.yaml", old, new)
    with pytest.raises(UserError, match=message):
        tables.make(config.load(config_dir))


COLUMN = "{title: BraTS21, task: brats21_flair, cohort: test}"


def with_degraded(config_dir, how):
    """The config of the paper with a degraded cohort of BraTS21 and a column of it."""
    split = "    split: {seed: 4215532,"
    edit(config_dir / "tasks.yaml", split, f"    cohorts: {{worse: {how}}}\n{split}")
    edit(
        config_dir / "tables.yaml", COLUMN, f"{COLUMN}\n      - {COLUMN.replace('test', 'worse').replace('BraTS21', 'worse', 1)}"
    )


def test_a_degraded_cohort_is_scored_by_the_same_models(config_dir, paper):
    with_degraded(config_dir, "{of: test, degrade: {kind: thick_slices, strength: 4}}")
    made = tables.make(config.load(config_dir))
    new = set(made.evaluations) - set(paper.evaluations)
    assert {e.cohort for e in new} == {"worse"} and made.trainings == paper.trainings
    (column,) = [column for column in made.tables["table4"].columns if column.degraded]
    assert column.degraded.model_dump() == {"of": "test", "kind": "thick_slices", "strength": 4, "sequence": None}
    assert made.tables["table4"].has_degraded() and not paper.tables["table4"].has_degraded()
    assert specs.task_ood(made.config, "brats21_flair", "worse")["ood"] == {"of": "test"}
    worse, test = (specs.task_prediction(made.config, "brats21_flair", cohort) for cohort in ("worse", "test"))
    assert worse == test | {"degrade": {"kind": "thick_slices", "strength": 4}}
    assert test == specs.task_prediction(paper.config, "brats21_flair", "test")


def test_another_program_cannot_predict_images_that_no_file_holds(config_dir):
    with_degraded(config_dir, "{of: test, degrade: {kind: noise, strength: 0.1}}")
    row = "init: swinunetr}"
    edit(config_dir / "tables.yaml", row, f"{row}\n      - {{title: Theirs, init: {{external: there}}}}")
    with pytest.raises(UserError, match="another program cannot predict the cohort 'worse'"):
        tables.make(config.load(config_dir))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("{of: test}", "'of' and 'degrade' go together"),
        ("{dataset: wmh, degrade: {kind: noise, strength: 1}}", "'of' and 'degrade' go together"),
        ("{degrade: {kind: noise, strength: 1}}", "either 'dataset', or 'of'"),
        ("{of: val, degrade: {kind: noise, strength: 1}}", "'of' names one of test, not 'val'"),
        ("{of: worse, degrade: {kind: noise, strength: 1}}", "'of' names one of test, not 'worse'"),
        ("{of: test, by_site: true, degrade: {kind: noise, strength: 1}}", "takes no 'by_site'"),
        ("{of: test, degrade: {kind: noise}}", "'noise' takes 'strength'"),
        ("{of: test, degrade: {kind: noise, strength: 1, sequence: T1w}}", "no 'sequence'"),
        ("{of: test, degrade: {kind: noise, strength: 1, axis: x}}", "'axis' goes with 'thick_slices'"),
        ("{of: test, degrade: {kind: missing_sequence, sequence: FLAIR}}", "no sequence of the task that could be missing"),
        ("{of: test, degrade: {kind: thick_slices, strength: 1}}", "no thicker than the stored voxels of 1 mm"),
        ("{of: test, degrade: {kind: blur, strength: 1}}", "thick_slices"),
    ],
)
def test_what_no_degraded_cohort_can_be_is_refused(config_dir, how, message):
    with_degraded(config_dir, how)
    with pytest.raises(UserError, match=message):
        tables.make(config.load(config_dir))


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("pretext.yaml", "patch_size: [128, 128, 128]", "patch_size: [128, 128, 72]",
         r"multiple of 16[\s\S]*where: pretexts.amaes.*: patch_size, for backbone '\w+'[\s\S]*72: 64 or 80"),
        ("finetune.yaml", "patch_size: [128, 128, 128]", "patch_size: [112, 112, 112]",
         r"multiple of 32[\s\S]*where: finetune.amaes: patch_size, for backbone 'swinunetr'[\s\S]*112: 96 or 128"),
        ("finetune.yaml", "patch_size: [128, 128, 128]", "patch_size: [16, 16, 16]", r"single voxel[\s\S]*nearest valid size: 32"),
        ("pretext.yaml", "mask_size: 4", "mask_size: 5", r"blocks of 5 do not fit[\s\S]*where: pretexts.amaes.*: mask_size[\s\S]*valid sizes: \[1, 2, 4, 8"),
        ("pretext.yaml", "mask_ratio: 0.6", "mask_ratio: 60", r"no share and no range[\s\S]*where: pretexts.amaes.*: mask_ratio"),
        ("pretext.yaml", "mask_ratio: 0.6", "mask_ratio: [0.9, 0.6]", r"no share and no range"),
        ("finetune.yaml", "foreground_fraction:", "transfer: encoder_decoder\n    foreground_fraction:",
         r"'amaes' transfers the decoder 'unet' \{'convs_per_stage': 2[\s\S]* trains 'unet' \{'convs_per_stage': 1"),
    ],
)  # fmt: skip
def test_sizes_that_do_not_fit_are_refused_before_any_job(config_dir, file, old, new, message):
    edit(config_dir / file, old, new)
    with pytest.raises(UserError, match=message):
        tables.make(config.load(config_dir))


def test_the_ablations_of_the_paper_are_planned():
    made = tables.make(config.load(ROOT / "config", {"study": "ablations"}))
    recipes = {name: [made.config.pretexts[row.init.split("-on-")[0]] for row in spec.rows if row.init != "scratch"]
               for name, spec in made.tables.items()}  # fmt: skip
    decoders = [tuple(r.options["decoder_options"].values()) for r in recipes["decoder"]]
    assert decoders == [(1, False), (1, True), (2, False), (2, True)]
    assert {r.augmentation for r in recipes["decoder"]} == {"none"}
    assert [r.augmentation for r in recipes["table3"]] == ["none", "amaes_spatial", "amaes"]
    masks = [(r.options["mask_size"], r.options["mask_ratio"]) for r in recipes["mask"]]
    assert masks == [(4, 0.6), (4, 0.3), (4, 0.75), (4, 0.9), (4, [0.3, 0.9]), (8, 0.6), (16, 0.6)]
    assert [(r.options["loss_on"], r.options["normalize_target"]) for r in recipes["loss"]] == [
        ("all", False), ("hidden", False), ("hidden", True), ("all", False)]  # fmt: skip
    # each is pretrained and fine-tuned once, in whatever tables it stands
    assert len({r.model_dump_json() for found in recipes.values() for r in found}) == 16
    assert [made.config.corpora[corpus].subjects for corpus in made.corpora] == [None, 0.01, 0.1]
    assert len(made.pretrainings) == 16 + 2 and len({e.arm for e in made.evaluations}) == 17 + 2


def test_an_ablation_differs_from_the_papers_recipe_in_one_thing():
    pretexts = config.load(ROOT / "config", {"study": "amaes"}).pretexts
    paper = pretexts["amaes"].model_dump()
    for name, entry in pretexts.items():
        if not name.startswith("amaes_") or "noaug" in name:
            continue
        changed = {key for key, value in entry.model_dump().items() if value != paper[key]}
        assert len(changed) == 1, name
        (key,) = changed
        if key == "options":
            parts = {option for option, value in entry.options.items() if value != paper["options"].get(option)}
            assert parts in ({"reversal"}, {"mask_ratio"}, {"mask_size"}, {"loss_on"}, {"loss_on", "normalize_target"}), name


def test_the_two_optimisers():
    pretexts = config.load(ROOT / "config").pretexts
    paper, code = pretexts["amaes"].optimizer, pretexts["amaes_code"].optimizer
    assert (paper.weight_decay, paper.amsgrad) == (3e-5, True)
    assert (code.weight_decay, code.amsgrad) == (1e-2, False)
    assert paper.model_dump(exclude={"weight_decay", "amsgrad"}) == code.model_dump(exclude={"weight_decay", "amsgrad"})


@pytest.mark.parametrize(
    ("backbone", "lr", "batch"), [("unet_xl", 1e-4, 16), ("unet_b", 1e-4, 16), ("mednext_l", 1e-4, 8), ("mednext_m", 5e-4, 8)]
)
def test_the_paper_pretrains_by_network(backbone, lr, batch):
    """Appendix A of AMAES."""
    recipe = config.load(ROOT / "config").pretext("amaes", backbone)
    (phase,) = recipe.phases
    assert (phase.lr, recipe.global_batch) == (lr, batch)
    assert (phase.epochs, phase.warmup_epochs, phase.decay, recipe.precision) == (100, 5, "cosine", "bf16-mixed")


def test_a_study_cannot_take_the_folder_of_the_data(config_dir):
    (config_dir / "studies" / "data.yaml").write_text((config_dir / "studies" / "amaes.yaml").read_text())
    with pytest.raises(UserError, match="a study cannot be called 'data'"):
        tables.make(config.load(config_dir, {"study": "data"}))


def test_a_release_is_an_init_that_needs_no_pretraining(paper):
    released = tables.make(config.load(ROOT / "config", {"study": "released"}))
    assert released.pretrainings == [] and released.corpora == [] and released.datasets == ["brats21", "isles22", "wmh"]
    arms = {evaluation.arm for evaluation in released.evaluations}
    assert {arm.init for arm in arms} == {"scratch", "amaes_released"} and len(arms) == 4 * 2 * 3
    assert {arm for arm in arms if arm.init == "scratch"} < {evaluation.arm for evaluation in paper.evaluations}


def test_a_row_of_releases_and_pretexts_says_which_is_which(config_dir):
    row = "init: swinunetr}\n      - {backbone: unet_b, init: [amaes, amaes_released], corpus: brains45k_too}"
    edit(config_dir / "tables.yaml", "init: swinunetr}", row)
    edit(config_dir / "corpora.yaml", "corpora:", "corpora:\n  brains45k_too: {like: brains45k}")
    rows = tables.make(config.load(config_dir)).tables["table4"].rows
    assert [row.title for row in rows[-2:]] == ["unet_b, amaes, on brains45k_too", "unet_b, amaes_released"]
    assert [row.init for row in rows[-2:]] == ["amaes-on-brains45k_too", "amaes_released"]


def test_a_release_cannot_be_called_like_a_pretext(config_dir):
    edit(config_dir / "weights.yaml", "amaes_released:", "amaes:")
    with pytest.raises(UserError, match="amaes: both a release and another init"):
        tables.make(config.load(config_dir))


# --- published values


def published(made, table):
    return {(c.backbone, c.init, c.column): (c.value, c.sd) for c in made.tables[table].published.cells}


def test_the_papers_values_stand_in_its_tables(paper):
    assert {name: len(published(paper, name)) for name in paper.tables} == {"table2": 3, "table3": 2, "table4": 44}
    table4 = published(paper, "table4")
    assert table4["unet_xl", "amaes-on-brains45k", "WMH"] == (70.40, 1.46)
    assert table4["unet_xl", "amaes-on-brains45k", "WMH OOD"] == (68.22, 1.16)
    assert published(paper, "table2")["unet_xl", "amaes_skips_noaug-on-brains45k", "BraTS21"] == (56.22, None)
    assert not any(cell.differs for spec in paper.tables.values() for cell in spec.published.cells)


def test_one_published_delta_is_a_misprint_and_a_note_says_so(paper):
    """AMAES Table 4 prints +1.75 for SwinUNETR on ISLES22. All other deltas agree with the means."""
    table4 = published(paper, "table4")
    deltas = {
        (backbone, column): round(value - table4[backbone, "scratch", column][0], 2)
        for (backbone, init, column), (value, _) in table4.items()
        if init != "scratch"
    }
    assert deltas["swinunetr", "ISLES22"] == 5.87 != 1.75
    assert deltas["unet_xl", "BraTS21"] == 2.98 and deltas["mednext_m", "BraTS21"] == -1.57
    assert any("+1.75" in note and "+5.87" in note for note in paper.tables["table4"].published.notes)


def test_a_released_encoder_is_shown_the_values_of_its_pretraining():
    made = tables.make(config.load(ROOT / "config", {"study": "released"}))
    assert published(made, "released4")["unet_b", "amaes_released", "ISLES22"] == (48.42, 1.32)
    assert len(published(made, "released4")) == 32


def test_what_runs_otherwise_than_published_says_so(config_dir):
    edit(config_dir / "studies" / "amaes.yaml", "folds: 6", "folds: 2")
    edit(config_dir / "tables.yaml", "    n_train: 20\n", "    n_train: 10\n")  # table2
    edit(config_dir / "tables.yaml", "{title: spatial and intensity, backbone: unet_xl, init: amaes}",
         "{title: spatial and intensity, backbone: unet_xl, init: amaes, recipe: other}")  # fmt: skip
    edit(config_dir / "finetune.yaml", "finetune:\n", "finetune:\n  other:\n    like: amaes\n")
    made = tables.make(config.load(config_dir))
    assert published(made, "table2") == {}  # published for 20 training cases
    assert [c.differs for c in made.tables["table3"].published.cells] == [
        "2 instead of 6 folds",
        "recipe other, 2 instead of 6 folds",
    ]


def test_a_published_dice_never_stands_in_a_table_of_another_metric(config_dir):
    edit(config_dir / "tables.yaml", "    n_train: 20\n", "    n_train: 20\n    metric: nsd\n")  # table2
    made = tables.make(config.load(config_dir))
    assert made.tables["table2"].published is None and made.tables["table3"].published


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cells: {BraTS21: [56.22]}", "cells: {BraTS: [56.22]}", r"no column 'BraTS'[\s\S]*table2.published[\s\S]*BraTS21"),
        ("init: amaes_skips_noaug, cells", "init: amaes_skip_noaug, cells", r"'amaes_skip_noaug'[\s\S]*did you mean 'amaes_skips_noaug'"),
        ("backbone: unet_xl, init: amaes_noaug, cells", "backbone: unet_x, init: amaes_noaug, cells", r"no entry 'unet_x' in 'backbones'"),
        ("      corpus: brains45k", "      corpus: brains", r"no entry 'brains' in 'corpora'"),
        ("cells: {BraTS21: [56.22]}", "cells: {BraTS21: [56.22, 1, 2]}", r"at most 2"),
    ],
)  # fmt: skip
def test_a_mistake_in_published_values_is_refused(config_dir, old, new, message):
    edit(config_dir / "tables.yaml", old, new)
    with pytest.raises(UserError, match=message):
        tables.make(config.load(config_dir))


def test_what_a_table_asks_of_its_statistics(paper):
    assert paper.tables["table4"].bootstrap.model_dump() == {"resamples": 2000, "confidence": 0.95, "seed": 0}
    assert paper.tables["table4"].metric == "dice"


# --- baselines by name, margins


CONTROL = """tables:
  demo:
    title: d
    columns: [{title: WMH, task: wmh_flair, cohort: val}]
    corpus: brains45k
    recipe: amaes
    n_train: 20
    margin: 1.5
    rows:
      - {title: scratch, backbone: [unet_b, unet_xl], n_train: [10, 20]}
      - {title: control, backbone: unet_b, recipe: amaes_fp32, n_train: [10, 20], baseline: scratch}
      - {title: pretrained, backbone: unet_b, init: amaes, n_train: [10, 20], baseline: BASELINE}
"""


def with_control(config_dir, baseline):
    study = (config_dir / "studies" / "amaes.yaml").read_text()
    head = "\n".join(line for line in study.splitlines() if line.startswith(("title:", "seed:", "folds:", "protocol:")))
    (config_dir / "studies" / "control.yaml").write_text(f"{head}\nbuild: [demo]\n{CONTROL.replace('BASELINE', baseline)}")
    return tables.make(config.load(config_dir, {"study": "control"})).tables["demo"]


def test_a_row_is_compared_with_the_row_that_it_names(config_dir):
    spec = with_control(config_dir, "control")
    compared = {row.title: spec.baseline_of(row).title for row in spec.rows if row.against}
    assert compared == {
        "control, n=10, amaes_fp32": "scratch, unet_b, n=10",
        "control, n=20, amaes_fp32": "scratch, unet_b, n=20",
        "pretrained, n=10": "control, n=10, amaes_fp32",
        "pretrained, n=20": "control, n=20, amaes_fp32",
    }
    assert spec.margin == 1.5
    one = with_control(config_dir, "'scratch, unet_xl, n=20'")
    assert {one.baseline_of(row).title for row in one.rows if row.title.startswith("pretrained")} == {"scratch, unet_xl, n=20"}
    assert TableSpec.read(json.loads(specs.as_json(spec))) == spec


@pytest.mark.parametrize(
    ("baseline", "message"),
    [("contrl", r"'contrl' of the row 'pretrained, n=10' is the title of no row[\s\S]*tables.demo.rows[\s\S]*did you mean 'control'"),
     ("pretrained", "is the row itself")],
)  # fmt: skip
def test_a_baseline_that_is_no_other_row_is_refused(config_dir, baseline, message):
    with pytest.raises(UserError, match=message):
        with_control(config_dir, baseline)


def test_a_table_without_margin_and_baseline_is_written_as_before(paper):
    assert "margin" not in specs.as_json(paper.tables["table4"]) and "against" not in specs.as_json(paper.tables["table4"])


# --- seeds and disjoint draws


def test_seeds_are_a_factor_of_every_fold(config_dir):
    edit(config_dir / "studies/demo.yaml", "folds: 2", "folds: 3\nseeds: [0, 5]\ndraws: disjoint")
    made = tables.make(config.load(config_dir, {"study": "demo"}))
    spec = made.tables["demo"]
    assert spec.fold_names == ["0-seed0", "0-seed5", "1-seed0", "1-seed5", "2-seed0", "2-seed5"] and spec.disjoint
    runs = [(e.fold, e.seed) for e in made.table_evaluations(spec)]
    assert runs == 2 * spec.trainings and len(made.evaluations) == 12
    arm = made.evaluations[0].arm
    first, second = (specs.finetune_run(made.config, arm, 1, seed).plain() for seed in (0, 5))
    assert (first.pop("name"), first.pop("seed")) == (f"{arm.path.removeprefix('finetune/')}/fold1-seed0", 0)
    assert (second.pop("name"), second.pop("seed")) == (f"{arm.path.removeprefix('finetune/')}/fold1-seed5", 5)
    assert first == second


def test_disjoint_draws_start_as_many_subjects_apart_as_the_largest_budget(config_dir):
    edit(config_dir / "studies/demo.yaml", "folds: 2", "folds: 3\ndraws: disjoint")
    edit(config_dir / "studies/demo.yaml", "n_train: 3", "n_train: 4")
    made = tables.make(config.load(config_dir, {"study": "demo"}))
    assert made.block("phantom_tissue") == 4 and made.draws("phantom_tissue") == [("12", DISJOINT), ("4", "test")]
    names = [f"s{i:02d}" for i in range(12)]
    drawn = [set(splits.fold_order(names, fold, 4, 0)[:4]) for fold in range(3)]
    assert len(set.union(*drawn)) == 12
    subjects = {"pool": names[:11], "test": ["t"]}
    with pytest.raises(UserError, match="folds without a common training case need 12 subjects, but the pool has 11"):
        splits.check_sizes(subjects, made.draws("phantom_tissue"), "x")
    splits.check_sizes(subjects | {"pool": names}, made.draws("phantom_tissue"), "x")


def test_a_seed_that_occurs_twice_is_refused(config_dir):
    edit(config_dir / "studies/demo.yaml", "folds: 2", "folds: 2\nseeds: [1, 1]")
    with pytest.raises(UserError, match="a seed occurs twice"):
        config.load(config_dir, {"study": "demo"})


def test_a_task_on_a_sequence_without_labels_is_refused(config_dir):
    """The organs of HaN-Seg were drawn on its CT, so that a task on its MR alone has no case."""
    edit(
        config_dir / "tasks.yaml",
        "sequences: [CT]\n    labels:\n      A_Carotid_L",
        "sequences: [T1w]\n    labels:\n      A_Carotid_L",
    )
    problem = r"'han_seg' were drawn on CT, and the task takes none of them\n.*tasks\.han_seg\.sequences(, line \d+)?\n.*sequences: \[CT\]"
    with pytest.raises(UserError, match=problem):
        tables.make(config.load(config_dir, {"study": "s3d"}))
