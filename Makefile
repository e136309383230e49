# `make` alone lists what there is. Every target is one line; `make -n TARGET` shows it.
SHELL := bash

CASE ?=
PRESET ?=
STOCK ?=
DATA ?=
SET ?=
CASES ?=
WAIT ?=
ARGS ?=

BIN := .venv/bin
OPTIONS = $(if $(PRESET),--preset $(PRESET)) $(if $(DATA),--data "$(DATA)")
ONLY = $(if $(STOCK),--only "$(STOCK)")

# A mistyped variable would train something else without a word.
KNOWN := CASE PRESET STOCK DATA SET CASES WAIT ARGS
GIVEN := $(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name)))
$(if $(filter-out $(KNOWN) BIN,$(GIVEN)),$(error there is no variable $(filter-out $(KNOWN) BIN,$(GIVEN)): use $(KNOWN)))

.DEFAULT_GOAL := help
.PHONY: help demo test test-long check submit submit-all render dry-run status logs monitor cancel report summary cluster-up cluster-down cluster-status clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2} /^## /{print substr($$0, 4)}' Makefile

demo: .venv/.ready ## the whole way in minutes: train on 2 processes, interrupt, resume, report
	@$(BIN)/hpc demo $(ARGS)

test: .venv/.ready ## every test but the long ones, side by side; ARGS="-k name" picks some
	@env -u MAKELEVEL -u MAKEFLAGS -u MFLAGS $(BIN)/python -m pytest -n auto $(ARGS)

test-long: .venv/.ready ## the long ones: more kills of the same kinds
	@env -u MAKELEVEL -u MAKEFLAGS -u MFLAGS $(BIN)/python -m pytest -n auto -m long $(ARGS)

check: .venv/.ready ## ruff and mypy
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

submit: .venv/.ready ## train CASE: on Slurm where there is one, else on this machine
	@$(BIN)/hpc submit $(CASE) $(OPTIONS) $(ONLY) $(if $(WAIT),--wait) $(SET) $(ARGS)

submit-all: .venv/.ready ## train CASES="full_market reduced" side by side; ARGS=--yes asks nothing
	@$(BIN)/hpc submit-all $(CASES) $(OPTIONS) $(if $(WAIT),--wait) $(addprefix --set ,$(SET)) $(ARGS)

render: .venv/.ready ## print the sbatch script of CASE and nothing else
	@$(BIN)/hpc render $(CASE) $(OPTIONS) $(ONLY) $(SET) $(ARGS)

dry-run: .venv/.ready ## show what submit would do
	@$(BIN)/hpc submit $(CASE) $(OPTIONS) $(ONLY) --dry-run $(SET) $(ARGS)

status: .venv/.ready ## every run, and what it does now
	@$(BIN)/hpc status $(CASE) $(ONLY) $(ARGS)

logs: .venv/.ready ## the log of CASE
	@$(BIN)/hpc logs $(CASE) $(ONLY) $(ARGS)

monitor: .venv/.ready ## follow the runs until you press Ctrl-C
	@$(BIN)/hpc monitor $(CASE) $(ONLY) $(ARGS)

cancel: .venv/.ready ## end the run of CASE
	@$(BIN)/hpc cancel $(CASE) $(ONLY) $(ARGS)

report: .venv/.ready ## write the report of CASE again
	@$(BIN)/hpc report $(CASE) $(ONLY) $(ARGS)

summary: .venv/.ready ## the results of all runs of CASE side by side: table, CSV, HTML
	@$(BIN)/hpc summary $(CASE) $(if $(PRESET),--preset $(PRESET)) $(ARGS)

cluster-up: ## a real Slurm of 4 nodes x 8 fake A100s on this machine
	@python3 slurm/devcluster up $(ARGS)

cluster-down: ## end it and leave nothing behind
	@python3 slurm/devcluster down $(ARGS)

cluster-status: ## its daemons and nodes
	@python3 slurm/devcluster status $(ARGS)

clean: ## remove the environment and the caches; runs/ stays
	@rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist

.venv/.ready: pyproject.toml constraints.txt
	@.ci/environment .venv && touch .venv/.ready

## variables: CASE=crypto  PRESET=small|demo  DATA=folder of bars  SET="training.batch_size=16 resources.gpus=4"
##            STOCK=AAPL or "AAPL XOM" takes some runs of a case that has many
##            WAIT=1 follows to the end  CASES="full_market reduced"  ARGS=anything more
