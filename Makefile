# One set-up for everything: a virtual environment in .venv, repaired where it differs from constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
STORE ?= store
RUN ?= runs/demo
export OMP_NUM_THREADS := 1

.PHONY: install demo test test-all lint bench

install:
	@$(PYTHON) .ci/environment.py

demo: install
	@$(BIN)/python -m orchestrator.loso --dataset synthetic experiment=demo store=$(STORE) run.dir=$(RUN)

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/mypy
	@$(BIN)/python .ci/provenance.py

test: lint
	@$(BIN)/python -m pytest -m "not slow"

test-all: lint
	@$(BIN)/python -m pytest

bench: install
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done
