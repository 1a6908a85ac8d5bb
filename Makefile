# Needs: Python 3.11 or newer with venv and pip, make, and a package index.
PYTHON ?= python3
VENV ?= .venv
CORES ?= all
export PATH := $(abspath $(VENV))/bin:$(PATH)

.PHONY: help demo test test-slurm faults fuzz lint format schema environment bench bench-keep bench-compare bench-augmentation bench-preprocessing bench-pretraining bench-evaluation bench-windows bench-checksums bench-scheduling bench-scaling bench-gpu clean

help:
	@echo "make demo         the whole workflow on a synthetic cohort, with a report"
	@echo "make test         all tests"
	@echo "make test-slurm   the workflow on a real Slurm that is started on this machine (Debian: slurm-wlm, munge)"
	@echo "make faults       things that go wrong, and what happens then (docs/reliability.md)"
	@echo "make fuzz         mutated volumes, configs, archives and weights for MINUTES=4 (docs/reliability.md)"
	@echo "make bench        all benchmarks but the GPU's, and one table of their ratios, goals and floors: docs/benchmarks.md"
	@echo "make bench-compare   what slowed by more than the noise since docs/benchmarks/last (or OLD=a NEW=b, files or folders)"
	@echo "make bench-keep      puts the results of a run on record there"
	@echo "make bench-gpu  pretraining on this machine's GPU, in ten minutes: docs/results/gpu.md"
	@echo "make lint         ruff and snakefmt;  make format  mends what they can"
	@echo "make schema       config/schema.json from the config models"
	@echo "make environment  envs/environment.yaml from requirements.lock"
	@echo "make bench-augmentation   CPU time of augmentation beside yucca 1.1.7 and six other peers, into docs/benchmarks.md"
	@echo "make bench-preprocessing  CPU time, memory and bytes of preprocessing and reading beside its peers, into docs/benchmarks.md"
	@echo "make bench-pretraining    CPU time of a small pretraining beside AMAES' step and data set, into docs/benchmarks.md"
	@echo "make bench-evaluation     CPU time of Dice, HD95 and NSD beside yucca 1.1.7 and MONAI, into docs/benchmarks.md"
	@echo "make bench-windows        CPU time of the sliding window beside nnU-Net and MONAI, into docs/benchmarks.md"
	@echo "make bench-checksums      CPU time of comparing stored volumes with their checksums, into docs/benchmarks.md"
	@echo "make bench-scheduling     dry runs and runs of empty jobs, 1,000 to 44,756 volumes, into docs/benchmarks.md"
	@echo "make bench-scaling        how cost grows over processes, workers, volumes and cases, into docs/benchmarks.md"
	@echo "make clean        remove the environment (results stay)"

# torch first and pinned: another package asking for it would bring a build with CUDA libraries on some indexes
$(VENV)/installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements.lock
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

demo: $(VENV)/installed
	snakemake --profile local --cores $(CORES) --config study=demo
	@$(MAKE) --no-print-directory results/demo/report.html STUDY=demo
	@cat results/demo/tables/demo.txt
	@echo "Report: $(abspath results/demo/report.html)"

results/$(STUDY)/report.html: $(wildcard results/$(STUDY)/tables/*.html results/$(STUDY)/figures/*.*)
	snakemake --profile local --cores 1 --config study=$(STUDY) --report $@

test: $(VENV)/installed
	pytest

faults: $(VENV)/installed
	python tests/faults/run.py

$(VENV)/fuzz: tests/fuzz/requirements.txt $(VENV)/installed
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps -r tests/fuzz/requirements.txt
	touch $@

MINUTES ?= 4
fuzz: $(VENV)/fuzz
	PYTHONPATH=tests python -m fuzz --minutes $(MINUTES)

# two clusters beside each other: most of the time is waiting for Slurm
test-slurm: $(VENV)/installed
	@log=$$(mktemp); pytest --durations=0 tests/slurm/test_survival.py >$$log 2>&1 & survival=$$!; \
	pytest --durations=0 tests/slurm/test_study.py; study=$$?; \
	wait $$survival; code=$$?; cat $$log; rm $$log; exit $$((study > code ? study : code))

bench-gpu: $(VENV)/installed
	python bench/gpu.py --out results/gpu --page docs/results/gpu.md --json results/bench/gpu.json; code=$$?; \
	cp results/gpu/gpu.json docs/results/gpu.json && exit $$code

lint: $(VENV)/installed
	ruff check src tests bench
	ruff format --check src tests bench
	snakefmt --check Snakefile rules

format: $(VENV)/installed
	ruff check --fix src tests bench
	ruff format src tests bench
	snakefmt Snakefile rules

schema: $(VENV)/installed
	brainpretrain schema --out config/schema.json

environment:
	{ sed '/- pip:$$/q' envs/environment.yaml; sed -n 's/^[^#].*/      - &/p' requirements.lock; } > envs/environment.new
	mv envs/environment.new envs/environment.yaml

# peers of the benchmarks, in environments of their own, with the versions that this project has itself where they share a package
bench/.venv/installed: bench/requirements.txt
bench/.venv-newest/installed: bench/requirements-newest.txt
bench/.venv/installed bench/.venv-newest/installed: requirements.lock
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"
	$(@D)/bin/pip install --quiet --disable-pip-version-check --constraint requirements.lock -r $(filter bench/%,$^)
	touch $@

# an environment that cannot be made is removed, and its peers are not measured
bench-augmentation bench-preprocessing: bench-%: $(VENV)/installed
	-@for peers in bench/.venv bench/.venv-newest; do $(MAKE) --no-print-directory $$peers/installed || rm -rf $$peers; done
	python bench/$*.py --page docs/benchmarks.md

bench-pretraining bench-evaluation bench-windows: bench-%: $(VENV)/installed
	-@$(MAKE) --no-print-directory bench/.venv/installed || rm -rf bench/.venv
	python bench/$*.py --page docs/benchmarks.md

bench-checksums bench-scheduling bench-scaling: bench-%: $(VENV)/installed
	python bench/$*.py --page docs/benchmarks.md

# one that fails does not stop the others: its rows say so; in this order, since scaling draws what scheduling measured
BENCHES ?= preprocessing augmentation pretraining evaluation windows checksums scheduling scaling
bench:
	-@for name in $(BENCHES); do $(MAKE) --no-print-directory bench-$$name; done
	python bench/summary.py --page docs/benchmarks.md

# what was measured last, by the project or by you, beside what you measured now
OLD ?= docs/benchmarks/last
NEW ?= results/bench
bench-keep:
	mkdir -p docs/benchmarks/last && cp results/bench/*.json docs/benchmarks/last/
bench-compare: $(VENV)/installed
	@python bench/compare.py $(OLD) $(NEW)

clean:
	rm -rf $(VENV) bench/.venv bench/.venv-newest
