# Each target works on a fresh machine: it makes .venv and installs what it needs, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(shell cksum < pyproject.toml | cut -d' ' -f1)
PYTEST_WORKERS ?= 2

.PHONY: demo test check bench prove servers examples
.DEFAULT_GOAL := test

$(STAMP):
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Trestle needs Python 3.11 or newer; say which: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Installing into $(VENV) (the first time takes about a minute) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo,dev]'
	@rm -f $(VENV)/.installed-*; touch $@

demo: $(STAMP)  ## Start everything on this machine and bridge a room
	@$(BIN)/trestle demo $(ARGS)

servers:  ## Install the Debian servers that the tests talk to, where we may
	@.ci/servers

test: $(STAMP) servers check  ## Everything that CI runs
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadgroup $(ARGS)

check: $(STAMP)  ## Lint, format, types, layers
	$(BIN)/ruff check bridge tests
	$(BIN)/ruff format --check bridge tests
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(STAMP)  ## Events per second and CPU, side by side with mautrix-python
	$(BIN)/python -m tests.bench $(ARGS)

prove: $(STAMP) servers  ## The long forms of all proofs
	TRESTLE_PROVE=50 $(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist loadgroup $(ARGS)

examples: $(STAMP)  ## Write the generated example files again
	$(BIN)/python -m bridge.examples
