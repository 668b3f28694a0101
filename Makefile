# The two commands of this project, on a machine that has only Python 3.11+, make and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: train test venv venv-test lint golden clean

train: venv ## make the environment and run the main job: make train ARGS='parallel=tp2pp2'
	$(BIN)/python -m mmhydra.train $(ARGS)

test: venv-test ## make the environment with the test extras and run all tests, or those of make test ARGS=...
ifeq ($(ARGS),)
	# Unit tests share nothing, so all cores take part; the others start processes of their own, one test at a time.
	$(BIN)/python -m pytest --durations=15 -n auto --dist loadfile tests/unit tests/config
	$(BIN)/python -m pytest --durations=30 tests/titan tests/slurm tests/e2e
else
	$(BIN)/python -m pytest $(ARGS)
endif

venv: $(VENV)/.installed ## make only the environment

venv-test: $(VENV)/.installed-test

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# A venv holds what the committed constraints say; a change of either file installs again.
$(VENV)/.installed: constraints.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-test: constraints.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $@ $(VENV)/.installed

lint: venv-test ## ruff, mypy, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

golden: venv-test ## write the golden files anew; look at the diff before you commit it
	$(BIN)/python -m pytest tests/config tests/unit/launch/test_batch_script.py --update-golden

clean: ## remove the environment; runs and data stay
	rm -rf $(VENV)
