# `make demo` and `make test` set up what they need and may be run in any order, again and again.
# Every path here is relative: the checkout may lie below a folder with spaces.

ifndef PYTHON
PYTHON := $(shell for name in python3 python3.14 python3.13 python3.12 python3.11 python3; do \
  "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; done; echo "$$name")
endif

NEWEST := 1.18.33
OLDEST := 1.1.65

BIN := .venv/bin
STAMP := .venv/.installed
FETCHED_NEWEST := .opencode-bin/$(NEWEST)/opencode
FETCHED_OLDEST := .opencode-bin/$(OLDEST)/opencode

# The stamp holds the checkout's path: a copied or moved checkout's environment points elsewhere.
HERE := $(shell pwd)
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(HERE))
.PHONY: $(STAMP)
endif

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test live bench check format clean

help: ## What there is
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

demo: $(STAMP) ## Run the sample pipeline on a real OpenCode server, offline
	@$(BIN)/python -m opencode_reactor.opencode.binary >/dev/null 2>&1 || $(MAKE) --no-print-directory $(FETCHED_NEWEST)
	@$(BIN)/reactor demo

test: $(STAMP) $(FETCHED_NEWEST) $(FETCHED_OLDEST) ## Run every test, those against the real servers included
	@$(BIN)/coverage erase
	@# Side by side: the live tests mostly wait for a server, the others keep the other processor busy.
	@$(BIN)/coverage run -p -m pytest -q tests/live >.live.log 2>&1 & live=$$!; \
	trap 'kill $$live 2>/dev/null' INT TERM; \
	$(BIN)/coverage run -p -m pytest -q --ignore tests/live; others=$$?; \
	echo "Waiting for the tests against the real servers (they write to .live.log) …"; \
	wait $$live; live=$$?; cat .live.log; rm -f .live.log; \
	$(BIN)/coverage combine -q; $(BIN)/coverage report --skip-covered --skip-empty; \
	test $$others -eq 0 && test $$live -eq 0

live: $(STAMP) $(FETCHED_NEWEST) $(FETCHED_OLDEST) ## Run the tests against the real servers alone
	@$(BIN)/pytest -q tests/live

bench: $(STAMP) $(FETCHED_NEWEST) ## Measure speed beside peers; wants an idle machine
	@$(BIN)/python benchmarks/stage_latency.py
	@$(BIN)/python benchmarks/stream.py
	@$(BIN)/python benchmarks/store.py
	@$(BIN)/python benchmarks/startup.py

check: $(STAMP) ## Lint, format, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/basedpyright
	@$(BIN)/lint-imports

format: $(STAMP) ## Put the code into the house's form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean: ## Remove what was set up and fetched
	rm -rf .venv .opencode-bin .coverage .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(STAMP): pyproject.toml
	@command -v "$(PYTHON)" >/dev/null || { echo "$(PYTHON) was not found: install Python 3.11 or later, or name it: make PYTHON=…" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$$("$(PYTHON)" --version) is too old: Python 3.11 or later is needed. Name one: make PYTHON=python3.12" >&2; exit 1; }
	@# Made anew when it was not finished, made elsewhere, or its Python is gone.
	@[ "$$(cat $(STAMP) 2>/dev/null)" = "$(HERE)" ] && $(BIN)/python -m pip --version >/dev/null 2>&1 || { \
	  echo "Making .venv"; rm -rf .venv; "$(PYTHON)" -m venv .venv || { \
	    echo "Python's venv module does not work here (Debian and Ubuntu: install python3-venv)." >&2; exit 1; }; }
	@echo "Installing the package and its tools into .venv"
	@# Dependency groups need pip 25.1.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group dev
	@printf '%s' "$(HERE)" >$(STAMP)

.opencode-bin/%/opencode: | $(STAMP)
	@echo "Fetching opencode $* with npm"
	@$(BIN)/python -m opencode_reactor.opencode.binary $* .opencode-bin
