# Needs python3 (3.11 or newer) with venv and pip, and make; everything else comes from PyPI into .venv/.
# Another interpreter: make test PYTHON=python3.13

PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=
# Twice as many as there are cores: most tests wait for other processes.
WORKERS ?= $(shell echo $$((2 * $$(nproc))))

BIN     := $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null)
TESTS   := $(VENV)/.ready-to-test-$(VERSION)
LINTS   := $(VENV)/.ready-to-lint-$(VERSION)
PYTEST  := $(BIN)/python -m pytest
IN_PARALLEL := -n $(WORKERS)
PIP     := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-input

# With compiled modules in their caches the tests start in half the time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help check quick test coverage lint demo bench sample release clean
.DEFAULT_GOAL := help

help:
	@echo "make check    lint and quick together: what to run before each commit"
	@echo "make quick    the unit and integration tests, in parallel"
	@echo "make test     all tests, in parallel; one file, in one process: make test ARGS=tests/unit/test_imports.py"
	@echo "make coverage the quick tests, and which lines of refgenied/ they never ran, in whichever process"
	@echo "make demo     a real refgenie build is archived before your eyes (10 s after the set-up; all in .demo/)"
	@echo "make bench    the archive engine against tar | pigz; see benchmarks/README.md (a quick look: make bench ARGS=--quick)"
	@echo "make lint     ruff and pyright"
	@echo "make sample   keep what this version leaves behind in tests/released/, for the tests of later ones"
	@echo "make release  build sdist and wheel into dist/ and prove them (a clean tree, a dated changelog, a sample)"
	@echo "make clean    remove .venv/, .demo/ and caches"

demo: $(TESTS)
	@BIN=$(abspath $(BIN)) sh demo/demo.sh

test: $(TESTS)
	@$(PYTEST) $(or $(ARGS),$(IN_PARALLEL))

check: $(LINTS)
	@$(MAKE) --no-print-directory --jobs=2 lint quick

# What is not about the real refgenie, real servers and disks, or a real systemd.
quick: $(TESTS)
	@$(PYTEST) $(IN_PARALLEL) -q $(or $(ARGS),tests/unit tests/integration)

coverage: $(LINTS)
	@rm -rf .cache/coverage && mkdir -p .cache/coverage
	@$(BIN)/coverage run -m pytest $(IN_PARALLEL) -q $(or $(ARGS),tests/unit tests/integration); tested=$$?; \
		$(BIN)/coverage combine -q && $(BIN)/coverage report && exit $$tested

bench: $(TESTS)
	@PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python benchmarks/bench.py $(ARGS)

lint: $(LINTS)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

sample: $(TESTS)
	@$(BIN)/python tests/released/make.py

release: $(LINTS)
	@$(BIN)/python .ci/release.py

clean:
	rm -rf $(VENV) .demo .cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A set-up that was cut short leaves no .ready file and is done again; with an unchanged pyproject.toml it costs nothing.
$(TESTS): pyproject.toml
	@[ -n "$(VERSION)" ] || { echo "$(PYTHON) does not run: install Python 3.11 or newer (Debian, Ubuntu: apt-get install python3 python3-venv), or name another: make PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is Python $(VERSION); refgenied needs 3.11 or newer: make PYTHON=python3.11 (or newer)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@$(BIN)/python -c 'import pip, sys; sys.exit("%d.%d.%d" % sys.version_info[:3] != "$(VERSION)")' 2>/dev/null || { echo "setting up $(VENV) with Python $(VERSION) (once)"; $(PYTHON) -m venv --clear $(VENV); }
	@$(PIP) --editable '.[test]'
	@touch $@

$(LINTS): $(TESTS)
	@$(PIP) --editable '.[dev]'
	@touch $@
