# One target a job; each does all its own set-up. GATEWAY_DATA_DIR chooses where the state lives (default data/).
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MANAGE := $(BIN)/python manage.py
NPM := $(shell command -v npm)
# Outside judges of the tests. Without npm, or when it fails, their tests are skipped and counted; CI must have them.
OUTSIDE_INSTALLED := tests/outside/node_modules/.package-lock.json
OUTSIDE := $(if $(GATEWAY_CI)$(NPM),$(OUTSIDE_INSTALLED))
POSTGRES := $(GATEWAY_CI)$(wildcard /usr/lib/postgresql/*/bin/postgres)
ON_POSTGRES := GATEWAY_TEST_DATABASE=postgres $(BIN)/python -m pytest
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: run test check demo bench soak fuzz audit requirements clean help

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 15

run: $(VENV)/run.stamp ## set up what is missing and start the whole gateway in the foreground
	@exec $(MANAGE) rungateway

demo: $(VENV)/run.stamp ## send a real study through the running gateway and show each step
	@exec $(MANAGE) demo

test: $(VENV)/dev.stamp $(OUTSIDE) ## the whole test suite, and what works with the database on PostgreSQL too
	$(BIN)/python -m pytest -n 3 --dist loadgroup $(PYTEST_ARGS)
	$(if $(POSTGRES),$(ON_POSTGRES) -n 3 --dist loadgroup $(PYTEST_ARGS))

check: $(VENV)/dev.stamp ## the gate: format, lint, types, import contracts, deployment checks, migrations
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python -m gateway_project.checks

bench: $(VENV)/dev.stamp ## the hot paths beside the best peers on this machine
	$(BIN)/python -m benchmarks

soak: $(VENV)/dev.stamp $(OUTSIDE) ## an hour (GATEWAY_SOAK_MINUTES) of mixed load with kills, and hundreds of kill rounds
	$(BIN)/python -m pytest -m soak -p no:xdist $(PYTEST_ARGS)
	$(if $(POSTGRES),$(ON_POSTGRES) -m "soak or not soak" -n 2 --dist loadgroup $(PYTEST_ARGS))

fuzz: $(VENV)/dev.stamp ## strange bytes for whatever reads a peer's, led by coverage; SECONDS_OF_FUZZ=600 in all
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS_OF_FUZZ),600)

audit: $(VENV)/dev.stamp ## known faults in dependencies, and a bill of materials (build/sbom.json)
	@mkdir -p build
	$(BIN)/pip-audit --disable-pip -r requirements.txt
	$(BIN)/pip-audit --disable-pip -r requirements.txt -f cyclonedx-json -o build/sbom.json

requirements: $(VENV)/dev.stamp ## compile requirements*.txt from requirements*.in
	$(BIN)/uv pip compile -q --generate-hashes --universal --python-version 3.11 requirements.in -o requirements.txt
	$(BIN)/uv pip compile -q --generate-hashes --universal --python-version 3.11 requirements-dev.in -o requirements-dev.txt

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("The gateway needs Python 3.11 or newer." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/run.stamp: requirements.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install -q --require-hashes -r requirements.txt
	@touch $@

$(VENV)/dev.stamp: requirements-dev.txt $(VENV)/run.stamp
	$(BIN)/python -m pip install -q --require-hashes -r requirements-dev.txt
	@touch $@

$(OUTSIDE_INSTALLED): tests/outside/package.json tests/outside/package-lock.json
	cd tests/outside && npm ci --loglevel error --ignore-scripts || [ -z "$(GATEWAY_CI)" ]

clean: ## remove the virtual environment and caches (never the data)
	rm -rf $(VENV) tests/outside/node_modules build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
