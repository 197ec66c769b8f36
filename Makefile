# `make` alone lists what there is to do. Nothing here needs root; everything it installs is in .venv.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help setup demo test check lint types imports lock trainer train bench chaos clean

# make setup PYTHON=python3.12   another Python than the first fitting one
PYTHON ?= python3
# make demo ARGS=--once, make test ARGS="-k normalize"
ARGS ?=
# make setup CUDA=1   compiles the engine for NVIDIA GPUs (needs the CUDA toolkit)
CUDA ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip --no-input

# LLAVA_BUILD=OFF: no image models. llama-build.cmake: none of llama.cpp's own programs.
ENGINE_FLAGS := -DLLAVA_BUILD=OFF -DCMAKE_PROJECT_llama.cpp_INCLUDE=$(CURDIR)/app/generation/llama-build.cmake $(if $(CUDA),-DGGML_CUDA=on) $(CMAKE_ARGS)
# pip keeps compiled wheels without regard to flags: one made for the CPU must not be taken for CUDA, nor be left for others.
CACHE := $(if $(CUDA)$(CMAKE_ARGS),--no-cache-dir)

help: ## list these targets
	@echo "Hyojun: Japanese chart notes to FHIR and SS-MIX2"
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo "Extra arguments: make demo ARGS=--once, make test ARGS='-k dates', make setup PYTHON=python3.12"

setup: $(STAMP) ## install everything into .venv (minutes the first time, nothing to do afterwards)

$(STAMP): requirements.lock pyproject.toml app/generation/llama-build.cmake
	@set -e; started=$$(date +%s); \
	python=; \
	for candidate in "$(PYTHON)" python3.13 python3.12 python3.11; do \
	  if command -v "$$candidate" >/dev/null 2>&1 && "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	  then python=$$candidate; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "Python 3.11 or later is needed, and $(PYTHON) is $$($(PYTHON) --version 2>&1 || true)." >&2; \
	  echo "Install one and say where it is: make setup PYTHON=/path/to/python3.12" >&2; exit 1; fi; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	  echo "$$python cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; fi; \
	if ! command -v "$${CXX:-g++}" >/dev/null 2>&1 || ! command -v "$${CC:-gcc}" >/dev/null 2>&1; then \
	  echo "A C++ compiler is needed for llama.cpp, and there is no $${CXX:-g++}; on Debian and Ubuntu: apt-get install g++" >&2; exit 1; fi; \
	echo "Installing into $(VENV) with $$("$$python" --version). The first time this compiles llama.cpp and takes minutes."; \
	if [ -e $(VENV) ] && ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then rm -rf $(VENV); fi; \
	[ -x $(BIN)/pip ] || "$$python" -m venv $(VENV); \
	CMAKE_ARGS="$(strip $(ENGINE_FLAGS))" $(PIP) install --quiet $(CACHE) --no-deps --require-hashes -r requirements.lock; \
	$(PIP) install --quiet --no-index --no-deps --no-build-isolation --editable .; \
	$(BIN)/python -m pip check >/dev/null || { echo "The installed packages do not fit each other:" >&2; $(BIN)/python -m pip check >&2; exit 1; }; \
	touch $@; echo "Installed in $$(($$(date +%s) - started)) s."

demo: setup ## convert the sample notes through database, queue, worker and API, then stay up until Ctrl-C
	@FACILITY_NAME="$${FACILITY_NAME:-架空総合病院}" INSTITUTION_NUMBER="$${INSTITUTION_NUMBER:-1310000001}" exec $(BIN)/hyojun up $(ARGS)

# Two processes: many tests wait for processes of their own. A file's tests stay together, and share what they set up.
PROCESSES ?= 2
test: setup ## run the whole test suite (PROCESSES=0: in one process)
	@exec $(BIN)/python -m pytest -n $(PROCESSES) --dist loadfile $(ARGS)

check: lint types imports ## lint, types and imports

lint: setup ## ruff
	@$(BIN)/ruff check .

types: setup ## mypy
	@$(BIN)/mypy

imports: setup ## who may import whom
	@$(BIN)/lint-imports

lock: ## write requirements.lock anew from pyproject.toml; ARGS=--upgrade takes newer versions
	@set -e; work=$$(mktemp -d); trap 'rm -rf "$$work"' EXIT; \
	$(PYTHON) -m venv "$$work/venv"; "$$work/venv/bin/python" -m pip --disable-pip-version-check install --quiet uv; \
	"$$work/venv/bin/uv" pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --quiet \
	  --no-emit-index-url --no-emit-find-links --no-header --no-annotate --output-file requirements.lock $(ARGS); \
	echo "requirements.lock: $$(grep -c '^[a-z]' requirements.lock) packages"

# PyTorch is not in the lock: its build depends on the GPU at hand. No version of the lock is changed by it.
TRAIN_STAMP := $(VENV)/.train-installed
$(TRAIN_STAMP): $(STAMP) pyproject.toml
	@sed -e '/^ *--hash/d' -e 's/ *\\$$//' requirements.lock >$(VENV)/constraints.txt
	@$(PIP) install --quiet --no-build-isolation --constraint $(VENV)/constraints.txt --editable '.[train]' $(TORCH)
	@touch $@

trainer: $(TRAIN_STAMP) ## install what training needs (PyTorch, transformers, PEFT); TORCH='torch==2.13.*' chooses a build

# make train CONFIG=training/configs/toy.toml; make train STEPS="sft export"; make train ARGS="--set sft.minutes=10"
CONFIG ?= training/configs/small.toml
STEPS ?= corpus sft export evaluate
train: $(TRAIN_STAMP) ## train the small model (hours on two cores; ARGS='--set sft.minutes=30' for a taste); CONFIG=…, STEPS="corpus base sft export evaluate"
	@set -e; for step in $(STEPS); do echo "== training.$$step"; $(BIN)/python -m training.$$step --config $(CONFIG) $(ARGS); done

bench: setup ## run the measurements in bench/; NAME=engine runs one
	@set -e; for file in $(if $(NAME),bench/$(NAME).py,$$(grep -l '__main__' bench/*.py)); do \
	  module=$${file%.py}; echo "== $$module"; $(BIN)/python -m "bench.$${module#bench/}" $(ARGS); done

chaos: setup ## 10,000 jobs on each broker while workers, dispatchers, broker and database are killed; ARGS="--jobs 1000 --brokers pgmq"
	@PYTHONPATH=$(CURDIR):tests exec $(BIN)/python tests/chaos/run.py $(ARGS)

clean: ## remove .venv and caches; data under .hyojun stay
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find app schemas models migrations training bench tests -name __pycache__ -type d -exec rm -rf {} + 2>/dev/null || true
