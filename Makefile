# One set-up for everything: a virtual environment in .venv, repaired where it differs from constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
STORE ?= store
RUN ?= runs/demo
export OMP_NUM_THREADS := 1

.PHONY: install demo test test-all tests-apart tests-together lint bench docs

install:
	@$(PYTHON) .ci/environment.py

demo: install
	@$(BIN)/python -m orchestrator.loso --dataset synthetic experiment=demo store=$(STORE) run.dir=$(RUN)

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/mypy
	@$(BIN)/python .ci/provenance.py

# Two halves side by side: tests that share one Ray and one road, and those that need none or start their own.
APART := tests/faults tests/models tests/preprocessing

test: lint
	@$(MAKE) --no-print-directory -j2 tests-apart tests-together ONLY='-m "not slow"'

test-all: lint
	@$(MAKE) --no-print-directory -j2 tests-apart tests-together

tests-apart:
	@$(BIN)/python -m pytest -o cache_dir=.pytest_cache/apart $(APART) $(ONLY)

tests-together:
	@$(BIN)/python -m pytest $(APART:%=--ignore=%) $(ONLY)

# preprocess_vs.py wants another checkout beside this one; noise.py and cohort.py are no matter of time; the last four are
# parts of others. tests/test_benchmarks.py runs each with --miniature.
NO_TIMES := preprocess_vs noise cohort machine made_clips made_shards video_variants
bench: install
	@for file in $(filter-out $(NO_TIMES:%=benchmarks/%.py),$(wildcard benchmarks/*.py)); do echo "== $$file"; $(BIN)/python $$file || exit 1; done

# The documentation as a site: open site/index.html. A link that leads nowhere is an error.
docs: install
	@$(BIN)/mkdocs build --quiet
	@echo "site/index.html"
