# The only list of commands: README, .ci/run and hooks call these.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: install demo test slow check format bench mlflow prefect stack-up stack-down docs

install: $(BIN)/.installed

$(BIN)/.installed: constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Downsize needs Python 3.11 or newer, not " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: install
	downsize run

# One file after another on each of two cores
test: install
	OMP_NUM_THREADS=1 pytest -n 2 --dist loadfile

# Kills, servers and searches: tens of minutes
slow: install
	pytest tests/slow

check: install
	ruff format --check .
	ruff check .
	lint-imports
	mypy
	cog --check docs/reference.md

format: install
	ruff format .
	ruff check --fix .

# Hours; each writes benchmarks/results/NAME.json, and takes up what an earlier, stopped run has measured
bench: install
	python benchmarks/gate.py
	python benchmarks/orchestration.py
	python benchmarks/training.py
	python benchmarks/distillation.py
	python benchmarks/pruning.py
	python benchmarks/quantization.py
	python benchmarks/synthesis.py
	python benchmarks/coreset.py

docs: install
	cog -r docs/reference.md

# Servers on loopback, in the foreground; they show what runs have left in mlflow.db and .prefect
mlflow: install
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow server --host 127.0.0.1 --port 5000 --workers 1 \
		--backend-store-uri sqlite:///$(CURDIR)/mlflow.db --default-artifact-root file://$(CURDIR)/mlruns

prefect: install
	PREFECT_HOME=$(CURDIR)/.prefect PREFECT_SERVER_ANALYTICS_ENABLED=false prefect server start --host 127.0.0.1 --port 4200

# The servers of a team, with passwords, on loopback; they outlive the command. infra/README.md says how to use them
stack-up:
	$(PYTHON) infra/native.py up

stack-down:
	$(PYTHON) infra/native.py down
