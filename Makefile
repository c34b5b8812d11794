# Every target sets up what it needs; `.venv/.setup` is a stamp left only by a set-up that succeeded.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PROTOS := $(wildcard protos/headwater/v1/*.proto)

.PHONY: help setup demo test stress lint format protos bench clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(VENV)/.setup  ## install Headwater with every extra for CPU, and the developers' tools, into .venv

# The constraints pin torch: a looser range would pull gigabytes of CUDA libraries. Of openwakeword only two files of
# weights are read, by the tests of an audio backbone; what it asks for cannot be installed beside Python 3.12.
$(VENV)/.setup: pyproject.toml constraints.txt
	rm -f $@
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[all,dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps openwakeword==0.5.1
	touch $@

demo: setup  ## serve a real backbone, and watch two classifiers learn from it
	$(BIN)/headwater demo

test: setup  ## the tests (minutes)
	$(BIN)/python -m pytest -n 2 --dist loadfile

stress: setup  ## the long suites: fresh environments, kills, soak
	$(BIN)/python -m pytest -m stress --timeout=1800 -n 2 --dist loadfile

lint: setup  ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup  ## sort imports, format, mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos: setup  ## generate headwater/v1 from protos/
	$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=. --pyi_out=. --grpc_python_out=. $(PROTOS)

bench: setup  ## measure; each script writes its row to benchmarks/results
	for script in benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

clean:  ## remove what the other targets made
	rm -rf $(VENV) build dist *.egg-info demo-out .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
