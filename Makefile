# The commands of this project. `make demo` and `make test` do all the set-up themselves: they need Python 3.11+ only.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
JOBS ?= 2

.PHONY: demo test test-storage soak lint format check bench wheels requirements clean help

help:
	@echo "make demo      the brain on SQLite with real workers and traffic; prints address and login"
	@echo "make test      linters, the whole suite on SQLite, the storage tests on PostgreSQL, browser tests"
	@echo "make soak      the delivery, fuzz and fold tests with their long counts: about an hour"
	@echo "make lint      ruff, mypy, import-linter, migrations, deployment check, requirements"
	@echo "make format    format the code"
	@echo "make bench     events a second into SQLite and PostgreSQL"
	@echo "make wheels    build the brain's and the agents' wheels into dist/"

$(STAMP): requirements/dev.txt requirements/bootstrap.txt pyproject.toml $(wildcard agents/*/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "z4j needs Python 3.11 or newer; try: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e . $(foreach wheel,$(wildcard agents/z4j-*),-e ./$(wheel))
	@touch $@

demo: $(STAMP)
	@$(BIN)/python -m demo

test: lint
	@sh tests/browser.sh
	@$(BIN)/pytest -n $(JOBS) --dist loadfile
	@Z4J_TEST_DATABASE=postgresql $(BIN)/pytest -n $(JOBS) --dist loadfile -m storage

soak: $(STAMP)
	@Z4J_TEST_SOAK=1 $(BIN)/pytest tests/delivery tests/fuzz tests/brain/test_fold_machine.py agents/z4j-bare/tests/test_hostile_brain.py -q
	@Z4J_TEST_SOAK=1 Z4J_TEST_DATABASE=postgresql $(BIN)/pytest tests/brain/test_fold_machine.py -q

lint: $(STAMP)
	@$(BIN)/ruff format --check --quiet . || { echo "run: make format" >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@Z4J_HOME=$$(mktemp -d) $(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@Z4J_HOME=$$(mktemp -d) $(BIN)/python manage.py makemigrations --check --dry-run
	@Z4J_HOME=$$(mktemp -d) Z4J_PUBLIC_URL=https://z4j.example.com $(BIN)/python manage.py check --deploy --fail-level WARNING
	@sh requirements/export.sh --check

format: $(STAMP)
	@$(BIN)/ruff check --fix --quiet --exit-zero .
	@$(BIN)/ruff format --quiet .

bench: $(STAMP)
	@$(BIN)/python -m bench.ingest

wheels: $(STAMP)
	@$(BIN)/uv build --quiet --all-packages --wheel --out-dir dist

requirements: $(STAMP)
	@sh requirements/export.sh

clean:
	@rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
