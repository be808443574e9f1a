# The verbs of this project; `make help` lists them.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= 1
READY := $(VENV)/.ready

# For `make image`: docker, podman or buildah.
BUILDER ?= docker
TARGET ?= normsweep
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
COMMIT := $(shell git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null)
IMAGE ?= $(TARGET):$(VERSION)

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test chaos test-cluster chaos-cluster conformance generate check docs \
	fmt lint types floors lengths image bench clean

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## create .venv with everything at the versions of constraints.txt

# DeepSpeed's source package builds against the installed torch, so torch and setuptools come first.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; \
		sys.exit(sys.version_info < (3, 11) and "normsweep needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt \
		setuptools wheel ninja py-cpuinfo torch==2.13.0 numpy
	DS_BUILD_OPS=0 $(BIN)/python -m pip install --quiet --no-build-isolation \
		--constraint constraints.txt deepspeed
	$(BIN)/python -m pip install --quiet --no-build-isolation \
		--constraint constraints.txt --editable '.[s3,k8s,notify,dev,docs]'
	touch $@

quickstart: $(READY) ## run a small sweep on this CPU with the embedded images, and write a report
	$(BIN)/normsweep run sweeps/quickstart.yaml

# Files run side by side, one per core; folders with the longest ones come first, so that none is
# left alone at the end. Tests that start their own Ray run two at a time whatever the number of cores.
BY_FILE := --dist loadfile --no-loadscope-reorder
test: $(READY) ## run every test that needs no cluster
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 $(BY_FILE) \
		tests/parity tests/contract tests/unit
	$(BIN)/python -m pytest --numprocesses 2 $(BY_FILE) --durations 30 -m 'not campaign' \
		tests/chaos tests/integration

chaos: $(READY) ## send signals to runs; kill runs, nights and their processes, at any moment (2 hours)
	$(BIN)/python -m pytest --capture no -m campaign tests/chaos

test-cluster: $(READY) ## run a sweep on a real Kubernetes on this machine (needs root and Debian)
	$(BIN)/python -m pytest --timeout 1800 -m 'not chaos' tests/cluster

chaos-cluster: $(READY) ## cut off nodes; test memory limits, queues, quotas, preemption (an hour)
	$(BIN)/python -m pytest --timeout 1800 -m chaos tests/cluster

conformance: $(READY) ## test every norm in every backbone, with gangs of every ZeRO stage
	NORMSWEEP_CONFORMANCE=all $(BIN)/python -m pytest tests/contract/test_conformance.py \
		tests/contract/test_zero.py tests/parity/test_training.py

generate: $(READY) ## rebuild docs/sweep-file.md, sweeps/schema.json and docs/architecture.md
	$(BIN)/python -m orchestrator.plan.docs
	$(BIN)/python -m tests.drawing

check: lint types floors lengths docs ## run what CI runs besides the tests

fmt: $(READY) ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(READY) ## check style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY) ## check types: mypy, strict
	$(BIN)/mypy

floors: $(READY) ## check who imports whom
	$(BIN)/lint-imports

lengths: $(READY) ## check that modules and functions are short (lint checks complexity)
	$(BIN)/python -m pytest --quiet tests/contract/test_lengths.py

docs: $(READY) ## build the documentation into build/site; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

image: ## build the pods' image: make image BASE=... IMAGE=name:tag [TARGET=mlflow-server]
	$(BUILDER) build --file k8s/Dockerfile --target $(TARGET) \
		$(if $(BASE),--build-arg BASE=$(BASE)) --build-arg VERSION=$(VERSION) \
		--build-arg COMMIT=$(COMMIT) $(BUILD_FLAGS) --tag $(IMAGE) .

bench: $(READY) ## run the benchmarks, each beside a peer
	@unset OMP_NUM_THREADS; export PYTHONPATH=$(CURDIR); for file in benchmarks/*.py; do \
		echo "== $$file"; $(BIN)/python $$file || exit 1; done

clean: ## remove what these verbs made, except runs
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache \
		.import_linter_cache .hypothesis
