# Needs: Python 3.11 or newer with venv and pip, make, and a package index.
PYTHON ?= python3
VENV ?= .venv
CORES ?= all
export PATH := $(abspath $(VENV))/bin:$(PATH)

.PHONY: help demo docs test processors test-slurm faults fuzz lint format schema environment bench bench-keep bench-compare bench-augmentation bench-preprocessing bench-pretraining bench-evaluation bench-windows bench-sparse bench-tokens bench-checksums bench-overlap bench-scheduling bench-scaling bench-gpu parity clean

help:
	@echo "make demo         run the whole workflow on a synthetic cohort, with a report"
	@echo "make docs         build the documentation site, results/site/html/index.html, and check its links"
	@echo "make test         run all tests, in WORKERS=2 processes"
	@echo "make newcomer     init, plan, run, watch, predict on FOLDER=labelled volumes, with the seconds of each step (MINUTES=5)"
	@echo "make processors   run the tests of all numbers as other processors compute, with one and two threads, in half an hour"
	@echo "make test-slurm   run the workflow on a real Slurm that is started on this machine (Debian: slurm-wlm, munge)"
	@echo "make faults       cause the faults of docs/reliability.md and show the outcome of each"
	@echo "make parity       compare the methods with the recorded figures in FIXTURES=folder (docs/pretexts.md)"
	@echo "make fuzz         read mutated volumes, configs, archives and weights for MINUTES=4 (docs/reliability.md)"
	@echo "make lint         check with ruff and snakefmt;  make format  fixes what they can fix"
	@echo "make schema       write config/schema.json from the config models"
	@echo "make environment  write envs/environment.yaml from requirements.lock"
	@echo "make clean        remove the environments; results stay"
	@echo "make bench        run all benchmarks except the GPU's, and make one table of ratios, goals and floors (docs/benchmarks.md)"
	@echo "make bench-compare        list figures that are slower than those on record in docs/benchmarks/last (or OLD=a NEW=b, files or folders)"
	@echo "make bench-keep           keep the results of a run as the record"
	@echo "make bench-gpu            measure pretraining on this machine's GPU, in ten minutes (docs/results/gpu.md)"
	@echo "Each of these benchmarks replaces its section of docs/benchmarks.md:"
	@echo "make bench-augmentation   CPU time of augmentation, compared with yucca 1.1.7 and six other peers"
	@echo "make bench-preprocessing  CPU time, memory and bytes of preprocessing and reading, compared with peers"
	@echo "make bench-pretraining    CPU time of a small pretraining, compared with AMAES' step and data set"
	@echo "make bench-evaluation     CPU time of Dice, HD95 and NSD, compared with yucca 1.1.7 and MONAI"
	@echo "make bench-windows        CPU time of the sliding window, compared with nnU-Net and MONAI"
	@echo "make bench-tokens         CPU time of ViT-MAE, whose encoder sees visible tokens only, compared with all tokens"
	@echo "make bench-sparse         CPU time of S3D on packed visible blocks, compared with masked and with dense maps"
	@echo "make bench-checksums      CPU time of comparing stored volumes with their checksums"
	@echo "make bench-overlap        planted copies that the overlap audit finds, by kind, and false pairs (HEADS=folder of heads)"
	@echo "make bench-scheduling     dry runs and runs of empty jobs, 1,000 to 44,756 volumes"
	@echo "make bench-scaling        growth of the cost with processes, workers, volumes and cases"

# torch first and pinned: as a dependency of another package, some indexes would give a build with CUDA libraries
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

# two processes of one thread each; the tests of a file run in the same process, the longest files first (tests/conftest.py)
WORKERS ?= 2
test: $(VENV)/installed
	pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# mkdocs has an environment of its own; a broken link, or a page that no menu leads to, is an error (--strict)
docs/.venv/installed: envs/docs.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check -r envs/docs.txt
	touch $@

docs: $(VENV)/installed docs/.venv/installed
	rm -rf results/site
	python docs/site/build.py results/site
	NO_MKDOCS_2_WARNING=1 docs/.venv/bin/mkdocs build --quiet --strict -f results/site/mkdocs.yml
	@echo "Documentation: $(abspath results/site/html/index.html)"

newcomer: $(VENV)/installed
	python tests/newcomer.py "$(FOLDER)" --minutes $(or $(MINUTES),5)

processors: $(VENV)/installed
	python tests/processors.py

faults: $(VENV)/installed
	python tests/faults/run.py

$(VENV)/fuzz: tests/fuzz/requirements.txt $(VENV)/installed
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps -r tests/fuzz/requirements.txt
	touch $@

parity: $(VENV)/installed
	brainpretrain parity $(FIXTURES)

MINUTES ?= 4
fuzz: $(VENV)/fuzz
	PYTHONPATH=tests python -m fuzz --minutes $(MINUTES)

# two clusters at the same time, since most of the time is waiting for Slurm
test-slurm: $(VENV)/installed
	@log=$$(mktemp); pytest --durations=0 tests/slurm/test_survival.py >$$log 2>&1 & survival=$$!; \
	pytest --durations=0 tests/slurm/test_study.py; study=$$?; \
	wait $$survival; code=$$?; cat $$log; rm $$log; exit $$((study > code ? study : code))

bench-gpu: $(VENV)/installed
	python bench/gpu.py --out results/gpu --page docs/results/gpu.md --json results/bench/gpu.json; code=$$?; \
	cp results/gpu/gpu.json docs/results/gpu.json && exit $$code

lint: $(VENV)/installed
	ruff check src tests bench docs/site
	ruff format --check src tests bench docs/site
	snakefmt --check Snakefile rules

format: $(VENV)/installed
	ruff check --fix src tests bench docs/site
	ruff format src tests bench docs/site
	snakefmt Snakefile rules

schema: $(VENV)/installed
	brainpretrain schema --out config/schema.json

environment:
	{ sed '/- pip:$$/q' envs/environment.yaml; sed -n 's/^[^#].*/      - &/p' requirements.lock; } > envs/environment.new
	mv envs/environment.new envs/environment.yaml

# peers of the benchmarks, in environments of their own, with this project's versions of shared packages
bench/.venv/installed: bench/requirements.txt
bench/.venv-newest/installed: bench/requirements-newest.txt
bench/.venv/installed bench/.venv-newest/installed: requirements.lock
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"
	$(@D)/bin/pip install --quiet --disable-pip-version-check --constraint requirements.lock -r $(filter bench/%,$^)
	touch $@

# an environment that cannot be created is removed, and its peers are not measured
bench-augmentation bench-preprocessing: bench-%: $(VENV)/installed
	-@for peers in bench/.venv bench/.venv-newest; do $(MAKE) --no-print-directory $$peers/installed || rm -rf $$peers; done
	python bench/$*.py --page docs/benchmarks.md

bench-pretraining bench-evaluation bench-windows: bench-%: $(VENV)/installed
	-@$(MAKE) --no-print-directory bench/.venv/installed || rm -rf bench/.venv
	python bench/$*.py --page docs/benchmarks.md

# heads of your own: make bench-overlap HEADS=folder PATTERN='*/T1.nii.gz' MASK=brain_mask.nii.gz
bench-overlap: $(VENV)/installed
	python bench/overlap.py $(if $(HEADS),--data $(HEADS) --pattern '$(PATTERN)' --mask '$(MASK)',--page docs/benchmarks.md)

bench-sparse bench-tokens bench-checksums bench-scheduling bench-scaling: bench-%: $(VENV)/installed
	python bench/$*.py --page docs/benchmarks.md

# a benchmark that fails does not stop the others, and its rows say so; scaling draws the results of scheduling, so it is last
BENCHES ?= preprocessing augmentation pretraining evaluation windows sparse tokens checksums overlap scheduling scaling
bench:
	-@for name in $(BENCHES); do $(MAKE) --no-print-directory bench-$$name; done
	python bench/summary.py --page docs/benchmarks.md

# compares the results on record with those of the last run
OLD ?= docs/benchmarks/last
NEW ?= results/bench
bench-keep:
	mkdir -p docs/benchmarks/last && cp results/bench/*.json docs/benchmarks/last/
bench-compare: $(VENV)/installed
	@python bench/compare.py $(OLD) $(NEW)

clean:
	rm -rf $(VENV) bench/.venv bench/.venv-newest docs/.venv
