# SPDX-License-Identifier: Apache-2.0
# Every target makes or refreshes .venv by itself: scripts/setup does nothing when the
# stamp of the pinned set is already there. Paths are relative: any folder name will do.

VENV_PYTHON := .venv/bin/python
.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench soak clean

help: ## Show this list
	@sed -n 's/^\([a-z]*\):[^#]*## /\1\t/p' Makefile | expand -t 10

setup: ## Make the virtual environment .venv from the pinned set
	@scripts/setup

demo: setup ## Run the whole loop on real recordings (KEEP=1 leaves the dashboard up)
	@KEEP="$(KEEP)" $(VENV_PYTHON) -m examples.watch.demo

test: setup ## Run the test suite (ARGS="tests/unit -k name" for a part)
	@$(VENV_PYTHON) -m pytest $(ARGS)

check: setup ## Lint, types, import contracts, sizes, spelling
	@$(VENV_PYTHON) -m ruff check .
	@$(VENV_PYTHON) -m ruff format --check .
	@$(VENV_PYTHON) -m mypy
	@.venv/bin/lint-imports
	@$(VENV_PYTHON) scripts/check_sizes.py
	@$(VENV_PYTHON) -m codespell_lib

bench: setup ## Run the measurements (NAME=x for one) and render their page
	@$(VENV_PYTHON) -m bench $(NAME)

soak: setup ## The long runs: the same tests with larger numbers
	@EDGELOOP_SOAK=1 $(VENV_PYTHON) -m pytest -m slow -s -o faulthandler_timeout=3600 $(ARGS)

clean: ## Remove what the targets made, .venv included
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
