# Everything is run through here, by people and by CI alike. Each target sets itself up:
# the first one makes .venv, later ones reuse it until pyproject.toml changes.
#
#   make demo      the product in front of your eyes, in under two minutes
#   make test      every test in one pytest run: unit, crash, deaths, e2e, examples
#   make lint types unit crash deaths e2e bench all soak clean
#   make cgroup2   caps and deaths in a virtual machine with cgroup v2 and systemd (needs qemu;
#                  RUN_IN_VM=... names the script that boots it, STAGES="systemd v1 nomemory")
#   make deaths-matrix   every death once, and docs/deaths.md from it
#   make coverage        every class of tests/coverage, and docs/coverage.md from it
#   make survival        cells that outgrow a cap, with and without the guard (docs/survival.md)
#
# PYTHON=python3.13 chooses the interpreter, VENV=... where the environment lives,
# ARGS="-k closures -x" is handed to pytest (or to bench and soak).

SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV ?= .venv
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null && $$p -c '$(NEW_ENOUGH)' 2>/dev/null && { echo $$p; break; }; done)
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)

# Absolute, so that a kernelspec written from here names a path that works from anywhere.
BIN := $(abspath $(VENV))/bin
READY := $(VENV)/.ready-$(VERSION)
PYTEST := $(BIN)/python -m pytest

.PHONY: help setup demo test lint types unit crash deaths deaths-matrix e2e all bench survival \
	coverage soak cgroup2 clean

help:
	@sed -n 's/^#   //p' Makefile

setup: $(READY)

$(READY): pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer found: install one, or say make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c '$(NEW_ENOUGH)' || { echo "$(PYTHON) is older than Python 3.11: say make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Setting up $(VENV) with $$($(PYTHON) --version) ..."
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) -m venv failed: on Debian and Ubuntu, apt install python$(VERSION)-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable ".[test,lint]"
	@touch $@

demo: $(READY)
	@$(BIN)/python examples/demo.py

test: $(READY)
	$(PYTEST) tests $(ARGS)

lint: $(READY)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .

types: $(READY)
	$(BIN)/python -m mypy

unit crash deaths e2e: $(READY)
	$(PYTEST) tests/$@ $(ARGS)

deaths-matrix: $(READY)
	$(PYTEST) tests/deaths/test_matrix.py --matrix docs/deaths.md $(ARGS)

all: lint types test

# Takes 25 minutes on a quiet machine; ARGS=--quick takes about one and says little.
# kishu gets a virtual environment of its own, benchmarks/.venv-kishu.
BENCH_READY := $(VENV)/.ready-bench-$(VERSION)
$(BENCH_READY): $(READY)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable ".[bench]"
	@touch $@

bench: $(BENCH_READY)
	$(BIN)/python benchmarks/bench.py $(ARGS)

# Capped kernels and cells that outgrow them: docs/survival.md. Eight minutes on a quiet machine.
survival: $(BENCH_READY)
	$(BIN)/python benchmarks/survival.py

# Every class of tests/coverage, killed and restored, and docs/coverage.md from it. Installs the
# extra "coverage": 5 GB of libraries. ARGS="--group stdlib" runs a part and only prints.
COVERAGE_READY := $(VENV)/.ready-coverage-$(VERSION)
$(COVERAGE_READY): $(READY)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable ".[coverage]"
	@touch $@

coverage: $(COVERAGE_READY)
	$(BIN)/python tests/coverage/coverage_table.py $(ARGS)

# Random cells against a dump of everything, then the same crash and end-to-end tests over
# and over, for as long as you let it.
ROUNDS ?= 10
soak: $(READY)
	CHECKPOINT_KERNEL_SOAK=1 $(PYTEST) -q tests/unit/test_unchanged_random.py $(ARGS)
	@for i in $$(seq $(ROUNDS)); do echo "round $$i of $(ROUNDS)"; $(PYTEST) -q -x tests/crash tests/deaths tests/e2e $(ARGS) || exit 1; done

STAGES ?=
cgroup2: $(READY)
	PYTHON=$(BIN)/python tests/in_vm.sh $(STAGES)

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
