# Every target sets up what it needs in .venv; stamp files make the second call quick.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Tests run in so many processes, a file in one of them, each with one thread.
WORKERS ?= 2
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Installed without its dependencies: rapidocr only carries the OCR weights that training imports, and
# its dependencies would bring a second OpenCV.
WITHOUT_DEPENDENCIES := rapidocr==3.10.0

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | column -t -s "$$(printf '\t')"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 …")'
	@echo "creating $(VENV)" >&2
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.base: pyproject.toml | $(BIN)/python
	@echo "installing mmllm into $(VENV)" >&2
	@$(PIP) --editable . >&2
	@touch $@

$(VENV)/.train: pyproject.toml Makefile | $(BIN)/python
	@echo "installing mmllm with its training tools into $(VENV) (torch: about 1 GB)" >&2
	@$(PIP) --editable '.[bench,train]' >&2
	@$(PIP) --no-deps $(WITHOUT_DEPENDENCIES) >&2
	@touch $(VENV)/.base $@

$(VENV)/.dev: pyproject.toml Makefile | $(BIN)/python
	@echo "installing mmllm with its development, export and training tools into $(VENV) (torch and converters: about 2.5 GB)" >&2
	@$(PIP) --editable '.[batch,bench,dev,export,serve,train]' >&2
	@$(PIP) --no-deps $(WITHOUT_DEPENDENCIES) >&2
	@touch $(VENV)/.base $(VENV)/.train $@

# IMAGE arrives through the environment, so that quotes and spaces in names stay whole.
.PHONY: caption
caption: $(VENV)/.base ## caption one picture: make caption IMAGE=examples/images/cows.jpg
	@[[ -n "$${IMAGE:-}" ]] || { echo "usage: make caption IMAGE=examples/images/cows.jpg" >&2; exit 2; }
	@$(BIN)/mmllm caption "$$IMAGE"

.PHONY: lint
lint: $(VENV)/.dev ## ruff, its formatter as a check, and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: test
test: lint ## everything that must hold before a change lands
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile
	$(BIN)/mmllm quality-gate

.PHONY: format
format: $(VENV)/.dev ## rewrite the code in its one format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: train
train: $(VENV)/.train ## run the recipe of the default model: make train ARGS="…"
	$(BIN)/python -m training $(ARGS)

.PHONY: clean
clean: ## remove build outputs and caches; .venv stays
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
