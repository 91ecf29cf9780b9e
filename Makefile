# `make` lists what there is. Everything runs in .venv, which `make setup` builds once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Leaves llama.cpp's never-loaded C++ library out of the build: a third of the compile time.
export CMAKE_ARGS ?= -DCMAKE_PROJECT_llama_cpp_INCLUDE=$(CURDIR)/build-support/no-common.cmake

.PHONY: help setup chat test check lint types imports unit torture bench clean

help:
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

$(VENV)/.run: pyproject.toml build-support/no-common.cmake
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.run
	$(BIN)/python -m pip install --quiet --group test --group lint
	touch $@

setup: $(VENV)/.run ## make the environment and install llmchat into it

chat: $(VENV)/.run ## set up, pull the starter, open the chat (or answer: make chat PROMPT="Why is the sky blue?")
	$(BIN)/llmchat pull smollm2:135m
	$(BIN)/llmchat run smollm2:135m $(if $(PROMPT),"$(PROMPT)")

test: $(VENV)/.dev lint types imports ## set up and run every check that CI runs
	$(BIN)/python -m pytest

check: lint types imports unit ## the quick loop before a commit

lint:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types:
	$(BIN)/mypy

imports:
	$(BIN)/lint-imports

unit:
	$(BIN)/python -m pytest tests/unit

torture: $(VENV)/.dev ## full counts of every torture test
	$(BIN)/python -m pytest -m torture

bench: $(VENV)/.dev ## measure, and write docs/performance.md
	$(BIN)/python -m benchmarks

clean: ## remove the environment and what tools left behind
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
