"""Corpus to encoder. Resume state lives in <results>/work, which is no output: Snakemake does not delete it."""


def pretrain_config(wildcards):
    """What shapes a pretraining, and nothing else: an edit elsewhere does not train again."""
    recipe = CONFIG.pretext(wildcards.pretext, wildcards.backbone)
    return as_json(
        {
            "name": f"{wildcards.pretext}-on-{wildcards.corpus}/{wildcards.backbone}",
            "seed": CONFIG.study.seed,
            "recipe": recipe.model_dump(mode="json", exclude={"per_backbone", "augmentation"}),
            "backbone": CONFIG.backbones[wildcards.backbone].model_dump(mode="json", include={"architecture", "options"}),
            "policy": CONFIG.augmentations[recipe.augmentation].model_dump(mode="json"),
            "preprocess": CONFIG.stored_as(CONFIG.corpora[wildcards.corpus].preprocess),
        }
    )


rule pretrain:
    input:
        corpus=STUDY + "/corpora/{corpus}/corpus.tsv",
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
        mem_mb=lambda wildcards, attempt: 32000 * min(attempt, 2),
        runtime=1440,
        gpu=1,
        nodes=1,
        workers=0,
        execution=" ".join(CONFIG.settings.execution),
        launcher="",
        save_every=CONFIG.settings.save_every_steps,
        max_idle=CONFIG.settings.max_idle_attempts,
        max_nonfinite=CONFIG.settings.max_nonfinite_steps,
        logging="--tensorboard" if CONFIG.settings.tensorboard else "",
    params:
        config=pretrain_config,
        data=DATA,
        work=WORK,
        out=subpath(output.encoder, parent=True),
    shell:
        "{resources.launcher} brainpretrain pretrain --corpus {input.corpus:q} --data {params.data:q} --config {params.config:q}"
        " --devices {resources.gpu} --nodes {resources.nodes} --threads {threads} --workers {resources.workers} --execution {resources.execution}"
        " --save-every {resources.save_every} --max-idle-attempts {resources.max_idle} --max-nonfinite-steps {resources.max_nonfinite} {resources.logging} --work {params.work:q} --out {params.out:q} > {log:q} 2>&1"


rule model_card:
    input:
        facts=PRETRAIN + "/encoder.json",
        run=PRETRAIN + "/run.json",
    output:
        PRETRAIN + "/card.md",
    log:
        STUDY + "/logs/model_card/{corpus}/{pretext}/{backbone}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        folder=subpath(input.facts, parent=True),
    shell:
        "brainpretrain export --encoder {params.folder:q} --format card --out {output:q} > {log:q} 2>&1"
