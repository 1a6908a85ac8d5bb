"""A study whose task trains on two data sets: the source alone, and on from there with a case of the target."""

STUDY = """
title: "Table III of the paper, on phantoms"
seed: 0
folds: 1
build: [phantom_table3]
datasets:
  phantom_target:
    like: phantom
    options: {subjects: 4, unlabelled_subjects: 0, sequences: [T1w], grid: {spacing_mm: [4, 5]}}
  phantom_source: {like: phantom_target, options: {subjects: 2, seed: 5}}
preprocess:
  coarse_4mm: {like: amaes, spacing_mm: [4, 4, 4]}
tasks:
  tissue:
    dataset: phantom_target
    sequences: [T1w]
    labels: {brain: [1, 2], lesion: [3]}
    nsd_tolerance_mm: 5
    preprocess: coarse_4mm
    split: {seed: 0, test_fraction: 0.4, draw: shuffle, block: 2}
    sources: [{dataset: phantom_source, labels: {lesion: [3], brain: [1, 2]}}]
backbones:
  unet_micro: {like: unet_tiny, options: {width: 4, levels: 3}}
finetune:
  target:
    like: amaes
    patch_size: [16, 16, 16]
    phases: [{steps: 2, lr: 1.0e-3, decay: cosine}]
    precision: 32-true
    log_every_steps: 1
    inference: {batch: 8}
    sources: none
  source: {like: target, sources: all, mixing: balanced}
tables:
  phantom_table3:
    title: "Table III"
    columns: [{title: tissue, task: tissue, cohort: test}]
    corpus: brains45k
    recipe: target
    n_train: 1
    rows:
      - {title: 0 masks, backbone: unet_micro, n_train: 0, recipe: source}
      - {title: on from there, backbone: unet_micro, init: {row: 0 masks}, n_train: 1}
"""
MATCHED = (
    "  source: {like: target",
    "  few: {like: target, sources: matched}\n  source: {like: target",
)  # an edit: one more recipe
