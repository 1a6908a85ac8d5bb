"""Corpus to encoder, fold and encoder to segmentation model.

Resume state is in <results>/work, which is no output: Snakemake does not delete it. A training from scratch is a fine-tuning
without an initial encoder.
"""

from brainpretrain.plan.runs import Arm, Pretraining


def machine(mem_mb, runtime):
    """Resources of a training: where and how fast it runs. A profile may change all of them, and no result changes."""
    return {
        "mem_mb": per_attempt(mem_mb, most=2),
        "runtime": runtime,
        "gpu": 1,
        "nodes": 1,
        "workers": 0,
        "execution": " ".join(CONFIG.settings.execution),
        "launcher": "",
        "save_every": CONFIG.settings.save_every_steps,
        "max_idle": CONFIG.settings.max_idle_attempts,
        "max_nonfinite": CONFIG.settings.max_nonfinite_steps,
        "logging": "--tensorboard" if CONFIG.settings.tensorboard else "",
    }


# the options of a training for these resources
MACHINE = (
    " --devices {resources.gpu} --nodes {resources.nodes} --threads {threads} --workers {resources.workers}"
    " --execution {resources.execution} --save-every {resources.save_every} --max-idle-attempts {resources.max_idle}"
    " --max-nonfinite-steps {resources.max_nonfinite}"
)
PLACES = " {resources.logging} --work {params.work:q} --out {params.out:q}"


rule pretrain:
    input:
        corpus=CORPUS,
    output:
        encoder=PRETRAIN + "/encoder.safetensors",
        facts=PRETRAIN + "/encoder.json",
        log=PRETRAIN + "/log.csv",
        run=PRETRAIN + "/run.json",
        config=PRETRAIN + "/config.yaml",
        reconstruction=PRETRAIN + "/reconstruction.npz",
    log:
        STUDY + "/logs/pretrain/{corpus}/{pretext}/{backbone}.log",
    conda:
        "../envs/environment.yaml"
    threads: 8
    resources:
        **machine(mem_mb=32000, runtime=1440),
    params:
        config=lambda w: specs.as_json(specs.pretrain_run(CONFIG, Pretraining(**w))),
        data=DATA,
        work=WORK,
        out=subpath(output.encoder, parent=True),
    shell:
        "{resources.launcher} brainpretrain pretrain --corpus {input.corpus:q} --data {params.data:q} --config {params.config:q}"
        + MACHINE
        + PLACES
        + " > {log:q} 2>&1"


def arm_of(wildcards):
    """The arm that wildcards name."""
    return Arm(*(wildcards[name] for name in ("task", "backbone", "init", "recipe", "n_train")))


def finetune_config(wildcards):
    """What shapes a fine-tuning, as JSON."""
    return specs.as_json(specs.finetune_run(CONFIG, arm_of(wildcards), *read_fold_name(wildcards.fold)))


def initial_encoder(wildcards):
    """What an arm starts from: an encoder, or the network of the arm before it in the same fold; none from scratch."""
    if before := arm_of(wildcards).before:
        return f"{STUDY}/{before.path}/fold{wildcards.fold}/model.safetensors"
    pretraining = arm_of(wildcards).pretraining
    if pretraining:
        return f"{STUDY}/{pretraining.path}/encoder.safetensors"
    if wildcards.init in CONFIG.weights:
        return RELEASE.format(release=wildcards.init, backbone=wildcards.backbone) + "/encoder.safetensors"
    return []


def task_volumes(wildcards):
    """Table of the stored volumes that a task trains on."""
    task = CONFIG.tasks[wildcards.task]
    return VOLUMES.format(dataset=task.dataset, preprocess=task.preprocess)


def chosen_rate(wildcards):
    """The learning rate that was chosen for an arm in a fold; none if its recipe has no grid."""
    if not PLAN.candidates(arm_of(wildcards), 0):
        return []
    return RATE.format(**{**wildcards, "fold": read_fold_name(wildcards.fold)[0]})


def starting_point(wildcards, input):
    """Options with the initial weights, the chosen learning rate and the sources, as far as an arm has them."""
    given = (("--init", input.init), ("--rate", input.rate))
    words = [word for option, file in given if file for word in (option, file)]
    return [*words, "--sources", *trained_sources("{dataset}=" + VOLUMES)(wildcards)] if input.sources else words


def trained_sources(pattern):
    """An input or option: `pattern` for every source that the recipe of an arm trains on."""
    return lambda w: of_sources(pattern)(w) if CONFIG.finetune[w.recipe].sources != "none" else []


rule finetune:
    input:
        volumes=task_volumes,
        sources=trained_sources(VOLUMES),
        init=initial_encoder,
        rate=chosen_rate,
        split=split_of,
    output:
        model=FOLD + "/model.safetensors",
        facts=FOLD + "/model.json",
        transfer=FOLD + "/transfer.tsv",
        log=FOLD + "/log.csv",
        run=FOLD + "/run.json",
        config=FOLD + "/config.yaml",
    log:
        STUDY + "/logs/finetune/{task}/{backbone}/{init}/{recipe}/n{n_train}/fold{fold}.log",
    conda:
        "../envs/environment.yaml"
    threads: 8
    resources:
        **machine(mem_mb=24000, runtime=720),
        log_every=lambda w: CONFIG.finetune[w.recipe].log_every_steps,
        inference=as_json(specs.inference, "recipe"),
    params:
        config=finetune_config,
        init=starting_point,
        work=WORK,
        out=subpath(output.model, parent=True),
    shell:
        "{resources.launcher} brainpretrain finetune --volumes {input.volumes:q} --split {input.split:q} {params.init:q}"
        " --config {params.config:q}"
        + MACHINE
        + " --log-every {resources.log_every} --inference {resources.inference:q}"
        + PLACES
        + " > {log:q} 2>&1"
