# `make` alone lists what there is to make. Everything sets itself up; see scripts/setup.

PORT ?= 8000
MAILBOX_SMTP_PORT ?= 2525
export PORT MAILBOX_SMTP_PORT

VENV := .venv/bin
PYTEST := $(VENV)/python -m pytest
TESTS ?=
BENCH ?=

.DEFAULT_GOAL := help
.PHONY: help run test check format bench pictures setup setup-dev setup-pictures setup-bench clean
MAKEFLAGS += --no-print-directory

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' Makefile

run: setup ## set everything up and start it: web, worker, local mailbox, a sample newsletter
	@exec $(VENV)/python -m newsletter demo --stop-with-parent

test: setup-dev ## the tests, on SQLite and once more on PostgreSQL
	@sh scripts/test $(TESTS)

check: setup-dev ## format, lint, types, tests: what CI runs
	@$(VENV)/ruff format --check --quiet .
	@$(VENV)/ruff check --quiet .
	@$(VENV)/mypy
	@sh scripts/test

format: setup-dev ## put the code in order
	@$(VENV)/ruff check --fix --quiet . ; $(VENV)/ruff format .

bench: setup-bench ## the benchmarks; prints rates and ratios (BENCH=--quick: 3 minutes)
	@$(VENV)/python -m benchmarks $(BENCH)

pictures: setup-pictures ## the pictures of README and docs (ONLY=pages, themes or demo)
	@$(VENV)/python -m tests.browser.pictures $(ONLY)

setup: ## .venv with what running needs
	@sh scripts/setup requirements.txt

setup-dev: ## .venv with what testing needs too
	@sh scripts/setup requirements-dev.txt

setup-pictures: setup-dev ## .venv with what the pictures need too
	@sh scripts/setup tests/browser/requirements.txt

setup-bench: setup-dev ## .venv with what the benchmarks need too
	@sh scripts/setup benchmarks/requirements.txt

clean: ## remove .venv and caches; keeps instance/, where the data is
	@rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -prune -exec rm -rf {} +
