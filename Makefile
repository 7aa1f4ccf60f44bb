# `make run` starts the app, `make test` runs all tests. Both first install missing packages into a virtual environment.
# On Windows, or without make: pip install -r requirements.txt && python app.py

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: run test failed fast lint audit bench docs release-check clean

run: $(VENV)/app.done
	$(BIN)/python app.py

test: $(VENV)/test.done browser
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

# Repeats the tests that failed in the last run, one after the other.
failed: $(VENV)/test.done
	$(BIN)/python -m pytest --last-failed --last-failed-no-failures none --maxfail 1 $(ARGS)

# Quick check during development: no browser tests and no slow tests.
fast: $(VENV)/test.done
	$(BIN)/python -m pytest -m "not slow and not browser" $(ARGS)

lint: $(VENV)/test.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Check the installed packages for known vulnerabilities; skipped with a message if the package index is unreachable.
audit: $(VENV)/app.done
	$(BIN)/python tests/audit.py

# Also installs the packages that the benchmarks compare with, in versions that suit those of the app, and Chromium. Weights are
# synthetic; nothing is downloaded from the hub. `make bench ARGS="--photos FOLDER"` measures other photos than those in examples/.
bench: $(VENV)/bench.done
	-@$(BIN)/python tests/browser.py --install
	$(BIN)/python -m benchmarks.table $(ARGS)

# The site of the documentation, in site/: strict, links checked, without requests to other hosts.
docs: $(VENV)/docs.done
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	$(BIN)/python docs/check_site.py site

# What a release needs: both distributions, their metadata, each installed in an empty environment, the site, and known
# vulnerabilities.
release-check: $(VENV)/docs.done docs audit
	rm -rf dist build
	$(BIN)/python -m build --quiet
	$(BIN)/twine check --strict dist/*
	for file in dist/*; do $(BIN)/python tests/installed.py "$$file" || exit 1; done

.PHONY: browser
browser: $(VENV)/test.done
	@$(BIN)/python tests/browser.py --install

$(VENV)/app.done: requirements.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	@touch $@

$(VENV)/test.done: $(VENV)/app.done tests/requirements.txt
	$(BIN)/python -m pip install --quiet -r tests/requirements.txt
	@touch $@

$(VENV)/bench.done: $(VENV)/app.done benchmarks/requirements.txt
	$(BIN)/python -m pip install --quiet -r requirements.txt -r benchmarks/requirements.txt
	@touch $@

$(VENV)/docs.done: docs/requirements.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r docs/requirements.txt
	@touch $@

clean:
	rm -rf $(VENV) site build dist .pytest_cache .ruff_cache .mypy_cache
