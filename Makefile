# Everything that is done with this checkout. Each target sets up what it needs.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
# Shapes are checked in the first call of the tests; the hook that does it breaks torch.compile.
UNHOOKED := -o addopts="--import-mode=importlib --strict-markers"

.PHONY: setup demo test test-all check fix bench paper docs wheel clean

setup: .venv/ready                     ## make .venv with all that is needed, the kernels included

.venv/ready: pyproject.toml constraints.txt $(wildcard native/*.txt native/*/*.* native/*/*/*.*)
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, this is " + sys.version)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) torch numpy scikit-build-core cmake ninja
	$(PIP) --no-build-isolation --editable '.[dev,plot,log,serve,test-serve,test-gpu]'
	touch $@

demo: setup                            ## train a small model on Python's standard library
	$(BIN)/receptance demo

test: setup                            ## the tests; slow ones left out
	$(BIN)/python -m pytest -q -n auto --dist worksteal -m "not slow and not unhooked"
	$(BIN)/python -m pytest -q -m "unhooked and not slow" $(UNHOOKED)

test-all: test                         ## all tests
	$(BIN)/python -m pytest -q -m "slow and not unhooked"
	$(BIN)/python -m pytest -q -m "slow and unhooked" $(UNHOOKED)

check: setup                           ## format, lint, types, layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror $$(find native -name '*.cpp' -o -name '*.h')

fix: setup                             ## what of that can be mended by a tool
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $$(find native -name '*.cpp' -o -name '*.h')

bench: setup                           ## the benchmarks
	for each in benchmarks/bench_*.py; do $(BIN)/python $$each || exit 1; done

paper: setup                           ## each script of the paper, as small as proves it
	$(BIN)/python -m paper.all

docs: setup                            ## what is generated in docs/
	$(BIN)/cog -r docs/reference/*.md

wheel: setup                           ## one wheel for every Python, in dist/
	$(BIN)/python -m pip --disable-pip-version-check wheel --quiet --no-build-isolation --no-deps --wheel-dir dist .

clean:                                 ## remove what was made, but not runs/
	rm -rf .venv build dist src/receptance/ops/*.so
