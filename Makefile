# `make` builds the environment, runs the pipeline and says where to look. `make test` runs the
# checks that take seconds, `make test-all` all of them.
SHELL := bash
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export VIRTUAL_ENV := $(CURDIR)/.venv

.PHONY: all install repro test test-all check-reproducible lint format docs-pictures lock clean
all: repro

# The lock holds exact versions of everything. The project itself is installed in place, for the
# command `pawprint`.
$(BIN)/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "pawprint needs Python 3.10 or newer; try make PYTHON=python3.12")'
	@echo "building .venv from requirements.lock; on Linux a new one takes a download of 3.4 GB, most of it CUDA libraries"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

install: $(BIN)/.installed

repro: $(BIN)/.installed
	dvc repro
	@python -m pawprint summary

# Two processes, because a short stage spends half of its time in imports, on one core.
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

# Those in docs/pictures/, from the run of the last commit.
docs-pictures: $(BIN)/.installed
	python -m docs.make_pictures

# Resolved by uv for every platform and every Python from 3.10 on; onnxruntime 1.24 has no wheels
# for 3.10.
lock:
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.10 --fork-strategy fewest --no-header \
		--no-annotate --no-emit-index-url --constraint <(echo 'onnxruntime<1.24') --output-file requirements.lock

clean:
	rm -rf .venv
