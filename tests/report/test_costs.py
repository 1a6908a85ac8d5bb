from __future__ import annotations

import pandas as pd
import pytest

from brainpretrain.errors import UserError
from brainpretrain.report import budgets, costs, results
from brainpretrain.report.metrics import METRICS
from report_fixtures import PRETRAINED, row, runs, spec, two_arms


def test_hours_memory_and_score_by_hand() -> None:
    """Scratch: 1 h and 3 h of fine-tuning. Pretrained: the same after 30 h. Scores as in `two_arms`."""
    scratch, pretrained = costs.arms(two_arms(), spec(), runs()).to_dict("records")
    assert (scratch["hours"], scratch["pretrain_hours"], scratch["finetune_hours"]) == (2, 0, 2)
    assert (pretrained["hours"], pretrained["pretrain_hours"], pretrained["finetune_hours"]) == (32, 30, 2)
    assert (scratch["memory_gb"], pretrained["memory_gb"], pretrained["devices"]) == (8, 40, 2)
    assert scratch["score"] == 0.675 and pretrained["score"] == pytest.approx(0.775)
    assert scratch["score_sd"] == pytest.approx(0.035355, abs=1e-6)
    assert pretrained["hardware"] == "H100; RTX"


def test_a_cost_is_whole_or_missing() -> None:
    for gone in ("pretrain/ixi/amaes/unet_b", f"finetune/hippocampus/unet_b/{PRETRAINED}/amaes/n20/fold1"):
        known = {place: run for place, run in runs().items() if place != gone}
        cell = costs.arms(two_arms(), spec(), known).iloc[1]
        assert cell[["hours", "memory_gb"]].isna().all() and cell["score"] > 0
    scores = two_arms()
    cells = costs.arms(scores[scores["fold"] == "0"], spec(), runs())
    assert cells["score"].isna().all() and set(cells["folds"]) == {1} and cells["hours"].notna().all()


def test_hours_of_a_released_encoder_are_not_known_and_not_counted() -> None:
    released = two_arms().replace({"init": {PRETRAINED: "published"}})
    places = {place.replace(PRETRAINED, "published"): run for place, run in runs().items()}
    cell = costs.arms(released, spec(rows=[row("published", "published")]), places).iloc[0]
    assert cell["pretrained_elsewhere"] and cell["hours"] == 2
    assert str(cell["pretrain_hours"]) == "nan"


def test_an_arm_costs_what_the_arms_before_it_cost_and_a_column_shows_what_it_adds() -> None:
    after = row("after", f"{PRETRAINED}--amaes--n20", recipe="next")
    path = f"finetune/hippocampus/unet_b/{after['init']}/next/n20/fold"
    known = runs() | {f"{path}{fold}": {"seconds": 1800.0 * (1 + fold), "peak_memory_gb": 5, "devices": 2} for fold in (0, 1)}
    table = spec(rows=[row("first", PRETRAINED), after])
    first, second = costs.arms(two_arms(), table, known).to_dict("records")
    assert (first["hours"], second["hours"], second["finetune_hours"], second["pretrain_hours"]) == (32, 32.75, 2.75, 30)
    assert costs.training_hours(table, known)[1] == [2 * 0.75]
    del known[f"{path}1"]
    assert str(costs.training_hours(table, known)[1]) == "[nan]"


def test_places_are_read_from_paths() -> None:
    run = {"seconds": 1.0}
    places = costs.by_place({"results/demo/pretrain/c/p/b/run.json": run, "finetune/t/b/scratch/r/nall/fold10/run.json": run})
    assert set(places) == {"pretrain/c/p/b", "finetune/t/b/scratch/r/nall/fold10"}
    assert places["finetune/t/b/scratch/r/nall/fold10"] == {"seconds": 1.0, "task": "t", "n_train": "all"}
    with pytest.raises(UserError, match=r"not the run\.json of a training"):
        costs.by_place({"elsewhere/run.json": run})


def test_another_metric() -> None:
    scores = two_arms().assign(nsd="0.9")
    assert set(costs.arms(scores, spec(metric="nsd"), runs())["score"]) == {0.9}
    with pytest.raises(UserError, match="lack the columns hd95_mm"):
        costs.arms(scores, spec(metric="hd95_mm"), runs())


@pytest.mark.parametrize("metric", METRICS)
def test_table_curve_and_cost_show_the_same_score(metric: str) -> None:
    """Signed volume errors cancel in no figure either."""
    scores = two_arms()
    signs = [1 if i % 2 else -1 for i in range(len(scores))] if metric == "volume_error" else [1] * len(scores)
    scores[metric] = [sign * float(dice) for sign, dice in zip(signs, scores["dice"], strict=True)]
    table = spec(metric=metric)
    cells = results.build(scores, table)["value"].tolist()
    assert cells == budgets.curves(scores, table, {})["mean"].tolist() == costs.arms(scores, table, runs())["score"].tolist()
    assert len(budgets.matched(scores, table, budgets.curves(scores, table, {}), table.bootstrap)) == 2


def test_the_hours_of_all_seeds_count() -> None:
    scores = pd.concat([two_arms().assign(fold=lambda s, k=k: s["fold"] + f"-seed{k}") for k in (0, 1)])
    cost = {"seconds": 3600.0, "peak_memory_gb": 7.0, "devices": 1, "hardware": "RTX"}
    places = [f"finetune/hippocampus/unet_b/scratch/amaes/n20/fold{f}-seed{k}/run.json" for f in (0, 1) for k in (0, 1)]
    seeded = spec(seeds=[0, 1])
    runs = costs.by_place({place: cost | {"seconds": 3600.0 * (1 + i)} for i, place in enumerate(places)})
    (line, _) = costs.arms(scores, seeded, runs).to_dict("records")
    assert (line["folds"], line["finetune_hours"]) == (4, 2.5)
    assert line["score_sd"] == pytest.approx(0.05 / 2**0.5, abs=1e-6)


def test_the_hours_of_the_candidates_of_a_learning_rate_count() -> None:
    """Three rates of half an hour each in both folds; 'all' has those of the largest number; a row of that name is no candidate."""
    cost = {"seconds": 1800.0, "peak_memory_gb": 7.0}
    of_scratch = "finetune/hippocampus/unet_b/scratch/amaes"
    more = {f"{of_scratch}_lr{k}/n20/fold{fold}-seed3": cost for k in range(3) for fold in (0, 1)}
    scratch, pretrained = costs.arms(two_arms(), spec(), runs() | more).to_dict("records")
    assert (scratch["hours"], scratch["tuning_hours"], pretrained["tuning_hours"]) == (3.5, 1.5, 0)
    everything = spec(rows=[row("all", "scratch", n_train="all"), row("named", "scratch", recipe="amaes_lr1")])
    lines = costs.arms(two_arms(), everything, runs() | more).to_dict("records")
    assert [line["tuning_hours"] for line in lines] == [1.0, 0]
