# `make` lists what there is. Everything runs in .venv, which `make setup` builds once.
BIN := .venv/bin
.PHONY: help setup dev chat test check lint types imports unit torture bench screenshots clean

help:
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

setup: ## make the environment and install llmchat into it
	@scripts/setup

dev: ## the same, with the tools of the tests
	@scripts/setup dev

chat: ## set up, pull the starter, open the chat (./start takes a prompt as well)
	@./start

# Many tests wait for processes and deadlines: two at a time keep two cores busy.
JOBS ?= 2

test: dev lint types imports ## set up and run every check that CI runs
	$(BIN)/python -m pytest -n $(JOBS)

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

torture: dev ## full counts of every torture test
	$(BIN)/python -m pytest -m torture

bench: dev ## measure, and write docs/performance.md
	$(BIN)/python -m benchmarks

screenshots: dev ## draw the README's pictures from the running app
	$(BIN)/python -m scripts.screenshots

clean: ## remove the environment and what tools left behind
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
