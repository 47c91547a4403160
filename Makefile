# Everything a user runs. `make help` lists it. No activation is needed: what runs here runs in .venv.
#   CORES=4             processors to use (all)
#   CONFIG=file.yaml    a config in place of config.yaml
#   TARGET=evaluate     what `make plan` looks at (submission)
#   TRUNKS="a b=file"   what `make trunks` compares with the network of CONFIG= (the usual ones)
#   IMAGES=folder       new images, for `make predict`
#   NAME= DATA=folder   of a new config, for `make new`; with QUALITY=quick|good|best, or HOURS=2 that its run may take
#   ROWS= THREADS=      rows or groups of the benchmark (all), and its threads (all processors)
#   KILLS=100           how often `make torture` kills the workflow
#   PYTHON=python3.12   the Python, 3.11 or later, that .venv is made with

PYTHON ?= python3
CORES  ?= all
CONFIG ?=
TARGET ?= submission
TRUNKS ?=
IMAGES ?=
NAME   ?=
DATA   ?=
QUALITY ?=
HOURS  ?=
ROWS   ?=
THREADS ?=
KILLS  ?= 100

# What is typed is text and never code: make keeps it as it stands, and recipes take it from their environment, in quotes.
TYPED := PYTHON CORES CONFIG TARGET TRUNKS IMAGES NAME DATA QUALITY HOURS ROWS THREADS KILLS
$(foreach name,$(TYPED),$(eval override $(name) := $$(value $(name))))
export $(TYPED)

SHELL := /bin/sh
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Where the home folder cannot be written (a container, a cluster's batch account), what is usually kept there is kept here.
home = { [ -w "$${XDG_CACHE_HOME:-$$HOME/.cache}" ] || mkdir -p "$${XDG_CACHE_HOME:-$$HOME/.cache}" 2>/dev/null || export XDG_CACHE_HOME="$$PWD/.snakemake/cache" XDG_CONFIG_HOME="$$PWD/.snakemake/cache"; }
# The target comes first: --configfile takes every word after it for a file.
snakemake = .venv/bin/python scripts/check_config.py "$${CONFIG:-config.yaml}" && .venv/bin/python scripts/unlock.py && $(home) && .venv/bin/python -m snakemake $(1) --cores "$$CORES" $${CONFIG:+--configfile "$$CONFIG"}

# A stamp says that .venv holds what a list of requirements wants. Its name carries the digest of the lists, so an edited
# list is another stamp. A .venv whose Python does not start (moved, or the system's was upgraded) has no stamp that counts.
LISTS  := envs/requirements.txt envs/requirements-extra.txt envs/requirements-dev.txt
DIGEST := $(shell cat $(LISTS) | cksum | tr -cd '0-9')
READY  := .venv/.ready-$(DIGEST)
TOOLS  := .venv/.tools-$(DIGEST)
EXTRA  := .venv/.extra-$(DIGEST)
BENCH  := .venv/.bench-$(shell cat envs/requirements.txt envs/requirements-bench.txt | cksum | tr -cd '0-9')
SOLAR  := .venv/.solar-$(shell cat envs/requirements.txt envs/requirements-solar.txt | cksum | tr -cd '0-9')
BROKEN := $(if $(shell .venv/bin/python -c 'import sys, pip; print(sys.prefix)' 2>/dev/null),,broken)

# Snakemake plans all that lies below a job that it plans. So where the code that makes the manifest and the folds is new to a
# run, they are made first, by themselves: if they come out as they were, the next plan has nothing below them.
MAKERS = .setup/makers-$(shell cat scripts/manifest.py scripts/duplicates.py scripts/folds.py scripts/eightfold/raw/*.py 2>/dev/null | cksum | tr -cd '0-9')
makers = makers="$(MAKERS)-$$(printf %s "$${CONFIG:-config.yaml}" | tr / _)"
look = { $(makers); [ -e "$$makers" ] || { $(call snakemake,look) --quiet && mkdir -p .setup && touch "$$makers"; }; }

.DEFAULT_GOAL := submission
.DELETE_ON_ERROR:
.PHONY: submission quick trunks report look explore lr_find evaluate clean_cache predict export compare submit new extras solar plan slurm-test score bench check test torture doctor audit unlock lint format help broken

submission report lr_find evaluate: $(READY) ## run the pipeline up to this target
	@$(look) && $(call snakemake,$@)

explore look clean_cache: $(READY) ## plots of the data; the manifest and the folds alone; remove what runs share
	@$(call snakemake,$@)

quick: $(READY) ## the first answer, in about a minute: a linear layer on the starting network, its figure, submission_quick.csv
	@$(look) && $(call snakemake,$@)

trunks: $(READY) ## which network: a linear layer on each of TRUNKS= beside the run's own, out-of-fold figures, seconds
	@$(look) && $(call snakemake,trunks $${TRUNKS:+--config "trunks=$$TRUNKS"})

predict: $(READY) ## label the images in the folder IMAGES= by the finished run of CONFIG=
	$(if $(IMAGES),,$(error say which images: make predict IMAGES=folder))
	@$(call snakemake,predict_new --config "predict={images: '$$(printf %s "$$IMAGES" | sed "s/'/''/g")'}")

export: $(EXTRA) ## the trained network as .pt2 and .onnx, with a model card
	@$(call snakemake,export)

compare: $(READY) ## a table and a page of all finished runs: results/compare.html
	@$(call snakemake,compare)

submit: $(EXTRA) ## send the submission to the Kaggle competition of CONFIG= and record its score
	@$(call snakemake,submit)

new: $(READY) ## start configs/NAME.yaml by looking at the images in DATA=folder; QUALITY=quick, good or best, or HOURS=
	@.venv/bin/python scripts/new_config.py "$$NAME" "$$DATA" '' "$$QUALITY" "$$HOURS"

extras: $(EXTRA) ## the optional packages: ONNX, Kaggle, timm, .7z, DICOM, BSON, TensorBoard, MLflow

# Two runs, since the data root is listed when the Snakefile is read.
solar: override CONFIG := examples/solar_cells.yaml
solar: $(SOLAR) ## a real job out of the package registry (CC BY-NC-SA 4.0): defects of solar cells, scored
	@.venv/bin/python scripts/unlock.py && $(home) && .venv/bin/python -m snakemake solar_cells --cores "$$CORES"
	@$(look) && $(call snakemake,submission)
	@.venv/bin/python scripts/score_held_back.py data/solar_cells/held_back.csv results/solar_cells/submission.csv

slurm-test: $(TOOLS) ## the pipeline on a real SLURM of two nodes, started here for the test (as root: installs it)
	-.venv/bin/python tests/slurm/cluster.py install
	EIGHTFOLD_SLURM=1 .venv/bin/python -m pytest tests/workflow/test_slurm.py -rs

plan: $(READY) ## what `make submission` (or another TARGET=) would run, why, for how long, and how much disk it takes
	@$(call snakemake,"$$TARGET" --dry-run --quiet host)
	@$(makers); [ -e "$$makers" ] || [ ! -d results ] || echo "make makes the manifest and the folds first: if they come out as they were, nothing below them is made again."
	@$(call snakemake,"$$TARGET" --summary) 2>/dev/null | .venv/bin/python scripts/forecast.py $${CONFIG:+"$$CONFIG"}

score: $(READY) ## the demo's accuracy and log loss on labels that the pipeline never saw
	@.venv/bin/python scripts/score_held_back.py results/cache/demo/held_back.csv results/demo/submission.csv

bench: $(BENCH) ## ratios against Pillow, torchvision, fastai and the machine's own limits: ROWS= some, THREADS=
	set -f; .venv/bin/python bench/run.py $$ROWS $${THREADS:+--threads "$$THREADS"}

test: lint ## lint, then all tests
	.venv/bin/python -m pytest --numprocesses auto --dist loadfile --durations 20 --durations-min 5

check: lint ## lint, and the tests that run no workflow: a minute or two
	.venv/bin/python -m pytest --numprocesses auto --dist loadfile -m "not slow"

torture: $(TOOLS) ## kill the workflow KILLS= times, fuzz 10,000 images; figures into torture/*.json
	@mkdir -p torture
	.venv/bin/python tests/torture/jobs.py "$$KILLS" torture/jobs.json
	.venv/bin/python tests/torture/kills.py "$$KILLS" torture/kills.json
	.venv/bin/python tests/torture/fuzz.py 10000 torture/fuzz.json
	EIGHTFOLD_TORTURE=1 .venv/bin/python -m pytest tests/raw/test_corpus.py tests/workflow/test_disk.py tests/workflow/test_faults.py tests/workflow/test_hostile.py tests/workflow/test_kills.py

doctor: $(READY) ## what this machine and the run of CONFIG= lack, and what is damaged
	@.venv/bin/python scripts/doctor.py $${CONFIG:+"$$CONFIG"}

unlock: $(READY) ## release the lock that a killed run left (when no run goes on in this folder)
	@$(home) && .venv/bin/python -m snakemake --unlock $${CONFIG:+--configfile "$$CONFIG"}

audit: $(TOOLS) ## known vulnerabilities of the pinned packages (asks the Python package index for its advisories)
	.venv/bin/python -m pip_audit --strict --no-deps --disable-pip $(foreach list,$(LISTS) envs/requirements-bench.txt envs/requirements-solar.txt,--requirement $(list))

lint: $(TOOLS) ## style of Python and Snakemake files, nothing is changed
	.venv/bin/python -m ruff check
	.venv/bin/python -m ruff format --check
	.venv/bin/python -m snakefmt --check Snakefile rules
	.venv/bin/python -m snakemake --lint

format: $(TOOLS) ## bring all files into style
	.venv/bin/python -m ruff check --fix
	.venv/bin/python -m ruff format
	.venv/bin/python -m snakefmt Snakefile rules

help: ## this list
	@awk -F ':.*## ' '/^[a-z_ -]+:.*## / {printf "%-66s %s\n", $$1, $$2}' Makefile
	@sed -n '2,7s/^#//p' Makefile

$(READY): $(BROKEN)
	@$(call install,$(firstword $(LISTS)),.ready)

$(EXTRA): $(BROKEN) | $(READY)
	@$(call install,$(word 2,$(LISTS)),.extra)

$(BENCH): $(BROKEN) | $(READY)
	@$(call install,envs/requirements-bench.txt,.bench)

$(SOLAR): $(BROKEN) | $(READY)
	@$(call install,envs/requirements-solar.txt,.solar)

$(TOOLS): $(BROKEN) | $(READY)
	@$(call install,$(lastword $(LISTS)),.tools)

# install(list, stamp): one at a time, and again from nothing after an interruption, for pip takes a package that it wrote
# half for a whole one. `.installing` stands while pip works; the stamp is written last.
define install
set -e; mkdir -p .setup; \
if command -v flock >/dev/null 2>&1; then exec 9>.setup/lock; flock -n 9 || [ $$? != 1 ] || { echo "waiting for another make's set-up"; flock 9; }; fi; \
if .venv/bin/python -c 'import pip' 2>/dev/null; then if [ -e .venv/.installing ]; then rm -rf .venv; fi; else rm -rf .venv; fi; \
if [ ! -e $@ ]; then \
  if [ ! -e .venv ]; then \
    "$$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
      { echo "Python 3.11 or later is needed; $$PYTHON is $$("$$PYTHON" --version 2>&1). Say make PYTHON=python3.12" >&2; exit 1; }; \
    echo "making .venv with $$("$$PYTHON" --version)"; \
    mkdir .venv; touch .venv/.installing; "$$PYTHON" -m venv .venv; \
  fi; \
  echo "installing $(1): some minutes, once"; \
  touch .venv/.installing; rm -f .venv/$(2)-*; \
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input --requirement $(1); \
  touch $@; rm .venv/.installing; \
fi
endef
