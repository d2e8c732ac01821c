# Each target works on a fresh machine: it makes .venv and installs what it needs, once.
# After that, nothing here needs the internet.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(shell cksum < pyproject.toml | cut -d' ' -f1)
# Two more than CI has cores: tests wait more often than they compute.
WORKERS ?= 4
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do \
	$$p -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$p && break; done)
# Where chance begins in this run; give the same again to repeat the run.
ifndef TRESTLE_SEED
TRESTLE_SEED := $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')
endif
export TRESTLE_SEED
# The tests start the program hundreds of times: it need not be compiled anew each time.
export PYTHONDONTWRITEBYTECODE :=
# The rules of the house: `check` holds us to them, so `test` need not do it again.
HOUSE := tests/test_house.py
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --hypothesis-seed=$(TRESTLE_SEED)

.PHONY: demo test check types rules bench bench-irc prove crash servers examples
.DEFAULT_GOAL := test

$(STAMP):
	@[ -n "$(PYTHON)" ] || { echo "Trestle needs Python 3.11 or newer, and none was found; name it: make PYTHON=/path/to/python3 $(MAKECMDGOALS)"; exit 1; }
	@$(BIN)/python -c '$(NEW_ENOUGH)' 2>/dev/null || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV); } \
		|| { rm -rf $(VENV); echo "$(PYTHON) cannot make $(VENV). On Debian: apt-get install python3-venv"; exit 1; }
	@echo "Installing into $(VENV) (once; about a minute) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[demo,dev]'
	@rm -f $(VENV)/.installed-*; touch $@

demo: $(STAMP)  ## Start everything on this machine and bridge a room
	@$(BIN)/trestle demo $(ARGS)

servers:  ## Install the Debian servers that the tests talk to, if we may
	@.ci/servers

test: $(STAMP) servers check  ## Everything that CI runs
	@echo "seed: $(TRESTLE_SEED)"
	$(PYTEST) --deselect $(HOUSE) $(ARGS)

check: $(STAMP)  ## Lint, format, types, layers, the rules of the house
	@$(MAKE) --no-print-directory -j 2 -O types rules

types: $(STAMP)
	$(BIN)/mypy

rules: $(STAMP)
	$(BIN)/ruff check bridge tests
	$(BIN)/ruff format --check bridge tests
	$(BIN)/python -m pytest -q $(HOUSE)

bench: $(STAMP)  ## Events per second and CPU, side by side with mautrix-python
	$(BIN)/python -m tests.bench $(ARGS)

bench-irc: $(STAMP) servers  ## The IRC bridge beside heisenbridge, through one ngIRCd: some minutes
	$(BIN)/python -m tests.bench.irc $(ARGS)

prove: $(STAMP) servers  ## The long forms of all proofs
	@echo "seed: $(TRESTLE_SEED)"
	TRESTLE_PROVE=50 $(PYTEST) --timeout=7200 $(ARGS)

crash: $(STAMP) servers  ## The long forms of what is proven by killing programs: an hour or two
	@echo "seed: $(TRESTLE_SEED)"
	TRESTLE_PROVE=50 $(PYTEST) --timeout=14400 -rP tests/crash $(ARGS)

examples: $(STAMP)  ## Write the generated files again: examples, reference, alerts, manual page
	$(BIN)/python -m bridge.manual
