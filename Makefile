# The two commands of the README, and `make docs`, which writes the generated parts of the docs. Each sets up what it
# needs in .venv, pinned by constraints.txt, and does so once.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STUDY  ?= studies/plateau.yaml
ARGS   ?=

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt

.PHONY: run test lint types unit docs clean
.DEFAULT_GOAL := run

run: $(VENV)/.installed-run
	$(BIN)/sweep run $(STUDY) $(ARGS)

test: lint types unit

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

unit: $(VENV)/.installed-dev
	$(BIN)/pytest -n auto $(ARGS)

docs: $(VENV)/.installed-dev
	$(BIN)/python -m docs.generate

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "plateau-sweep needs Python 3.11 or newer; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-run: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing plateau-sweep into $(VENV) (once; a few minutes)"
	$(BIN)/pip install --quiet --editable '.[offline]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing plateau-sweep and its development tools into $(VENV) (once; a few minutes)"
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.installed-run

clean:
	rm -rf $(VENV) build dist *.egg-info
