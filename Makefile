# One command each: `make up` runs a cluster on this machine, `make test` everything we know about it.
# The environment in .venv is made from requirements.lock, with hashes, whenever that changes.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.installed
# One more than CI has cores: tests with processes wait a third of their time.
PYTEST_WORKERS ?= 3
SEEDS ?= 5000
MINUTES ?= 30
EVENTS ?= 200000
DRILL ?= all
ROUNDS ?= 3
BENCH ?= engine workloads transport dispatch routing isolation delivery placement restore raft failover worker_failover security streams

.DEFAULT_GOAL := help
.PHONY: help up down test simulate jepsen chaos delivery drill fuzz lint format docs site screenshots bench lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "no python3 found: install Python 3.11 or later, or say make PYTHON=/path/to/it" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is $$($(PYTHON) -V), older than 3.11: say make PYTHON=/path/to/a/newer/one" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

up: $(STAMP)  ## start a cluster with the demo here; Ctrl-C stops it
	$(BIN)/varpulis up

down: $(STAMP)  ## stop a cluster that was left running
	$(BIN)/varpulis down

test: $(STAMP)  ## run all tests
	$(BIN)/python -m pytest -n $(PYTEST_WORKERS) --dist worksteal -q

simulate: $(STAMP)  ## play fresh seeds of the Raft simulation: make simulate SEEDS=5000
	$(BIN)/python -m tests.simulation --seeds $(SEEDS)

jepsen: $(STAMP)  ## faults on real coordinators, then a check of what clients saw: make jepsen MINUTES=30
	$(BIN)/python -m tests.jepsen --minutes $(MINUTES)

fuzz: $(STAMP)  ## requests made from the OpenAPI document, valid and not: make fuzz MINUTES=30
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES)

chaos: $(STAMP)  ## faults and operations on a whole cluster, which must come back: make chaos MINUTES=5
	$(BIN)/python -m tests.chaos --minutes $(MINUTES)

delivery: $(STAMP)  ## exactly once under faults, event for event: make delivery EVENTS=200000
	$(BIN)/python -m tests.delivery --events $(EVENTS)

lint: $(STAMP)  ## style, types, and which room may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)  ## bring the sources into form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

screenshots: $(STAMP)  ## take the pictures of the page in docs/page.md
	$(BIN)/python -m docs.screenshots

docs: $(STAMP)  ## write the generated parts of docs/ anew
	$(BIN)/python -m cli.reference

site: $(STAMP)  ## build the site of docs/ into site/, warnings being errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

drill: $(STAMP)  ## failover drills on clusters of their own: make drill DRILL=leader-kill ROUNDS=3
	$(BIN)/varpulis drill run $(DRILL) --rounds $(ROUNDS)

bench: $(STAMP)  ## run the benchmarks, or some: make bench BENCH="engine routing"
	for name in $(BENCH); do $(BIN)/python -m benchmarks $$name || exit 1; done

lock: $(STAMP)  ## pin all dependencies anew, with hashes
	printf 'hatchling==1.27.0\neditables\nuv\n' | $(BIN)/uv pip compile pyproject.toml - --extra dev --upgrade \
		--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
		--custom-compile-command 'make lock' --quiet --output-file requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra otel --constraints requirements.lock \
		--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
		--custom-compile-command 'make lock' --quiet --output-file deploy/docker/requirements.lock
	printf 'hatchling==1.27.0\n' | $(BIN)/uv pip compile - --constraints requirements.lock \
		--universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
		--custom-compile-command 'make lock' --quiet --output-file deploy/docker/build.lock

clean:  ## remove the environment, caches and build products
	rm -rf site .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
