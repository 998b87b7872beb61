# Everything runs in .venv, which `make setup` builds from requirements.lock and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
GENERATED := $(VENV)/.generated
INTERPRETER := $(VENV)/interpreter/.ready
# What `make breaking` compares with: the commit before this one.
BASE ?= HEAD~1
PREVIOUS := build/previous
# What `make bench` measures: cases by the beginnings of their names, else all.
CASES ?=
DB ?= sqlite
# How many servers stand behind one Envoy in `make bench`.
PROCESSES ?= 1
# How long `make chaos` goes on.
SECONDS ?= 600
# How many threads `make stored` fills a database with.
THREADS ?= 1000000
PROTOS := $(wildcard protos/assistants/v1/*.proto)

.DEFAULT_GOAL := help
.PHONY: help setup demo serve check test bench bench-search stored chaos gvisor lint breaking format proto lock clean

help: ## Lists the targets.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 21

setup: $(READY) $(GENERATED) $(INTERPRETER) ## Builds the environments, generated code, descriptor sets.

demo: setup ## Starts the stack and holds a conversation with the embedded model.
	@$(BIN)/assistants demo

serve: setup ## Runs the server in the foreground.
	@$(BIN)/assistants serve

check: lint test ## Everything that CI runs: lint and test.

test: setup ## Runs the whole test suite.
	@$(BIN)/pytest

bench: setup ## Measures what calls and runs cost. CASES="runs streams", DB=postgresql, PROCESSES=2.
	@$(BIN)/python -m bench --database "$(DB)" --cases "$(CASES)" --processes "$(PROCESSES)" $(ARGS)

bench-search: setup ## Measures files: transfers, indexing, search. CASES=search-1m for 1,000,000 chunks.
	@$(BIN)/python -m bench --database "$(DB)" --cases "$(or $(CASES),transfers indexing search)" $(ARGS)

stored: setup ## Measures what is stored in PostgreSQL. THREADS=1000000 takes 22 GB of disk.
	@$(BIN)/python -m bench.stored $(THREADS)

chaos: setup ## Has faults happen to a service under load, for SECONDS=600.
	@$(BIN)/python -m tests.support.chaos --seconds "$(SECONDS)" $(ARGS)

gvisor: setup ## Runs the sandbox's tests in gVisor: needs root, and runsc (apt-get install runsc).
	@export TMPDIR=$$(mktemp -d); chmod 711 $$TMPDIR; \
	TEST_ENGINES=command TEST_COMMAND="$(CURDIR)/$(BIN)/python -m tests.support.sandbox.gvisor" \
	  $(BIN)/pytest -n 0 tests/sandbox/test_conformance.py tests/sandbox/test_attacks.py; \
	status=$$?; rm -rf $$TMPDIR; exit $$status

lint: setup ## Checks format, types, dependencies between layers and the .proto files.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code protos
	@$(MAKE) --no-print-directory breaking

breaking: setup ## Compares the .proto files with those of BASE: what callers rely on must stay.
	@rm -rf $(PREVIOUS) && mkdir -p $(PREVIOUS)/build
	@git archive $(BASE) protos buf.yaml | tar -x -C $(PREVIOUS)
	@cp -r build/googleapis $(PREVIOUS)/build
	$(BIN)/buf breaking --against $(PREVIOUS)

format: setup ## Formats the Python and the .proto files.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/buf format --write protos

proto: $(READY) ## Generates the code and the descriptor sets from the .proto files.
	@rm -f $(GENERATED) && $(MAKE) --no-print-directory $(GENERATED)

lock: ## Pins the newest versions of every dependency in requirements.lock (needs uv).
	uv pip compile pyproject.toml --all-extras --generate-hashes --python-version 3.11 \
	  --overrides requirements.overrides --no-header --no-annotate --no-emit-index-url \
	  --quiet --upgrade --output-file requirements.lock
	uv pip compile requirements.interpreter.in --universal --generate-hashes --python-version 3.11 \
	  --no-header --no-annotate --no-emit-index-url \
	  --quiet --upgrade --output-file requirements.interpreter.lock

clean: ## Removes what make has built.
	rm -rf $(VENV) build
	find protos/assistants -name '*_pb2*.py*' -delete
	rm -f protos/assistants/v1/api.binpb gateway/rest.binpb gateway/rest.lua

$(READY): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@touch $@

# The interpreter's packages are not the server's: see docs/code-interpreter.md.
$(INTERPRETER): requirements.interpreter.lock | $(READY)
	@$(BIN)/python -m service.sandbox.environment
	@touch $@

$(GENERATED): $(READY) $(PROTOS) protos/generate.py gateway/descriptor.py gateway/edge.lua service/api/services.py
	@$(BIN)/python protos/generate.py
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m gateway.descriptor
	@touch $@
