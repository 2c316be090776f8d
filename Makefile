# make demo   sets everything up and runs the seed experiment, simulated, from raw frames to physics
# make test   sets everything up and runs the tests
# make test-long  runs the tests that repeat others with more data, faults or workers
# make check  format, lint, types, architecture
# make bench  speed and memory as ratios

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# one BLAS thread: the work is spread over blocks of trains, not inside small matrices
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: demo test test-long check bench format schemas clean

$(READY): pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	# what is imported is compiled then; all of it would take half as long again
	$(BIN)/python -m pip install --no-compile --quiet --disable-pip-version-check -c .ci/constraints.txt -e '.[test]'
	touch $@

demo: $(READY)
	$(BIN)/trxas demo --out demo

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests

test-long: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m long tests

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(READY)
	$(BIN)/python -m tests.benchmarks

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

schemas: $(READY)
	$(BIN)/python -m schemas.export

clean:
	rm -rf demo bench .pytest_cache .mypy_cache .ruff_cache .hypothesis
