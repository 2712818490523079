# Peregrine. `make serve` and `make test` do everything on a fresh machine; `make help` lists the rest.

MODEL  ?= smollm2-135m-instruct
TARGET ?= auto
KV     ?=
HOST   ?= 127.0.0.1
PORT   ?= 8080
ARGS   ?=
REASON ?=
export REASON
PYTHON ?= python3

VENV := .venv
BIN  := $(VENV)/bin
LM_EVAL := build/lm-eval
PIP  := $(BIN)/python -m pip --disable-pip-version-check --quiet
# What an installation depends on: the native library is compiled by it.
INSTALLED_FROM := pyproject.toml setup.py constraints.txt $(wildcard build_backend/*.py runtime/native/*.py runtime/native/src/*)

# TensorRT's packages are large, so that only who names such a target gets them.
TENSORRT := $(filter tensorrt tensorrt-rtx,$(TARGET))
READY    := $(VENV)/.installed$(addprefix -,$(TENSORRT))
ENGINE   := --target $(TARGET) $(if $(KV),--kv $(KV))

SERVING := contract.py page.py properties.py in_flight.py readme.py

.DEFAULT_GOAL := help
.PHONY: help setup serve engine test test-ray test-linear invariance sanitize fuzz fuzz-api soak screenshots check lint format gpu bench load peers startup figures perf perf-accept reward-head reward-accuracy lm-eval parity clean

help: ## list the targets and variables
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 17
	@echo
	@echo 'variables: MODEL=$(MODEL) TARGET=$(TARGET) KV=$(KV) HOST=$(HOST) PORT=$(PORT) ARGS=$(ARGS) PYTHON=$(PYTHON)'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo 'error: Python 3.11 or newer is needed: make PYTHON=python3.12 ...' >&2; exit 2; }
	@echo 'making the virtual environment $(VENV)'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(INSTALLED_FROM) | $(BIN)/python
	@echo 'installing Peregrine and what it runs on'
	@$(PIP) install -c constraints.txt -e '.[cpu,build]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo 'installing the tools for development'
	@$(PIP) install -c constraints.txt -e '.[cpu,build,dev]'
	@$(PIP) install -c constraints.txt 'tensorrt-rtx>=1.7.1,<1.8' \
	  || echo 'TensorRT-RTX cannot be installed here: tests that compile for GPUs will be skipped'
	@touch $@

$(VENV)/.installed-tensorrt%: $(VENV)/.installed
	@echo 'installing what compiles for $(TENSORRT)'
	@$(PIP) install -c constraints.txt -e '.[cpu,build,$(TENSORRT)]'
	@touch $@

setup: $(READY) ## make the virtual environment and install

serve: $(READY) ## build the engine if need be and serve MODEL on HOST:PORT (ARGS: more flags)
	@exec $(BIN)/peregrine serve $(MODEL) $(ENGINE) --host $(HOST) --port $(PORT) $(ARGS)

engine: $(READY) ## compile MODEL for TARGET (ARGS: more flags)
	@$(BIN)/peregrine build $(MODEL) $(ENGINE) $(ARGS)

format: $(VENV)/.installed-dev ## format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix-only .

lint: $(VENV)/.installed-dev ## check format, lint and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

check: lint ## lint, and the tests that need no server: under a minute
	@$(BIN)/pytest -q tests/unit tests/synthetic $(ARGS)

test: lint ## everything that needs no GPU, with the coverage floor
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

test-ray: $(VENV)/.installed-dev ## the serving tests on a Ray cluster of two nodes, and its own: minutes
	@$(PIP) install -c constraints.txt -e '.[cpu,build,dev,ray]'
	@$(BIN)/pytest -q tests/fleet $(ARGS)
	@PEREGRINE_TEST_RAY=1 $(BIN)/pytest -q $(addprefix tests/e2e/test_,contract.py page.py properties.py) $(ARGS)

test-linear: $(VENV)/.installed-dev ## the serving tests on the float32 engine with linear KV slots: minutes
	@PEREGRINE_TEST_KV=linear $(BIN)/pytest -m 'not paged' $(addprefix tests/e2e/test_,$(SERVING)) $(ARGS)

invariance: $(VENV)/.installed-dev ## every text in all steps, companies and threads against its run alone: a quarter of an hour
	@$(BIN)/pytest -q -m soak tests/e2e/test_invariance.py $(ARGS)

sanitize: $(VENV)/.installed-dev ## the native library under the address, undefined behaviour and thread sanitizers of g++
	@$(BIN)/pytest -q -m sanitize tests/synthetic/native/test_sanitizers.py $(ARGS)

fuzz-api: $(VENV)/.installed-dev ## thousands of calls that the API's description allows or not, others each time: minutes
	@PEREGRINE_FUZZ_EXAMPLES=$(or $(EXAMPLES),300) $(BIN)/pytest -q tests/http/test_fuzz.py $(ARGS)

fuzz: $(VENV)/.installed-dev ## coverage-guided fuzzing of TARGET=bodies|constraints|files|gguf|messages|outputs|templates|wire, RUNS=...
	@$(PIP) install -c constraints.txt -e '.[cpu,build,dev,fuzz]'
	@PYTHONPATH=.:tests $(BIN)/python -m fuzz $(TARGET) --runs $(or $(RUNS),100000) --folder build/fuzz/$(TARGET) $(ARGS)

soak: $(VENV)/.installed-dev ## overlapping requests, faults and overload against real servers: half an hour (docs/reliability.md)
	@$(BIN)/python -m benchmarks.soak.requests
	@$(BIN)/python -m benchmarks.soak.chaos --json build/soak/chaos.json
	@$(BIN)/python -m benchmarks.soak.overload --json build/soak/overload.json
	@$(BIN)/python -m benchmarks.soak.restart
	@$(BIN)/python -m benchmarks.soak.swap
	@$(BIN)/python -m benchmarks.soak.metrics

screenshots: $(VENV)/.installed-dev ## the pictures of /ui in the docs, with the default model and a Chromium
	@PYTHONPATH=.:tests:tests/e2e $(BIN)/python tests/e2e/screenshots.py docs/figures

gpu: $(VENV)/.installed-dev ## run what of the GPU targets this machine allows; report in build/gpu_check.json
	@$(BIN)/python -m benchmarks.gpu_check $(ARGS)

bench: $(VENV)/.installed-dev ## measure the served default model (ARGS: see benchmarks/serve.py)
	@$(BIN)/python -m benchmarks.serve --model $(MODEL) $(ARGS)

load: $(VENV)/.installed-dev ## open- or closed-loop load on a server of its own, or ARGS='--url ...' (docs/benchmarks.md)
	@$(BIN)/python -m benchmarks.load --model $(MODEL) $(ARGS)

peers: $(VENV)/.installed-dev ## other engines beside this one, each installed by itself: an hour, 8 GB (docs/peers.md)
	@$(BIN)/python -m benchmarks.peers $(ARGS)

startup: $(VENV)/.installed-dev ## cold and warm starts, memory of each process, installed size
	@$(BIN)/python -m benchmarks.startup --model $(MODEL) $(ARGS)

figures: $(VENV)/.installed-dev ## measure and draw the figures of docs/benchmarks.md: five minutes on an idle machine
	@$(PIP) install -c constraints.txt -e '.[cpu,build,dev,bench]'
	@mkdir -p build/figures
	@$(BIN)/python -m benchmarks.load --rate 1 2 4 5 6 7 8 9 --slo ttft=1.0,tpot=0.05 --json build/figures/load.json
	@$(BIN)/python -m benchmarks.scaling --json build/figures/scaling.json
	@$(BIN)/python -m benchmarks.steps --json build/figures/steps.json
	@$(BIN)/python -m benchmarks.plots docs/figures $(addprefix build/figures/,load.json scaling.json steps.json)
perf: $(VENV)/.installed ## the regression gate: exact counters, timings as ratios (ARGS: --wide, --counters, --repeat N)
	@$(BIN)/python -m benchmarks.regression $(ARGS)

perf-accept: $(VENV)/.installed ## make what is measured now the baseline of that gate, with a REASON="..."
	@$(BIN)/python -m benchmarks.regression --accept "$$REASON" $(ARGS)

reward-head: $(VENV)/.installed ## train the score head of the default reward model
	@$(BIN)/python -m build_engine.reward_head $(ARGS)

reward-accuracy: $(VENV)/.installed ## build that model and measure it on what the head was not trained on
	@$(BIN)/peregrine build smollm2-135m-reward
	@$(BIN)/python -m build_engine.reward_head --evaluate smollm2-135m-reward $(ARGS)

$(LM_EVAL)/.installed: | $(BIN)/python
	@echo 'installing lm-eval into $(LM_EVAL)'
	@$(BIN)/python -m venv $(LM_EVAL)
	@$(LM_EVAL)/bin/python -m pip --disable-pip-version-check --quiet install 'lm-eval[api]==0.4.13' 'transformers>=5,<6'
	@touch $@

lm-eval: $(VENV)/.installed $(LM_EVAL)/.installed ## lm-eval on the served default model, and its figures without a server
	@$(BIN)/python -m benchmarks.lm_eval --lm-eval $(LM_EVAL)/bin/lm_eval --model $(MODEL) $(ARGS)

parity: $(VENV)/.installed-dev ## recompute the goldens with PyTorch and compare
	@$(PIP) install -c constraints.txt -e '.[cpu,build,dev,parity]'
	@$(BIN)/pytest -q -m parity $(ARGS)

clean: ## remove the virtual environment, caches and build products (engines stay in their cache)
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage*
	rm -f runtime/native/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
