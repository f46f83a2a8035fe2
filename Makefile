# make demo: from a fresh checkout to a model that solves puzzles, in minutes.   make test: everything is checked.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install -q --disable-pip-version-check
PACKAGE := pyproject.toml constraints.txt

.PHONY: demo think test fast lint clean docs family-smoke pictures

demo: .venv/.demo
	$(BIN)/innerloop demo

# A real language model on this machine, no key: three ways to think about one-digit products at equal spending.
think: .venv/.demo
	$(PIP) -e ".[local]" -c constraints.txt
	$(BIN)/innerloop get smollm2
	$(BIN)/innerloop compare smollm2 examples/products.jsonl --limit 12 --think direct "vote(8, direct)" "best(8, verify, direct)" \
		--verify examples/check_product.py --budget 12k-tokens --samples 8 --out runs/think

# One worker a core, each with one thread: small tensors gain nothing from more. The order is that of tests/conftest.py.
# Compiled files are kept, whatever the environment says: reading 150 test files anew takes half a minute of each worker.
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/pytest -n auto --dist loadfile --no-loadscope-reorder

test: lint
	$(PYTEST)

fast: .venv/.test
	$(PYTEST) -m "not slow"

# A small version of the comparison of all systems, in minutes; the whole one is benchmarks/family.py without options.
family-smoke: .venv/.test
	rm -f runs/family_smoke.json
	$(BIN)/python benchmarks/family.py --tasks sudoku4 --seeds 0 --limit 100 --out runs/family_smoke.json

# Every picture of README and docs, from the bundled models and from results/, as they are now.
pictures: .venv/.test
	$(BIN)/python docs/picture.py demo-sudoku9
	$(BIN)/python docs/screens.py demo-sudoku9
	$(BIN)/python docs/ladder_picture.py results/ladder.jsonl
	$(BIN)/python docs/family_picture.py results/family.json
	$(BIN)/python docs/cost_picture.py results/cost_cpu.json

# The pages and the reference as a site, in site/. Nothing is fetched: neither by the build nor by the pages.
docs: .venv/.test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open site/index.html, or: $(PYTHON) -m http.server --directory site"

lint: .venv/.test
	$(BIN)/ruff check .
	$(BIN)/mypy

# Torch is named alone and first, so that pip takes the wheel its index offers for this machine.
$(BIN)/python:
	$(PYTHON) -m venv .venv

.venv/.demo: $(PACKAGE) | $(BIN)/python
	$(PIP) torch==2.13.0 -c constraints.txt
	$(PIP) -e ".[study,serve]" -c constraints.txt
	touch $@

.venv/.test: $(PACKAGE) | $(BIN)/python
	$(PIP) torch==2.13.0 -c constraints.txt
	$(PIP) -e ".[dev,study,solve]" -c constraints.txt
	touch $@

clean:
	rm -rf .pytest_cache .mypy_cache .ruff_cache build dist site *.egg-info
