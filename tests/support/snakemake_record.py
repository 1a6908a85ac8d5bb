"""What Snakemake 9 prints about two fine-tunings, of which one fails; shortened."""

RECORD = """  Command: snakemake --profile local --config study=tiny
Job stats:
job         count
--------  -------
finetune        4
evaluate        4
total           9

[Tue Dec  1 11:55:42 2026]
rule finetune:
    input: results/tiny/splits/tissue/fold0.json
    log: results/tiny/logs/finetune/tissue/unet_micro/scratch/tiny/n2/fold0.log
    jobid: 7
[Tue Dec  1 11:55:42 2026]
rule finetune:
    log: results/tiny/logs/finetune/tissue/unet_micro/scratch/tiny/n2/fold1.log
    jobid: 8
[Tue Dec  1 11:55:50 2026]
Finished jobid: 7 (Rule: finetune)
1 of 9 steps (11%) done
[Tue Dec  1 11:55:51 2026]
Error in rule finetune:
    message: None
    jobid: 8
    log: results/tiny/logs/finetune/tissue/unet_micro/scratch/tiny/n2/fold1.log (check log file(s) for error details)
    shell:
        brainpretrain finetune
Trying to restart job 8.
"""
