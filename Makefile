# `make` builds the environment, runs the pipeline and says where to look; `make test` checks everything.
SHELL := bash
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export VIRTUAL_ENV := $(CURDIR)/.venv

.PHONY: all repro test test-all check-reproducible lint format lock clean
all: repro

# The lock holds exact versions of everything; the project itself is installed in place, for the `pawprint` command.
$(BIN)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "pawprint needs Python 3.10 or newer; try make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

repro: $(BIN)/.installed
	dvc repro
	@python -m pawprint summary

# Two processes, which lend each other the core that one does not use: a stage spends half of a short run in its imports.
PYTEST := OMP_WAIT_POLICY=passive python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: $(BIN)/.installed lint
	$(PYTEST) -m "not slow"

test-all: $(BIN)/.installed lint
	$(PYTEST)

check-reproducible: $(BIN)/.installed
	python -m pytest tests/test_reproducible.py

lint: $(BIN)/.installed
	ruff check .
	ruff format --check .
	mypy

format: $(BIN)/.installed
	ruff check --fix .
	ruff format .

# Made with uv for every Python from 3.10 on and every platform; onnxruntime 1.24 has no wheels for 3.10.
lock:
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.10 --fork-strategy fewest --no-header \
		--no-annotate --no-emit-index-url --constraint <(echo 'onnxruntime<1.24') --output-file requirements.lock

clean:
	rm -rf .venv
