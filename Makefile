# `make demo` and `make test` on a bare machine: they make .venv, install exact versions, and run.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# The first of these that is a Python this project runs on. Override: make test PYTHON=python3.13
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	2>/dev/null && echo $$python && break; done)
UV := $(shell sed -n 's/^uv==/uv==/p' constraints.txt)

.PHONY: demo test check format clean

demo: $(READY) ## the main job on real photos, with a gallery at the end
	@$(BIN)/imgflow demo

test: $(READY) ## all tests
	$(BIN)/python -m pytest -n auto

check: $(READY) ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "imgflow needs Python 3.11, 3.12 or 3.13 (make PYTHON=...)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$(UV)"
	$(BIN)/uv pip install --python $(BIN)/python --constraint constraints.txt --editable ".[dev]"
	@touch $@

clean: ## everything that was installed; photos and results stay
	rm -rf $(VENV)
