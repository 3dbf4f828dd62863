# make setup | run | reproduce | test | app. PYTHON names the interpreter (3.11 or newer) that the virtual environment is made from.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup run reproduce test app lint slow long

setup: $(STAMP)
	$(BIN)/rag-vs-ft models pull all-minilm-l6-v2 smollm2-135m-instruct gpt2-tokenizer

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; make PYTHON=python3.12 setup names another one")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(STAMP)

run: setup
	$(BIN)/rag-vs-ft demo

# The published figures of the sample beside those of this machine; exit code 1 when one lies outside its interval.
reproduce: setup
	$(BIN)/python benchmarks/reproduce.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: setup lint
	$(BIN)/pytest -m "not slow" --numprocesses auto --maxprocesses 4 --dist loadfile

# The tests over 20 seconds, which CI runs too; two at once, since each computes with one thread.
slow: setup
	$(BIN)/pytest -m "slow and not long" -rs --numprocesses auto --maxprocesses 2 --dist loadfile

# The slow tests of the files that tests/conftest.py lists, which CI leaves out.
long: setup
	$(BIN)/pytest -m long

app: setup
	$(BIN)/rag-vs-ft app
