# `make` lists what can be made. Everything happens in .venv/; nothing outside this folder is touched.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -q
INSTRUCTION ?= remove the fish
IMAGE ?= docs/assets/sample.png
ARGS ?=
PARALLEL := -n auto --maxprocesses 4 --dist loadfile
SOURCES := insightedit data_recipes tests $(wildcard benchmarks notebooks) setup.py
export HF_HUB_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.PHONY: help venv dev edit test test-all golden lint types style check wheel miniatures default clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | sed -E 's/:[^#]*## /\t/' | expand -t 14

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer found: install one, or make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "error: $(PYTHON) cannot make environments; on Debian and Ubuntu: apt install python3-venv"; exit 1; }

.venv/.base: setup.py | $(BIN)/python
	@test -e .venv/.dev || echo "Installing torch, diffusers and transformers into .venv: a few minutes, once."
	$(PIP) -e .
	@touch $@

.venv/.dev: setup.py | $(BIN)/python
	@echo "Installing the development tools into .venv: a few minutes, once."
	$(PIP) -e '.[dev]'
	@touch $@ .venv/.base

venv: .venv/.base ## make .venv with what editing needs

dev: .venv/.dev ## make .venv with what development needs

edit: .venv/.base ## edit a picture: make edit INSTRUCTION="..." IMAGE=photo.png
	@mkdir -p out
	$(BIN)/insightedit edit "$(IMAGE)" "$(INSTRUCTION)" -o out/edited.png --before-after out/before_after.png $(ARGS)

test: lint types ## style, types and the tests that need neither GPU, network nor patience
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

test-all: lint types ## the slow and the multi-process tests too; GPU tests where there is one
	$(BIN)/python -m pytest -m "not network" $(ARGS)

golden: .venv/.dev ## write the recipes' golden losses anew; git diff shows what changed, the commit says why
	$(BIN)/python -m tests.training.golden $(ARGS)

lint: .venv/.dev ## complain about style and spelling
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/codespell insightedit data_recipes tests configs stages docs *.md

types: .venv/.dev ## check types
	$(BIN)/pyright --level error

style: .venv/.dev ## put files into style
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

check: lint types ## lint and types, no tests

wheel: .venv/.dev ## dist/*.whl
	$(BIN)/python -m build --wheel

miniatures: .venv/.dev ## train the miniature base models (hours on a CPU, resumable)
	$(BIN)/python -m insightedit.miniatures all --size mini $(ARGS)

default: .venv/.dev ## train the embedded default from nothing: make default MINUTES=60 (resumable)
	PYTHON=$(BIN)/python stages/default.sh $(ARGS)

clean: ## remove caches and build products; runs/, out/ and .venv/ stay
	rm -rf build dist ./*.egg-info .pytest_cache .ruff_cache .hypothesis
	find insightedit data_recipes tests configs -name __pycache__ -type d -prune -exec rm -rf {} +
