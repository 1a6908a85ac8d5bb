"""What a plan alone shows to be impossible: refused here, and not by a job after hours in a queue. No torch, no files read."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path

from brainpretrain import backbones
from brainpretrain.datasets.base import Dataset, Pattern
from brainpretrain.errors import UserError, nearest
from brainpretrain.plan import cross_validation, intensities, mirroring, validating
from brainpretrain.plan.runs import SCRATCH, Arm, Plan
from brainpretrain.preprocess.recipes import ICBM152, SAME


def check(plan: Plan) -> None:
    """Compares what tasks, corpora and releases of a plan need with each other and with what their data sets can give.

    Raises:
        UserError: an encoder has another preprocessing than its task; a decoder that is to be transferred is another one than
            that of the fine-tuning, or there is none; predictions are mirrored as no training patch was; a data set has no such
            sequence or subset, or no labels;
            a recipe stores other sequences together than the task reads, or names an atlas that is not there; a stem is
            repeated or random where nothing needs it, or random and never trained; intensities are scaled in two ways; a
            validation leaves nobody to train, or a table scores its subjects.
    """
    _check_data(plan)
    for name in sorted({recipe for _, recipe in plan.preprocessed}):
        _check_atlas(plan, name)
    for name in plan.tasks:
        _check_session(plan, name)
        cross_validation.check(plan, name)
    for pretraining in plan.pretrainings:
        intensities.check_pretraining(plan, pretraining)
    for arm in sorted({arm for evaluation in plan.evaluations for arm in evaluation.arm.chain}):
        _check_preprocessing(plan, arm)
        _check_transfer(plan, arm)
        _check_stem(plan, arm)
        intensities.check(plan, arm)
        mirroring.check(plan, arm)
        validating.check(plan, arm)


def _check_preprocessing(plan: Plan, arm: Arm) -> None:
    """The encoder of an arm saw volumes that were prepared as those of its task."""
    config = plan.config
    if arm.pretraining:
        section, name = "corpora", arm.pretraining.corpus
        recipe = config.corpora[name].preprocess
    elif arm.start in config.weights:
        section, name = "weights", arm.start
        recipe = config.weights[name].preprocess
    else:
        return
    own = config.tasks[arm.task].preprocess
    theirs, ours = config.preprocess[recipe], config.preprocess[own]
    for part in SAME:
        if getattr(theirs, part) != getattr(ours, part):
            raise UserError(
                f"the encoder '{arm.init}' is of volumes with {part} {getattr(theirs, part)} (preprocess: {recipe}), task"
                f" '{arm.task}' has volumes with {part} {getattr(ours, part)} (preprocess: {own})",
                where=f"{config.where('tasks', arm.task)}.preprocess, {config.where(section, name)}.preprocess",
                fix=f"give both the same recipe, such as 'preprocess: {recipe}' in the task, or remove the row",
            )


def _check_atlas(plan: Plan, name: str) -> None:
    """The atlas of a recipe is a file, if it is not the one that comes along."""
    atlas = plan.config.preprocess[name].atlas
    if atlas and atlas != ICBM152 and not Path(atlas).is_file():
        raise UserError(
            "there is no such file",
            where=f"{plan.config.where('preprocess', name)}.atlas: {atlas}",
            fix=f"{ICBM152}, or a NIfTI file",
        )


def _check_session(plan: Plan, name: str) -> None:
    """The sequences that a task's recipe stores together are those that the task reads, since `predict` is given no others."""
    task = plan.config.tasks[name]
    session = plan.config.preprocess[task.preprocess].session
    if session and session != task.sequences:
        raise UserError(
            f"the recipe stores the sequences {', '.join(session)} together, task '{name}' reads {', '.join(task.sequences)}",
            where=f"{plan.config.where('tasks', name)}.preprocess: {task.preprocess}",
            fix=f"give the task a recipe with 'session: [{', '.join(task.sequences)}]', the grid of the first one"
            if len(task.sequences) > 1
            else "give the task a recipe without 'session'",
        )


def _check_stem(plan: Plan, arm: Arm) -> None:
    """What a recipe does with the stem of a pretrained encoder has an effect, and a random one is trained."""
    recipe, sequences = plan.config.finetune[arm.recipe], plan.config.tasks[arm.task].sequences
    if arm.init == SCRATCH or recipe.stem == "divide":
        return
    where = f"{plan.config.where('finetune', arm.recipe)}.stem: {recipe.stem}"
    if arm.before:
        problem = f"an arm of task '{arm.task}' goes on from a fine-tuned network, whose stem is loaded as it is"
        raise UserError(problem, where=where, fix="use a recipe without 'stem' for this row")
    if len(sequences) == 1:
        problem = f"task '{arm.task}' reads one sequence, as the encoder '{arm.init}' does: its stem is loaded as it is"
        raise UserError(problem, where=where, fix="use a recipe without 'stem' for this task: it is the same training")
    if recipe.stem == "random" and not any(phase.train in ("all", "decoder_and_stem") for phase in recipe.phases):
        fix = "give a phase 'train: all', or use 'stem: divide'"
        raise UserError("the stem starts at random, and no phase trains it", where=where, fix=fix)


def _check_transfer(plan: Plan, arm: Arm) -> None:
    """A recipe that transfers the decoder starts from pretrainings of the decoder that it trains."""
    config = plan.config
    recipe = config.finetune[arm.recipe]
    if arm.before:
        _check_same_decoder(plan, arm, arm.before)
        return
    if recipe.transfer == "encoder" or arm.init == SCRATCH:
        return
    backbone = config.backbones[arm.backbone]
    own = (recipe.decoder, recipe.decoder_options) if recipe.decoder else (backbone.decoder, backbone.decoder_options)
    theirs = (None, {})
    if arm.pretraining:
        options = config.pretext(arm.pretraining.pretext, arm.backbone).options
        theirs = options.get("decoder"), options.get("decoder_options", {})
    found = f"'{theirs[0]}' {theirs[1]}" if theirs[0] else "no decoder of this kind"
    bodies = [(name, {key: value for key, value in options.items() if key != "heads"}) for name, options in (own, theirs)]
    if bodies[0] != bodies[1]:
        raise UserError(
            f"the recipe '{arm.recipe}' transfers the decoder '{own[0]}' {own[1]}, and '{arm.init}' trains {found}",
            where=f"{config.where('finetune', arm.recipe)}.transfer",
            fix="use 'transfer: encoder', or a pretext with the decoder and the decoder options of the backbone",
        )


def _check_same_decoder(plan: Plan, arm: Arm, before: Arm) -> None:
    """An arm goes on with the decoder of the fine-tuning before it."""
    own, theirs = (plan.config.finetune[one.recipe] for one in (arm, before))
    if (own.decoder, own.decoder_options) != (theirs.decoder, theirs.decoder_options):
        raise UserError(
            f"the recipe '{arm.recipe}' goes on from the network of '{before.recipe}', which has another decoder",
            where=f"{plan.config.where('finetune', arm.recipe)}.decoder",
            fix="give both recipes the same 'decoder' and 'decoder_options'",
        )


def _check_data(plan: Plan) -> None:
    """Tasks and corpora name sequences and subsets that their data sets have, and tasks are on data sets with labels."""
    config = plan.config
    for name in plan.tasks:
        task, where = config.tasks[name], config.where("tasks", name)
        cohorts = [(task.dataset, task.subsets, where)]
        others = [key for key in task.others if not task.degradation_of(key)]
        cohorts += [(task.dataset_of(key), task.subsets_of(key), f"{where}.{task.key_of(key)}") for key in others]
        numbers = plan.sources_of(name)
        cohorts += [(task.sources[i].dataset, task.sources[i].subsets, f"{where}.sources.{i}") for i in numbers]
        for dataset, subsets, place in cohorts:
            _check_names(plan, dataset, "sequences", task.sequences, f"{where}.sequences")
            _check_names(plan, dataset, "subsets", subsets, f"{place}.subsets")
            _check_versions(config.described(dataset), subsets, f"{place}.subsets")
            if not _may_have_labels(config.described(dataset)):
                problem = f"the data set '{dataset}' has no labels"
                raise UserError(
                    problem, where=f"{place}.dataset", fix="choose a data set with labels, or name its labels if it is your own"
                )
            drawn = config.described(dataset).label_sequences
            if drawn and not set(task.sequences) & set(drawn):
                raise UserError(
                    f"the labels of the data set '{dataset}' were drawn on {' '.join(drawn)}, and the task takes none of them",
                    where=f"{where}.sequences",
                    fix=f"set sequences: [{drawn[0]}]",
                )
    for name in plan.corpora:
        for number, source in enumerate(config.corpora[name].sources):
            where = f"{config.where('corpora', name)}.sources.{number}"
            _check_names(plan, source.dataset, "sequences", source.sequences, f"{where}.sequences")
            _check_names(plan, source.dataset, "subsets", source.subsets, f"{where}.subsets")
        _check_filters(plan, name)


def _check_filters(plan: Plan, name: str) -> None:
    """The filters of a corpus name sequences that a source has, and do not leave out all that a source gives."""
    corpus, where = plan.config.corpora[name], f"{plan.config.where('corpora', name)}.filters"
    if corpus.filters is None:
        return
    known = [sequences_of(plan.config.described(d), getattr(plan.config.datasets.get(d), "options", {})) for d in corpus.datasets]
    for key in ("sequences", "exclude_sequences"):
        for sequence in getattr(corpus.filters, key):
            if all(known) and not any(sequence in names for names in known):
                fix = nearest(sequence, sorted(set().union(*known)))
                raise UserError(f"no source of the corpus '{name}' has the sequence {sequence}", where=f"{where}.{key}", fix=fix)
    for source in corpus.sources:
        left = set(source.sequences) - set(corpus.filters.exclude_sequences)
        left &= set(corpus.filters.sequences) or left
        if source.sequences and not left:
            problem = f"the filters leave out every sequence of the source '{source.dataset}': {', '.join(source.sequences)}"
            raise UserError(problem, where=where, fix="remove the source, or let a sequence of it pass")


def _check_versions(dataset: Dataset, subsets: list[str], where: str) -> None:
    """A task takes one of the versions of a scan that a data set holds."""
    if dataset.versions and len(set(subsets) & set(dataset.versions)) != 1:
        problem = f"the subsets {' and '.join(dataset.versions)} of the data set '{dataset.name}' hold versions of the same scans"
        raise UserError(problem, where=where, fix=f"name one of them in the task, such as `subsets: [{dataset.versions[0]}]`")


def _check_names(plan: Plan, dataset: str, kind: str, names: list[str], where: str) -> None:
    entry = plan.config.datasets.get(dataset)
    known = (sequences_of if kind == "sequences" else subsets_of)(plan.config.described(dataset), entry.options if entry else {})
    if known and (unknown := [name for name in names if name not in known]):
        raise UserError(
            f"the data set '{dataset}' has no {kind} {', '.join(unknown)}", where=where, fix=nearest(unknown[0], sorted(known))
        )


def sequences_of(dataset: Dataset, options: Mapping[str, object]) -> set[str]:
    """The sequences that a data set may have; empty if only its files tell."""
    patterns = list(_patterns(dataset))
    if dataset.access == "embedded" and isinstance(chosen := options.get("sequences"), list):
        return set(map(str, chosen))
    if not patterns or any(callable(pattern.sequence) for pattern in patterns):
        return set()
    named = ([p.sequence] if isinstance(p.sequence, str) else p.sequence.values() for p in patterns if not callable(p.sequence))
    return {name for name in itertools.chain(*named, *(p.channels for p in patterns)) if name}


def subsets_of(dataset: Dataset, options: Mapping[str, object]) -> set[str]:
    """The subsets that a data set may have; empty if only its files tell."""
    patterns = list(_patterns(dataset))
    return {pattern.subset for pattern in patterns} | {"unlabelled" for pattern in patterns if pattern.partly}


def _may_have_labels(dataset: Dataset) -> bool:
    patterns = list(_patterns(dataset))
    return not patterns or any(pattern.label or pattern.masks for pattern in patterns)


def _patterns(dataset: Dataset) -> Iterator[Pattern]:
    """The patterns of all layouts; none where a table lists the volumes."""
    return itertools.chain(*(layout.patterns for layout in dataset.layouts)) if not dataset.lister else iter(())


def check_machine(plan: Plan, rule: str, devices: int, nodes: int, has_gpu: bool) -> None:
    """Refuses trainings that would not start on a machine.

    Args:
        plan: of the study.
        rule: `pretrain` or `finetune`.
        devices: of each training of this rule.
        nodes: that the devices are spread over.
        has_gpu: False if the trainings would run on a CPU.

    Raises:
        UserError: devices do not fit the nodes, or the batch the devices; or a CPU computes the precision wrongly.
    """
    if devices % nodes:
        problem = f"{devices} devices of a training cannot be spread over {nodes} nodes"
        raise UserError(problem, where=f"set-resources: {rule} of the profile", fix="make gpu a multiple of nodes")
    config = plan.config
    if rule == "pretrain":
        names = sorted({(p.pretext, p.backbone) for p in plan.pretrainings})
        trainings = [("pretexts", pretext, backbone, config.pretext(pretext, backbone)) for pretext, backbone in names]
    else:
        names = sorted({(e.arm.recipe, e.arm.backbone) for e in plan.evaluations})
        trainings = [("finetune", recipe, backbone, config.finetune[recipe]) for recipe, backbone in names]
    for section, name, backbone, recipe in trainings:
        where = config.where(section, name)
        if recipe.global_batch % devices:
            raise UserError(
                f"global_batch {recipe.global_batch} cannot be divided by the {devices} devices of rule '{rule}'",
                where=f"{where}.global_batch",
                fix=f"use a batch that is a multiple of {devices}, or another `gpu` for {rule} in the profile",
            )
        if has_gpu or recipe.precision == "32-true":
            continue
        stride = backbones.divisor(config.backbones[backbone].architecture, config.backbones[backbone].options)
        is_small = bool(stride) and recipe.patch_size[0] // stride < 3
        if recipe.precision == "16-mixed":
            problem = "precision 16-mixed needs a GPU, and this machine has none"
            fix = "use 32-true" if is_small else "use bf16-mixed or 32-true"
            raise UserError(problem, where=f"{where}.precision", fix=fix)
        if is_small:
            raise UserError(
                f"bf16 on a CPU is wrong for a coarsest feature map of {recipe.patch_size[0] // stride} voxels"
                f" (patch {recipe.patch_size[0]}, stride {stride} of backbone '{backbone}'), and this machine has no GPU",
                where=f"{where}.precision",
                fix="use precision 32-true, a larger patch or fewer levels",
            )
