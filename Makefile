# Needs: Python 3.11 or newer with venv and pip, make, and a package index.
PYTHON ?= python3
VENV ?= .venv
CORES ?= all
export PATH := $(abspath $(VENV))/bin:$(PATH)

.PHONY: help demo test test-slurm lint format schema environment bench-augmentation bench-preprocessing bench-pretraining bench-throughput clean

help:
	@echo "make demo         the whole workflow on a synthetic cohort, with a report"
	@echo "make test         all tests"
	@echo "make test-slurm   the workflow on a real Slurm that is started on this machine (Debian: slurm-wlm, munge)"
	@echo "make bench-throughput  pretraining on this machine's GPU, in ten minutes: docs/results/throughput.md"
	@echo "make lint         ruff and snakefmt;  make format  mends what they can"
	@echo "make schema       config/schema.json from the config models"
	@echo "make environment  envs/environment.yaml from requirements.lock"
	@echo "make bench-augmentation   CPU time of augmentation beside yucca 1.1.7, into docs/benchmarks.md"
	@echo "make bench-preprocessing  CPU time, memory and bytes of preprocessing and reading beside its peers, into docs/benchmarks.md"
	@echo "make bench-pretraining    CPU time of a small pretraining beside AMAES' step and data set, into docs/benchmarks.md"
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

# two clusters beside each other: most of the time is waiting for Slurm
test-slurm: $(VENV)/installed
	@log=$$(mktemp); pytest --durations=0 tests/slurm/test_survival.py >$$log 2>&1 & survival=$$!; \
	pytest --durations=0 tests/slurm/test_study.py; study=$$?; \
	wait $$survival; code=$$?; cat $$log; rm $$log; exit $$((study > code ? study : code))

bench-throughput: $(VENV)/installed
	python bench/throughput.py --out results/throughput --page docs/results/throughput.md
	cp results/throughput/throughput.json docs/results/throughput.json

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

# peers of the benchmarks, in an environment of their own, with the versions that this project has itself where they share a package
bench/.venv/installed: bench/requirements.txt requirements.lock
	$(PYTHON) -m venv bench/.venv
	bench/.venv/bin/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"
	bench/.venv/bin/pip install --quiet --disable-pip-version-check --constraint requirements.lock -r bench/requirements.txt
	touch $@

bench-augmentation: $(VENV)/installed
	-@$(MAKE) --no-print-directory bench/.venv/installed || rm -rf bench/.venv
	python bench/augmentation.py --page docs/benchmarks.md

bench-preprocessing: $(VENV)/installed
	-@$(MAKE) --no-print-directory bench/.venv/installed || rm -rf bench/.venv
	python bench/preprocessing.py --page docs/benchmarks.md

bench-pretraining: $(VENV)/installed
	-@$(MAKE) --no-print-directory bench/.venv/installed || rm -rf bench/.venv
	python bench/pretraining.py --page docs/benchmarks.md

clean:
	rm -rf $(VENV) bench/.venv
