# Two commands do everything: `make run` starts the app, `make test` runs every test. Both install what is missing first, into
# a virtual environment of their own. On Windows, or without make: pip install -r requirements.txt && python app.py

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: run test fast lint bench clean

run: $(VENV)/app.done
	$(BIN)/python app.py

test: $(VENV)/test.done browser
	$(BIN)/python -m pytest $(ARGS)

# Without the browser and the slow tests: seconds, for the time of writing.
fast: $(VENV)/test.done
	$(BIN)/python -m pytest -m "not slow and not browser" $(ARGS)

lint: $(VENV)/test.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Also installs what our speed is measured against; weights are made by a rule, nothing is downloaded from the hub.
bench: $(VENV)/bench.done
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.page

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
	$(BIN)/python -m pip install --quiet -r benchmarks/requirements.txt
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
