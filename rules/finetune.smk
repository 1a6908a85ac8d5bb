"""Fold and encoder to segmentation model. The arm from scratch is the same rule without an encoder."""


def finetune_config(wildcards):
    """What shapes a fine-tuning, as JSON."""
    w = wildcards
    arm = brainpretrain.plan.tables.Arm(w.task, w.backbone, w.init, w.recipe, w.n_train)
    return as_json(brainpretrain.plan.tables.finetune_config(CONFIG, arm, int(w.fold)))


def finetune_inputs(wildcards):
    task = CONFIG.tasks[wildcards.task]
    inputs = {"volumes": stored_volumes(task.dataset, task.preprocess)}
    if "-on-" in wildcards.init:
        pretext, corpus = wildcards.init.split("-on-")
        inputs["init"] = PRETRAIN.format(corpus=corpus, pretext=pretext, backbone=wildcards.backbone) + "/encoder.safetensors"
    elif wildcards.init != "scratch":
        inputs["init"] = RELEASE.format(release=wildcards.init, backbone=wildcards.backbone) + "/encoder.safetensors"
    return inputs


rule finetune:
    input:
        unpack(finetune_inputs),
        split=SPLIT,
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
        mem_mb=lambda wildcards, attempt: 24000 * min(attempt, 2),
        runtime=720,
        gpu=1,
        nodes=1,
        workers=0,
        execution=" ".join(CONFIG.settings.execution),
        launcher="",
        save_every=CONFIG.settings.save_every_steps,
        max_idle=CONFIG.settings.max_idle_attempts,
        max_nonfinite=CONFIG.settings.max_nonfinite_steps,
        log_every=lambda w: CONFIG.finetune[w.recipe].log_every_steps,
        inference=lambda w: as_json(CONFIG.finetune[w.recipe].inference),
        logging="--tensorboard" if CONFIG.settings.tensorboard else "",
    params:
        config=finetune_config,
        init=lambda w, input: [] if w.init == "scratch" else ["--init", input.init],
        work=WORK,
        out=subpath(output.model, parent=True),
    shell:
        "{resources.launcher} brainpretrain finetune --volumes {input.volumes:q} --split {input.split:q} {params.init:q}"
        " --config {params.config:q}"
        " --devices {resources.gpu} --nodes {resources.nodes} --threads {threads} --workers {resources.workers} --execution {resources.execution}"
        " --save-every {resources.save_every} --max-idle-attempts {resources.max_idle} --max-nonfinite-steps {resources.max_nonfinite} --log-every {resources.log_every} --inference {resources.inference:q} {resources.logging} --work {params.work:q} --out {params.out:q} > {log:q} 2>&1"
