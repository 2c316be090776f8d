# make demo   sets everything up and runs the seed experiment, simulated, from raw frames to physics
# make test   sets everything up and runs the tests
# make test-long  runs those that take long and mostly repeat others with more data, faults or workers
# make mutate  do the tests notice wrong science? mutations of the modules changed since SINCE, or of MODULES="files, folders, file:line"
# make coverage  branch coverage as a report: science, then the rest
# make check  format, lint, types, architecture
# make fuzz  damages N simulated sessions, from SEED on, and processes what is left: nothing but the damage may be lost, and it is told
# make bench  speed and memory as ratios

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# one BLAS thread: the work is spread over blocks of trains, not inside small matrices
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

# a hundred processes import the same modules
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-long mutate fuzz coverage check bench format schemas clean

$(READY): pyproject.toml .ci/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c .ci/constraints.txt -e '.[test]'
	$(BIN)/python -m compileall -q schemas pipeline flows trxas.py
	touch $@

demo: $(READY)
	$(BIN)/trxas demo --out demo

# three on two cores: servers and disks are waited for
JOBS ?= 3

test: $(READY)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder tests

test-long: $(READY)
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m long tests

SINCE ?= HEAD
MODULES ?=
N ?= 40
SEED ?= 13

mutate: $(READY)
	$(BIN)/python -m tests.mutate --since $(SINCE) -n $(N) --seed $(SEED) $(MODULES)

fuzz: $(READY)
	$(BIN)/python -m tests.fuzz -n $(N) --seed $(SEED)

# the lines of compiled kernels count only where they run without compilation: small inputs, or it takes hours
UNCOMPILED := tests/science/test_kernels.py tests/science/spectra/test_estimate.py tests/science/sums/test_accumulate.py \
	tests/science/detector/test_dark.py tests/science/detector/test_flat_sample.py tests/science/kinetics/test_model.py \
	tests/stages/test_bin.py

coverage: $(READY)
	$(BIN)/python -m coverage erase
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m coverage run -m pytest -p no:xdist $(UNCOMPILED)
	-$(BIN)/python -m coverage run -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder tests
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --include='pipeline/science/*'
	$(BIN)/python -m coverage report --omit='pipeline/science/*'

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
	rm -rf demo bench .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
