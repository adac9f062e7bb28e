# All targets use one virtual environment, .venv. It is repaired if it differs from constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
STORE ?= store
RUN ?= runs/demo
export OMP_NUM_THREADS := 1

.PHONY: install demo check test test-ci test-all tests-apart tests-together lint bench docs

install:
	@$(PYTHON) .ci/environment.py

demo: install
	@$(BIN)/python -m orchestrator.loso --dataset synthetic experiment=demo store=$(STORE) run.dir=$(RUN)

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/mypy
	@$(BIN)/python .ci/provenance.py

# check takes less than two minutes on two idle cores, test and test-ci (the tests that `test` leaves out) together less than an hour,
# test-all runs everything. The pytest marks decide which tests run; a test without a mark is fast (pyproject.toml, tests/conftest.py).
IN_CHECK := not medium and not ci and not slow
IN_TEST := not ci and not slow
IN_TEST_CI := ci and not slow

check: install
	@$(MAKE) --no-print-directory -j2 lint tests-apart tests-together ONLY='-m "$(IN_CHECK)"'

test: lint
	@$(MAKE) --no-print-directory -j2 tests-apart tests-together ONLY='-m "$(IN_TEST)"'

test-ci: install
	@$(MAKE) --no-print-directory -j2 tests-apart tests-together ONLY='-m "$(IN_TEST_CI)"'

test-all: lint
	@$(MAKE) --no-print-directory -j2 tests-apart tests-together

# Two pytest processes in parallel: tests that share one Ray session and one run, and tests that need no Ray or start their own.
APART := tests/faults tests/models tests/preprocessing

tests-apart:
	@$(BIN)/python -m pytest -o cache_dir=.pytest_cache/apart $(APART) $(ONLY)

tests-together:
	@$(BIN)/python -m pytest $(APART:%=--ignore=%) $(ONLY)

# Not run by `make bench`: preprocess_vs.py needs another checkout; noise.py and cohort.py measure no time; the last three are
# modules of other benchmarks. tests/test_benchmarks.py runs each with --miniature.
NO_TIMES := preprocess_vs noise cohort machine made_clips video_variants
bench: install
	@for file in $(filter-out $(NO_TIMES:%=benchmarks/%.py),$(wildcard benchmarks/*.py)); do echo "== $$file"; $(BIN)/python $$file || exit 1; done

# The documentation as a site: open site/index.html. A broken link is an error.
docs: install
	@$(BIN)/mkdocs build --quiet
	@echo "site/index.html"
