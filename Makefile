# make demo   reproduce Figure 1 of the paper (quick preset) and print the table of agreement
# make test   lint, types, the test suite, and every claim of the project on trial (proofs_check --quick)
# make test-full   the same, and some 200 slower tests (tests/full.toml says why each may be left out)
# make docs   the documentation as a site in docs/_build/html; every warning is an error
# Each creates .venv first if it is missing. PYTHON names the interpreter that it is made from (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
# Compiled code outlives a process: what a second run would compile again, it reads.
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS ?= 0.01

.PHONY: demo test test-full docs clean

demo: .venv/installed
	$(BIN)/python -m experiments fig1a fig1b --preset quick --out out/demo

# There are as many workers as cores: linear algebra takes no second one.
test: export OMP_NUM_THREADS ?= 1
test: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --dist worksteal --durations=10 $(PYTEST)
	$(BIN)/python -m proofs_check --quick

test-full: PYTEST = --full
test-full: test

docs: .venv/installed-docs
	$(BIN)/sphinx-build -n -W --keep-going -q -b html docs docs/_build/html

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name it with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip

.venv/installed: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.venv/installed-test: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[proofs,experiments,parquet,examples]' --group test
	@touch $@ .venv/installed

.venv/installed-docs: .venv/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[tabular]' --group docs
	@touch $@ .venv/installed

clean:
	rm -rf .venv .cache out docs/_build
