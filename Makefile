# Two commands do everything: `make quickstart` and `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
ARGS   ?=
# a process for each core; the tests of one file stay together, for they share what was trained or built for them
PARALLEL := --numprocesses logical --dist loadfile --no-loadscope-reorder

.PHONY: quickstart serve check test check-cuda lint bench docs drawings tour-weights readme-table clean help
.DEFAULT_GOAL := help

help:  ## say what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1	/' | expand -t 20

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Kun needs Python 3.11 or newer: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: requirements.lock pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(VENV)/.installed-for-development: requirements-dev.lock $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.lock
	@touch $@

quickstart: $(VENV)/.installed  ## install, fetch the models, read the handbook, answer two questions, serve
	$(BIN)/kun quickstart $(ARGS)

serve: $(VENV)/.installed  ## the web app and the API
	$(BIN)/kun serve $(ARGS)

check: lint  ## two minutes: the linters, and a quick share of every room's tests
	$(BIN)/python -m pytest -m quick $(PARALLEL) $(ARGS)

test: $(VENV)/.installed-for-development  ## every test, on as many processes as cores
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

check-cuda: $(VENV)/.installed-for-development  ## five minutes on a GPU; without one it says so
	$(BIN)/python -m benchmarks cuda $(ARGS)

lint: $(VENV)/.installed-for-development  ## ruff, mypy, import-linter, the rules of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tests/house.py

bench: $(VENV)/.installed-for-development  ## measure every figure and print the table
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(VENV)/.installed-for-development  ## build the site in both languages into site/
	$(BIN)/mkdocs build --strict

drawings: $(VENV)/.installed  ## draw the pictures of the handbook anew
	$(BIN)/python -c 'from pathlib import Path; from kun.tour.drawings.drawn import write_drawings; write_drawings(Path("examples/drawings"))'

tour-weights: $(VENV)/.installed  ## train the tour's networks of recall that ship, some minutes
	$(BIN)/python -c 'from pathlib import Path; from kun.tour.small.recall import write_readers; write_readers(Path("src/kun/tour/weights"))'

readme-table: $(VENV)/.installed  ## make README's table of what works anew, from the tour
	$(BIN)/python -m kun.tour.table README.md README.zh-CN.md

clean:  ## delete the environment and what was built
	rm -rf $(VENV) site build
