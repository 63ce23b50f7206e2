# Everything from a fresh clone: `make up` runs Usher on embedded servers, `make test` passes its tests.
# PYTHON=python3.12 make up chooses another interpreter (3.11 or later).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
PYTEST_ARGS ?=
# Tests mostly wait for servers: three at a time keep two cores busy. TEST_JOBS=0 runs them one after the other.
TEST_JOBS ?= 3

.DEFAULT_GOAL := help
.PHONY: help up down test chaos bench check lint format lock clean servers

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo '  ARGS and PYTEST_ARGS pass through: make up ARGS="--detach --port 9000", make test PYTEST_ARGS="-k verify" TEST_JOBS=0'

up: $(VENV)/.runtime servers ## Run the whole system on embedded servers (Ctrl-C stops it)
	@exec $(BIN)/usher up $(ARGS)

down: $(VENV)/.runtime ## Stop what `make up` started; data is kept
	@exec $(BIN)/usher down $(ARGS)

test: $(VENV)/.dev servers ## Run all tests on real servers, with coverage
	$(BIN)/python -m pytest -n $(TEST_JOBS) --dist loadfile --cov --cov-report=term $(PYTEST_ARGS)

bench: $(VENV)/.dev servers ## Measure Usher beside its peers; ARGS="--help" tells more
	@$(BIN)/python -m bench $(ARGS)

chaos: $(VENV)/.dev servers ## Break everything under load and count: the proof in docs/proof.md (minutes; ARGS=--list)
	@$(BIN)/python -m tests.chaos $(ARGS)

check: lint test ## What CI runs: format, lint, types, import rules, tests

lint: $(VENV)/.dev ## Check format, lint, types and import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev ## Format the code and fix what can be fixed by itself
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(VENV)/.dev ## Lock exact versions with hashes; ARGS=--upgrade takes the newest allowed
	$(BIN)/uv pip compile -q $(LOCK) $(ARGS) pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile -q $(LOCK) $(ARGS) --group dev -c requirements.txt pyproject.toml -o requirements-dev.txt

clean: ## Remove the virtual environment and all caches; .usher (your data) stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.* htmlcov
	find . -name __pycache__ -type d -not -path './.usher/*' -prune -exec rm -rf {} +

LOCK := --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --require-hashes

servers: $(VENV)/.made
	@$(BIN)/python -m local.install servers

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'usher: Python 3.11 or later is needed: PYTHON=/path/to/python3.12 make ...' >&2; exit 1; }
	@$(PYTHON) -m local.install venv
	@echo 'usher: making the virtual environment $(VENV)'
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.runtime: $(VENV)/.made requirements.txt local/launcher.py
	@echo 'usher: installing the locked dependencies'
	@$(PIP) -r requirements.txt
	@$(BIN)/python -m local.launcher
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime requirements-dev.txt
	@echo 'usher: installing the locked tools for tests and checks'
	@$(PIP) -r requirements-dev.txt
	@touch $@
