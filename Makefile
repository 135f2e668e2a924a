# Two commands for a fresh clone: `make run` and `make test`. Both make .venv first.
PYTHON ?= python3
BIN := .venv/bin
.PHONY: help run test test-slow faults lint types audit bench bench-all clean

help:            ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

.venv/.made: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

run: .venv/.made ## train the bundled default (handwritten digits), seconds
	$(BIN)/python -m imgcls

test: .venv/.made ## all fast tests
	$(BIN)/python -m pytest -n auto

test-slow: .venv/.made ## an hour: all that the fast tests leave out, real data where IMGCLS_DATA points at it
	$(BIN)/python -m pytest -m slow

faults: .venv/.made ## the part of it that breaks things on purpose: docs/reliability.md
	$(BIN)/python -m pytest -m slow tests/faults tests/sweeps

lint: .venv/.made ## ruff: errors and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/.made ## mypy
	$(BIN)/mypy

audit: .venv/.made ## known vulnerabilities of what is installed, as the package index has them
	$(BIN)/python .ci/audit.py

bench: .venv/.made ## training loop against bare PyTorch, and what became slower; start-up
	$(BIN)/python tests/bench/throughput.py
	$(BIN)/python tests/bench/startup.py

bench-all: bench ## also data path, sweeps and, with PEERS=folder of their checkouts, other programs: long
	$(BIN)/python tests/bench/data.py
	$(BIN)/python tests/bench/sweep.py
	$(BIN)/python tests/bench/together.py
	$(if $(PEERS),$(BIN)/python tests/bench/peers.py $(PEERS))
	$(if $(PEERS),$(BIN)/python tests/bench/airbench.py $(PEERS)/cifar10-airbench)

clean:           ## remove .venv and caches; runs in outputs/ stay
	rm -rf .venv .pytest_cache .hypothesis .mypy_cache .ruff_cache
