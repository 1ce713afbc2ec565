# Everything that a person or CI does with the project, by name; `make` alone lists it.

PYTHON ?= python3
# The demo's run folder; empty leaves the choice to `pixel-llm demo`.
DEMO_OUT ?=
PYTEST_ARGS ?=

BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: help setup demo test test-slow lint format types docs benchmark clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name text; do printf 'make %-10s  %s\n' "$$name" "$$text"; done

setup: $(INSTALLED)  ## make .venv and install the package with its tools (once; PYTHON=python3.12 chooses the Python)

$(INSTALLED): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) was not found: install Python 3.11 or newer, or name one with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed, but $(PYTHON) is `$(PYTHON) -V 2>&1`: name another with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "$(PYTHON) cannot make virtual environments: install its venv module (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "Setting up .venv: PyTorch is large, so the first time takes some minutes."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup  ## train on drawn shapes, caption held-out ones (about 8 minutes on two cores; DEMO_OUT=folder)
	$(BIN)/pixel-llm demo $(if $(DEMO_OUT),--out '$(DEMO_OUT)')

test: setup  ## the quick tests (PYTEST_ARGS='-k name' adds to the command)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

test-slow: setup  ## the tests marked slow
	$(BIN)/python -m pytest -m 'slow and not gpu' $(PYTEST_ARGS)

lint: setup  ## check format and style
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: setup  ## put format and what can be of style right
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: setup  ## check the types
	$(BIN)/mypy

docs: setup  ## write the page of all settings anew, systems/pixel_llm/docs/settings.md
	$(BIN)/python -m systems.pixel_llm.cli.settings_page systems/pixel_llm/docs/settings.md

benchmark: setup  ## compare speed and size with peers (installs what it compares against)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[benchmarks]'
	$(BIN)/python -m benchmarks

clean:  ## remove caches and build output; .venv and runs stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find systems tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
