# The verbs of this project; `make help` lists them.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= 1
READY := $(VENV)/.ready

# Of `make image`: docker, podman or buildah.
BUILDER ?= docker
TARGET ?= normsweep
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
COMMIT := $(shell git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null)
IMAGE ?= $(TARGET):$(VERSION)

.DEFAULT_GOAL := help
.PHONY: help setup quickstart test campaign test-cluster chaos-cluster conformance generate check fmt lint types floors lengths image bench clean

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## make .venv with everything at the versions of constraints.txt

# setuptools and wheel first: DeepSpeed's source package builds against the torch already installed.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "normsweep needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt setuptools wheel ninja py-cpuinfo torch==2.13.0 numpy
	DS_BUILD_OPS=0 $(BIN)/python -m pip install --quiet --no-build-isolation --constraint constraints.txt deepspeed
	$(BIN)/python -m pip install --quiet --no-build-isolation --constraint constraints.txt --editable '.[s3,k8s,dev]'
	touch $@

quickstart: $(READY) ## the main job on embedded defaults: a small sweep on this CPU, then a report
	$(BIN)/normsweep run sweeps/quickstart.yaml

# Side by side, a file to a core: those that start a Ray of their own wait for it more than they compute, two at a time.
test: $(READY) ## every test that needs no cluster
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 8 --dist loadfile tests/unit tests/contract tests/parity
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --durations 30 -m 'not campaign' tests/integration tests/chaos

campaign: $(READY) ## signals at NORMSWEEP_MOMENTS (10) random moments of a run each (an hour)
	$(BIN)/python -m pytest --capture no -m campaign tests/chaos

test-cluster: $(READY) ## a sweep on a real Kubernetes on this machine, where one can be started (root, Debian's packages)
	$(BIN)/python -m pytest --timeout 1800 -m 'not chaos' tests/cluster

chaos-cluster: $(READY) ## the rest: nodes cut off, memory limits, queues, quotas, preemption (an hour)
	$(BIN)/python -m pytest --timeout 1800 -m chaos tests/cluster

conformance: $(READY) ## every norm in every backbone, the gangs of every ZeRO stage and their parity included
	NORMSWEEP_CONFORMANCE=all $(BIN)/python -m pytest tests/contract/test_conformance.py tests/contract/test_zero.py \
		tests/parity/test_training.py

generate: $(READY) ## remake what is made from the code: docs/sweep-file.md, sweeps/schema.json, docs/architecture.md
	$(BIN)/python -m orchestrator.plan.docs
	$(BIN)/python -m tests.drawing

check: lint types floors lengths ## what CI runs beside the tests

fmt: $(READY) ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(READY) ## style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(READY) ## mypy, strict
	$(BIN)/mypy

floors: $(READY) ## who may import whom
	$(BIN)/lint-imports

lengths: $(READY) ## short modules and functions; lint looks at their complexity
	$(BIN)/python -m pytest --quiet tests/contract/test_lengths.py

image: ## the image of pods: make image BASE=any-with-python-3.11 IMAGE=name:tag [TARGET=mlflow-server]
	$(BUILDER) build --file k8s/Dockerfile --target $(TARGET) $(if $(BASE),--build-arg BASE=$(BASE)) \
		--build-arg VERSION=$(VERSION) --build-arg COMMIT=$(COMMIT) $(BUILD_FLAGS) --tag $(IMAGE) .

bench: $(READY) ## the benchmarks, each beside a peer
	@unset OMP_NUM_THREADS; for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

clean: ## remove what the verbs made, but no runs
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
