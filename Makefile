# Everything happens in .venv: nothing outside of this directory is installed or changed.

VENV ?= .venv
# The Python that makes it; by default the first of these that will do.
PYTHON ?=
PYTHONS = $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.14)
# More words for pytest: make test ARGS='-k downgrade -x'
ARGS ?=

BIN = $(VENV)/bin
STAMP = $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo quick test coverage test-oldest test-alembics test-matrix test-servers test-extensions check lint dist bench bench-large \
    soak clean FORCE

# Enough to see that a change is sound, in a minute or two.
QUICK = tests/unit tests/house tests/docs/test_reference.py tests/docs/test_generated.py tests/matrix/test_main_paths.py \
    tests/migrations/test_incident.py tests/database/test_guards.py tests/database/test_revert.py tests/cli/test_plan.py

# Lines of the package that the tests must run, in percent. From Python 3.12 on the interpreter counts them itself, which
# costs next to nothing; before that, coverage asks its tracer.
FLOOR = 95
CORE = $(shell $(BIN)/python -c 'import sys; print("sysmon" if sys.version_info >= (3, 12) else "ctrace")' 2>/dev/null)

# These lead Python and pip away from .venv.
unexport PYTHONHOME PYTHONPATH
export PIP_USER = 0
export PIP_DISABLE_PIP_VERSION_CHECK = 1

help: ## show this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1|\2/p' $(firstword $(MAKEFILE_LIST)) | \
	while IFS='|' read -r name text; do printf '  make %-15s  %s\n' "$$name" "$$text"; done

demo: $(STAMP) ## walk through the incident on a private PostgreSQL: close seven rows, give them back
	@$(BIN)/python -m tests.demo.incident

quick: $(STAMP) ## run the unit tests, the house rules and the main paths, on PostgreSQL 18
	TEST_POSTGRES=18 $(BIN)/python -m pytest -n 2 -q $(QUICK) $(ARGS)

test: $(STAMP) ## run all tests, on PostgreSQL 16 and 18
	$(BIN)/python -m pytest -n 2 $(ARGS)

coverage: $(STAMP) ## run all tests, and fail if they leave too much of the package out
	@rm -f .coverage .coverage.*
	COVERAGE_PROCESS_START=$(CURDIR)/pyproject.toml COVERAGE_CORE=$(CORE) $(MAKE) test
	@$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered --fail-under=$(FLOOR)

test-oldest: ## run all tests with the oldest libraries that are supported
	@$(MAKE) test VENV=.venv-oldest PIP_CONSTRAINT=$(CURDIR)/tests/oldest-requirements.txt

test-alembics: $(STAMP) ## run the main paths on each supported Alembic, with the Python of .venv
	@$(BIN)/python -m tests.matrix.run --here

test-matrix: $(STAMP) ## run them on each supported Alembic, SQLAlchemy and Python, as far as they are here
	@$(BIN)/python -m tests.matrix.run

test-servers: $(STAMP) ## run them on PostgreSQL 14, 15 and 17, and move a database through several versions
	@$(BIN)/python -W ignore -m tests.matrix.servers $(ARGS)

# Debian's packages: postgresql-15, and postgresql-15-{hll,ip4r,periods,postgis-3,rational,semver,tablelog,unit}.
test-extensions: $(STAMP) ## run the tests that need the extensions and the ICU of Debian's PostgreSQL 15
	@$(BIN)/python -m pytest -n 2 -q tests/extensions $(ARGS)

lint: $(STAMP) ## ruff, mypy and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

check: lint coverage test-alembics ## all that CI runs

# What is published, as a newcomer gets it: README with the links of an index, the package with its own dependencies.
DIST = .venv-dist
dist: $(STAMP) ## build what is published, check it, and walk through the tutorial with it: PROJECT_URL=https://...
	@rm -rf dist $(DIST)
	@for name in tools newcomer; do $(BIN)/python -m venv $(DIST)/$$name || exit 1; done
	@$(DIST)/tools/bin/python -m pip install -qq build twine
	PROJECT_URL='$(PROJECT_URL)' $(DIST)/tools/bin/python -m build --outdir dist . > $(DIST)/build.log 2>&1 \
	    || { tail -n 20 $(DIST)/build.log >&2; exit 1; }
	$(DIST)/tools/bin/twine check --strict dist/*
	@$(DIST)/newcomer/bin/python -m pip install -qq dist/*.whl
	TEST_POSTGRES=18 TEST_INSTALLED=$(CURDIR)/$(DIST)/newcomer/bin $(BIN)/python -m pytest -q -n 0 tests/docs/test_tutorial.py
	@$(if $(PROJECT_URL),:,echo "dist/ has no project URLs, and README's links are relative: say PROJECT_URL to publish it.")

# All of it takes an hour. What a change of the engine costs, in two minutes: make bench ARGS='--quick --against HEAD~1'
bench: $(STAMP) ## measure fixes and reverts against the bare UPDATE of the same rows; imports, memory, reconcile
	@$(BIN)/python -m tests.benchmarks.bench $(ARGS)
	@$(if $(ARGS),,$(BIN)/python -m tests.benchmarks.other_costs)
	@$(if $(ARGS),,$(BIN)/python -m tests.benchmarks.commands)
	@$(if $(ARGS),,$(BIN)/python tests/book/bench.py)

bench-large: $(STAMP) ## measure batches of 3 million rows against one UPDATE and a loop by hand, and beside a writer
	@$(BIN)/python -m tests.benchmarks.large $(ARGS)
	@$(if $(ARGS),,$(BIN)/python -m tests.benchmarks.beside)

# A round takes about five seconds. The other version: make soak ARGS='--postgres 16'
ROUNDS ?= 500
soak: $(STAMP) ## kill clients, backends and the server under fixes in batches, with four writers: ROUNDS=500
	@$(BIN)/python -W ignore -c 'from tests.batches.soak import main; main()' --rounds $(ROUNDS) $(ARGS)

clean: ## remove .venv and everything else that was made here
	rm -rf $(VENV) .venv-* .servers .coverage* build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find datafixes alembic tests -name __pycache__ -type d -exec rm -rf {} +

# The stamp holds the directory it was made for: a copied or moved .venv still belongs to the old one.
ifneq ($(shell $(BIN)/python -c '' 2>/dev/null && cat $(STAMP) 2>/dev/null),$(CURDIR))
$(STAMP): FORCE
FRESH = --clear
endif

# One shell, so that a failure ends with one line that says what to do.
$(STAMP): pyproject.toml
	@fail() { echo "make: $$1" >&2; exit 1; }; \
	found=''; seen=''; bare=''; \
	for python in $(PYTHONS); do \
	    if ! version=$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null); then \
	        seen="$$seen, $$python (not here)"; \
	    elif ! "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
	        seen="$$seen, $$python ($$version)"; \
	    elif ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
	        seen="$$seen, $$python ($$version)"; bare="$${bare:-$$version}"; \
	    else found=$$python; break; fi; \
	done; \
	if [ -n "$$bare" ] && [ -z "$$found" ]; then \
	    fail "Python $$bare is here without its module venv or ensurepip. On Debian and Ubuntu: apt install python$$bare-venv"; \
	elif [ -z "$$found" ]; then \
	    fail "no Python 3.11 or newer: looked at $${seen#, }. Install one, or name it: make PYTHON=/path/to/python3.12 ..."; \
	fi; \
	echo "Setting up $(VENV) with Python $$version: a minute or two, once."; \
	"$$found" -m venv $(FRESH) $(VENV) || fail "$$found cannot make $(VENV) in $(CURDIR): see above."; \
	echo "Installing datafixes and what its tests need (log: $(VENV)/install.log) ..."; \
	if ! $(BIN)/python -m pip install --root-user-action=ignore --editable '.[dev]' > $(VENV)/install.log 2>&1; then \
	    tail -n 20 $(VENV)/install.log >&2; \
	    fail "pip could not install the packages: see above. It needs the Python package index, and nothing else."; \
	fi; \
	printf '%s\n' '$(CURDIR)' > $@; \
	echo "Done."
