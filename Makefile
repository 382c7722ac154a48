# The commands of the house. A fresh machine needs Python 3.11 or newer, pip and make.

PYTHON ?= python3
HOST ?= 127.0.0.1
PORT ?= 8000

VENV := .venv
BIN := $(VENV)/bin
UV := $(VENV)/uv/bin/uv
UV_VERSION := 0.13.9
INSTALL := $(UV) pip install --quiet --python $(BIN)/python --require-hashes -r
COMPILE := $(UV) pip compile --quiet pyproject.toml --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-header --no-annotate

# Shares of the test suite, dealt out to whoever is free, the longest first. What asks the bundle
# with every build is in one of them: to make it takes longer than to ask.
RESUME := tests/training/test_resume.py
BACKENDS := tests/service/engine/backends
BUNDLE := tests/export $(BACKENDS) tests/benchmarks tests/test_way_of_one_case.py
OTHERS := tests/service tests/clients
DEALT := tests/training $(BUNDLE) $(OTHERS)
SHARES := 'tests/training --ignore=$(RESUME)' '$(OTHERS) --ignore=$(BACKENDS)' '$(BUNDLE)' \
	'tests $(DEALT:%=--ignore=%)' '$(RESUME)'

define train_demo
	$(BIN)/python -m training.prepare synthetic --task $(1) --samples 4000 --seed 1 \
		--image-size 48 --max-tokens 128 --vocabulary-size 1000 --out build/demo/$(1)/data
	$(BIN)/python -m training.pretrain --recipe demo --data build/demo/$(1)/data \
		--out build/demo/$(1)/pretrained
	$(BIN)/python -m training.finetune --recipe demo --data build/demo/$(1)/data \
		--init build/demo/$(1)/pretrained --out build/demo/$(1)/finetuned
	$(BIN)/python -m training.evaluate --run build/demo/$(1)/finetuned --data build/demo/$(1)/data
	$(BIN)/python -m export --run build/demo/$(1)/finetuned --out service/demo/$(1) \
		--name demo-$(1) --formats onnx
endef

.PHONY: serve test check install format demo docs lock

serve: $(VENV)/service.stamp  ## the service with both demo bundles
	$(BIN)/python -m service --host $(HOST) --port $(PORT)

# Where Python may not keep what it compiled, each command that a test starts compiles torch anew.
test: install  ## the whole test suite, in two processes
	@export OMP_NUM_THREADS=1; unset PYTHONDONTWRITEBYTECODE; \
	printf '%s\n' $(SHARES) | xargs -P 2 -I '{}' $(SHELL) -c \
		'echo "testing {}"; found=$$($(BIN)/python -m pytest {} 2>&1); failed=$$?; echo "$$found"; exit $$failed'

check: install  ## format, lint, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install  ## mend what `check` finds of format and lint
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

install: $(VENV)/dev.stamp  ## the development environment, nothing else

demo: install  ## train and export the two demo bundles again, from synthetic records
	rm -rf build/demo
	$(call train_demo,mortality)
	$(call train_demo,rating)

docs: install  ## the documentation as a site, in build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

lock: $(UV)  ## pin the requirements again
	$(COMPILE) --extra service --extra cpu -o requirements/service.txt
	$(COMPILE) --extra service --extra cpu --extra client --extra training --extra export \
		--extra otel --extra dev -c requirements/service.txt -o requirements/dev.txt
	$(COMPILE) --extra service --extra torch -c requirements/dev.txt -o requirements/gpu.txt
	$(COMPILE) --extra training --extra export --extra service --extra cpu \
		-c requirements/dev.txt -o requirements/training.txt

# Without ensurepip (which some distributions split off) `venv` still works when asked for no pip.
$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "LANISTR needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv --without-pip $(VENV)
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --target $(VENV)/uv uv==$(UV_VERSION)

$(VENV)/service.stamp: requirements/service.txt $(UV)
	$(INSTALL) requirements/service.txt
	@touch $@

$(VENV)/dev.stamp: requirements/dev.txt $(UV)
	$(INSTALL) requirements/dev.txt
	@touch $@ $(VENV)/service.stamp
