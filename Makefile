# Every target makes the environment it needs: Python, make and git are enough to start.

.DEFAULT_GOAL := help

# Another environment's variables must not leak into ours; without bytecode every process would
# compile all that it imports.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME UV_PROJECT_ENVIRONMENT PYTHONDONTWRITEBYTECODE

# A shim named uv can be on PATH without working, hence the call.
UV := $(shell uv --version >/dev/null 2>&1 && command -v uv || echo .uv/bin/uv)
BIN := .venv/bin
PYTHONS := 3.12 3.13 3.14

# Stamps: an environment is synced again only when pyproject.toml changes.
DEMO_ENV := .venv/.synced-demo
FULL_ENV := .venv/.synced-full

.PHONY: help setup demo test test-slow format lint types floors docs release bench clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-10s %s\n", $$1, $$2 }' Makefile

setup: $(FULL_ENV)  ## make .venv with everything in it

demo: $(DEMO_ENV)  ## compare priors, and save what comes out in demo_output/
	$(BIN)/python examples/compare_priors.py

test: lint types floors docs  ## check everything: format, lint, types, floors, docs, tests
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --doctest-modules tests src

test-slow: $(FULL_ENV)  ## run the tests that take minutes
	$(BIN)/pytest -m slow

format: $(FULL_ENV)  ## rewrite the code in the house format
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

lint: $(FULL_ENV)  ## check format and style
	$(BIN)/ruff format --check
	$(BIN)/ruff check

types: $(FULL_ENV)  ## check the types
	$(BIN)/pyright

floors: $(FULL_ENV)  ## check that imports only go downwards
	$(BIN)/lint-imports

docs: $(FULL_ENV)  ## build the documentation into docs/_build/html
	$(BIN)/sphinx-build -W --keep-going docs docs/_build/html

# In a folder of its own, so that the package comes from the wheel. Pythons that are not here are named.
release: $(FULL_ENV)  ## build, and run README's script from the wheel on every Python at hand
	rm -rf dist build/release && mkdir -p build/release
	$(UV) build -q
	sed -n '/^```python/,/^```/p' README.md | grep -v '^```' > build/release/readme.py
	@set -e; for python in $(PYTHONS); do \
		if ! $(UV) python find -q --no-project "$$python" >/dev/null 2>&1; then \
			echo "Python $$python: not here"; continue; \
		fi; \
		echo "Python $$python"; env="build/release/$$python"; \
		$(UV) venv -q --no-project --python "$$python" "$$env"; \
		$(UV) pip install -q --python "$$env/bin/python" "$$(ls dist/*.whl)[plots]" scikit-learn; \
		"$$env/bin/python" build/release/readme.py; \
	done

bench: $(FULL_ENV)  ## run every benchmark
	@set -e; for script in $(wildcard benchmarks/*.py); do \
		echo "$$script"; $(BIN)/python "$$script"; \
	done

clean:  ## remove environment, caches and outputs
	rm -rf .venv .uv build dist demo_output docs/_build docs/generated
	rm -rf .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find src tests examples docs benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

# From outside, where .python-version cannot make pyenv insist on a Python that is not there yet.
.uv/bin/uv:
	cd / && python3 -m pip install --target "$(CURDIR)/.uv" uv

# --inexact: the demo's environment leaves alone what `setup` has added to it.
$(DEMO_ENV): pyproject.toml | $(UV)
	$(UV) sync --inexact --no-dev --extra plots --group examples
	@touch $@

$(FULL_ENV): pyproject.toml | $(UV)
	$(UV) sync --all-extras --all-groups
	@touch $(DEMO_ENV) $@
