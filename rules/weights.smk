"""Published encoders, imported to the form that pretraining writes; and cards of our own.

Files of releases: in <data_root>/weights. That folder is a resource, and so no input: a missing file stops no dry run.
"""


rule:
    name:
        "import"
    output:
        encoder=RELEASE + "/encoder.safetensors",
        facts=RELEASE + "/encoder.json",
        report=RELEASE + "/import.tsv",
        card=RELEASE + "/card.md",
    log:
        RESULTS + "/logs/import/{release}/{backbone}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    resources:
        root=CONFIG.data_root("weights"),
    params:
        file=lambda w: CONFIG.release(w.release, w.backbone)["file"],
        backbone=as_json(specs.backbone, "backbone"),
        release=as_json(Config.release, "release", "backbone"),
        out=subpath(output.encoder, parent=True),
    shell:
        "brainpretrain import {resources.root:q}/{params.file:q} --backbone {params.backbone:q} --release {params.release:q}"
        " --out {params.out:q} > {log:q} 2>&1"


rule export_card:
    input:
        facts=PRETRAIN + "/encoder.json",
        run=PRETRAIN + "/run.json",
    output:
        PRETRAIN + "/card.md",
    log:
        STUDY + "/logs/export_card/{corpus}/{pretext}/{backbone}.log",
    localrule: True
    conda:
        "../envs/environment.yaml"
    params:
        folder=subpath(input.facts, parent=True),
    shell:
        "brainpretrain export --encoder {params.folder:q} --format card --out {output:q} > {log:q} 2>&1"
