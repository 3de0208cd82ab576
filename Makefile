# make demo | test | test-slow | check | bench : each makes the virtual environment first when it is missing.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow check bench format clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,ray]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/basewise scan examples/chr22_20-21Mb.fa.gz --genes examples/chr22_20-21Mb.genes.bed -o demo_out --force
	@echo
	@echo "Open demo_out/report.html in a browser, demo_out/sites.bed.gz and demo_out/plus.bw, minus.bw in IGV or the UCSC browser."

test: $(VENV)/.installed
	$(BIN)/python -m pytest

test-slow: $(VENV)/.installed
	$(BIN)/python -m pytest -m slow

check: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) demo_out .pytest_cache .mypy_cache .ruff_cache
