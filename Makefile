# The commands of a developer. They install into .venv only.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
# Test processes. More than two cores: many tests wait for a server or a lease.
WORKERS ?= 4
BIN := $(VENV)/bin
UV := $(BIN)/uv
COMPILE := pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header

export PYTHONUTF8 := 1
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export HAS_DLT_TELEMETRY := 0
export RUNTIME__DLTHUB_TELEMETRY := false
# Hundreds of processes import our modules: they are compiled once, not by each of them.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: image help demo test test-slow test-engines lint format bench chaos up sanitize lock wheels docs clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

$(BIN)/.installer: requirements/installer.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cropline needs Python 3.11 or later; set PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements/installer.lock
	@touch $@

# Byte-compiled at install: otherwise the first import of each large library costs seconds.
$(BIN)/.run: $(BIN)/.installer requirements/run.lock pyproject.toml
	@echo "installing the locked requirements into $(VENV) ..."
	@$(UV) pip install -q --python $(BIN)/python --require-hashes --compile-bytecode -r requirements/run.lock
	@$(UV) pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

# The optional decoder needs a compiler and libjpeg-turbo's headers. If one is missing, a line says which.
$(BIN)/.native: $(BIN)/.run native/install.sh native/pyproject.toml $(wildcard native/src/*.[ch] native/src/cropline_regions/*.py)
	@native/install.sh $(UV) $(BIN)/python
	@touch $@

$(BIN)/.dev: $(BIN)/.native requirements/dev.lock requirements/readers.lock
	@echo "installing the test requirements into $(VENV) ..."
	@$(UV) pip install -q --python $(BIN)/python --require-hashes --compile-bytecode -r requirements/dev.lock
	@$(UV) pip install -q --python $(BIN)/python --require-hashes --no-deps -r requirements/readers.lock
	@touch $@

# Azurite emulates Azure in tests. Without npm, the tests that need it are skipped; where CI is set, they fail.
$(VENV)/azurite/.done: tests/emulators/package-lock.json
	@if command -v npm >/dev/null; then \
	  echo "installing Azurite into $(VENV)/azurite ..."; mkdir -p $(@D) && cp tests/emulators/package.json tests/emulators/package-lock.json $(@D)/ \
	  && npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --loglevel error >/dev/null && touch $@ || echo "Azurite could not be installed: tests on Azure are skipped; where CI is set, they fail"; \
	else echo "no npm: tests on Azure are skipped; where CI is set, they fail"; fi

$(BIN)/.engines: $(BIN)/.dev requirements/engines.lock
	@echo "installing Dask and Ray into $(VENV) ..."
	@$(UV) pip install -q --python $(BIN)/python --require-hashes --compile-bytecode -r requirements/engines.lock
	@touch $@

demo: $(BIN)/.native  ## simulated cameras, two polls, crops and a report in demo-output/
	@$(BIN)/cropline demo --out demo-output

# pytest takes the folders in this order: slow tests first, the many short ones of unit/ last.
test: $(BIN)/.dev $(VENV)/azurite/.done  ## the whole test suite: unit, contract, integration
	@$(BIN)/python -m tests.java
	@JAVA_HOME=$$($(BIN)/python -m tests.java --print) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: $(BIN)/.dev  ## slow tests: a Spark cluster that grows and shrinks, cancels on Connect
	@$(BIN)/python -m tests.java
	@JAVA_HOME=$$($(BIN)/python -m tests.java --print) $(BIN)/python -m pytest -m slow $(ARGS)

test-engines: $(BIN)/.engines  ## the contract suite on Dask and Ray; installs Ray, which is too large for make test
	@$(BIN)/python -m pytest tests/contract -k "dask or ray" $(ARGS)

lint: $(BIN)/.dev  ## ruff, mypy and the import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(BIN)/.dev  ## fix what ruff can fix
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: $(BIN)/.dev  ## benchmarks against plain code: make bench ONLY=crop_engine
	@$(BIN)/python -m benchmarks $(ONLY)

chaos: $(BIN)/.dev  ## kill and pause runs at random: make chaos KILLS=200 IMAGES=500 STATE=postgresql SEED=1
	@$(BIN)/python -m tests.integration.chaos $(or $(KILLS),200) $(or $(IMAGES),500) $(or $(SEED),$$(date +%s)) $(or $(STATE),sqlite)

up: $(BIN)/.native  ## the whole stack until Ctrl-C: Prefect, worker, simulated cameras; DEMO=0 for your own API
	@$(BIN)/cropline up $(if $(filter 0,$(DEMO)),--no-demo) $(ARGS)

sanitize: $(BIN)/.dev  ## the region decoder's tests under sanitizers; to fuzz: make -C native fuzz SECONDS=600 SEED=1
	@$(MAKE) -s -C native sanitize PYTHON=$(abspath $(BIN)/python)

lock: $(BIN)/.installer  ## resolve the requirements again, with hashes
	@$(UV) $(COMPILE) --extra all pyproject.toml -o requirements/run.lock
	@$(UV) $(COMPILE) --extra dev pyproject.toml -o requirements/dev.lock
	@$(UV) $(COMPILE) --extra all --extra dask --extra ray pyproject.toml -o requirements/engines.lock
	@$(UV) $(COMPILE) --extra all --extra kafka --extra otlp --extra kubernetes pyproject.toml -o requirements/image.lock
	@$(UV) $(COMPILE) requirements/installer.in -o requirements/installer.lock
	@$(UV) $(COMPILE) --no-deps requirements/readers.in -o requirements/readers.lock

# BUILDER: docker, podman or buildah. BASE: another base image with Python 3.11.
BUILDER ?= docker
image:  ## the container image; make image BUILDER=podman BASE=...
	@$(BUILDER) build $(if $(BASE),--build-arg BASE=$(BASE)) --build-arg VERSION=$(shell git describe --always --dirty 2>/dev/null) -t cropline .

clean:  ## remove everything that the targets create
	@rm -rf $(VENV) demo-output cropline-up benchmarks/results .mypy_cache .ruff_cache .pytest_cache .hypothesis

# The decoder's wheel uses the libjpeg of Pillow's wheel. auditwheel checks it and finds the oldest glibc that it supports.
wheels: $(BIN)/.dev  ## cropline's wheel and cropline-regions' manylinux wheel, in dist/
	@$(BIN)/python -m build --no-isolation --outdir dist .
	@$(BIN)/python -m build --no-isolation --wheel --outdir dist/unrepaired native
	@PATH=$(abspath $(BIN)):$$PATH $(BIN)/auditwheel repair --wheel-dir dist dist/unrepaired/cropline_regions-*.whl
	@rm -r dist/unrepaired

docs: $(BIN)/.dev  ## the documentation site, in site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --clean
