# `make help` lists what there is. Everything lives in .venv and .run; `make clean` removes both.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
WORKERS := 2
STAMP := $(VENV)/.installed
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

# An environment that was copied from elsewhere, or whose Python is gone, is made again.
FIT := $(shell [ -x $(BIN)/python ] && [ "$$(cat $(STAMP) 2>/dev/null)" = "$$PWD" ] && echo yes)

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: $(STAMP) ## Run the main job on the embedded default with demo tenants; TENANTS=file.yaml runs your own
	@ops/ensure-redis.sh
	@exec $(BIN)/connectors up $(if $(TENANTS),--tenants "$(TENANTS)",--demo)

.PHONY: test
test: $(STAMP) ## Unit, contract and end-to-end tests with real processes; WORKERS=0 runs them one after another
	@ops/install-test-servers.sh
	@ops/install-prism.sh || true   # the tests themselves say what is missing
	$(BIN)/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

.PHONY: test-all
test-all: ## As `test`, with the long ones (marked `long`), and more of what is generated
	@WITH_CHROMIUM=1 HYPOTHESIS_PROFILE=thorough $(MAKE) --no-print-directory test PYTEST_ARGS="-m 'long or not long' $(PYTEST_ARGS)"

.PHONY: screenshots
screenshots: $(STAMP) ## Take the pictures of the dashboard in docs/screenshots anew, from the demo, with Chromium
	@WITH_CHROMIUM=1 ops/install-test-servers.sh
	SCREENSHOTS=docs/screenshots $(BIN)/python -m pytest -m long tests/browser -k pictures

.PHONY: bench
bench: $(STAMP) ## Measure what the design asks for; BENCH_ARGS="reads --write" names benchmarks, writes docs/performance.md
	@ops/install-bench-servers.sh
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

.PHONY: bench-short
bench-short: $(STAMP) ## As `bench`, in a few minutes: to try it out, not for the record
	@ops/install-bench-servers.sh
	$(BIN)/python -m benchmarks --short $(BENCH_ARGS)

.PHONY: contracts
contracts: $(STAMP) ## Tell where the vendors' specifications are taken from, and install Prism, which speaks them
	@$(BIN)/python -m tests.contract.specifications
	@ops/install-prism.sh

.PHONY: lint
lint: $(STAMP) ## ruff, mypy and the arrows between modules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: format
format: $(STAMP) ## Let ruff write what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: docs
docs: $(STAMP) ## Write the generated tables in docs/ again
	$(BIN)/python docs/generate.py

.PHONY: lock
lock: $(STAMP) ## Write the lock files from pyproject.toml; LOCK_ARGS=--upgrade takes the newest versions
	$(LOCK) $(LOCK_ARGS) --extra gcp --extra web --extra embedded --output-file requirements.lock pyproject.toml
	$(LOCK) $(LOCK_ARGS) --extra gcp --extra web --extra embedded --group dev --constraints requirements.lock --output-file requirements-dev.lock pyproject.toml
	$(LOCK) $(LOCK_ARGS) --group build --constraints requirements-dev.lock --output-file requirements-build.lock

.PHONY: stack
stack: ## Start everything of docker-compose.yml and wait until it is healthy
	ops/compose/make-secrets.sh
	docker compose up --build --detach --wait

.PHONY: clean
clean: ## End what runs here, then remove .venv, .run and every cache
	@if [ -x $(BIN)/connectors ] && [ -d .run ]; then $(BIN)/connectors down || true; fi
	rm -rf $(VENV) .run tests/contract/node_modules dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml requirements-dev.lock $(if $(FIT),,unfit)
	@PYTHON="$(PYTHON)" ops/venv.sh

.PHONY: unfit
unfit:
