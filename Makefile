# make demo, make test: on a fresh machine with Python 3.11 or newer, each sets up all it needs.
#
# Everything is installed into .venv, once, and again when pyproject.toml changes. Paths here are
# relative, so that the folder may have any name. PYTHON=/path/to/python chooses the interpreter,
# ARGS="-k placement -x" is handed to pytest, demo or the benchmark.

.DEFAULT_GOAL := help
.PHONY: sim nemesis kills help demo test test-headway test-ipyparallel check check-types check-rest bench bench-peers bench-ipyparallel docs site clean
.DELETE_ON_ERROR:

VENV := .venv
IN := $(VENV)/bin
STAMP := $(VENV)/.installed-from-pyproject
SITE_STAMP := $(VENV)/.installed-for-site
PEERS := .venv-peers
PEERS_STAMP := $(PEERS)/.installed-from-pyproject
PYTHON ?=
ARGS ?=

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-17s %s\n", $$1, $$2 }' Makefile

demo: $(STAMP)  ## Survey the standard library on all cores, and compare with one process
	@$(IN)/headway demo $(ARGS)

# With ARGS, some tests are wanted, and they are our own.
test: $(if $(ARGS),,test-ipyparallel) test-headway  ## Run all tests; ARGS="-k word -x" is handed to pytest

# All of them in several processes, since most of them wait; some in this one, without any ado.
test-headway: $(STAMP)  ## Run our own tests alone
	@$(IN)/python -m pytest $(or $(ARGS),--numprocesses auto --dist loadfile)

test-ipyparallel: $(STAMP)  ## Run ipyparallel's own tests of its scheduler, against both schedulers
	@$(IN)/python -m tests.ipyparallel.compare_upstream

check: check-types check-rest  ## Lint, format, types, and whether the generated docs are up to date

check-types: $(STAMP)
	$(IN)/mypy

check-rest: $(STAMP)
	$(IN)/ruff check src tests benchmarks examples
	$(IN)/ruff format --check src tests benchmarks examples
	@$(IN)/python -W ignore::RuntimeWarning -m headway.core.states | diff -u docs/states.md - \
		|| { echo "docs/states.md is not up to date: run 'make docs'" >&2; exit 1; }
	@$(IN)/python -m headway.cli.reference | diff -u docs/cli.md - \
		|| { echo "docs/cli.md is not up to date: run 'make docs'" >&2; exit 1; }
	@$(IN)/python -m headway.cli.options_reference | diff -u docs/options.md - \
		|| { echo "docs/options.md is not up to date: run 'make docs'" >&2; exit 1; }
	@$(IN)/python -m headway.cli.metrics_reference | diff -u docs/metrics.md - \
		|| { echo "docs/metrics.md is not up to date: run 'make docs'" >&2; exit 1; }
	@$(IN)/python -m headway.cli.logs_reference | diff -u docs/logs.md - \
		|| { echo "docs/logs.md is not up to date: run 'make docs'" >&2; exit 1; }
	@$(IN)/python -m pytest -q tests/house/test_docs.py

SEEDS ?= 1000
sim: $(STAMP)  ## Simulate clusters in trouble: SEEDS=10000 of them
	@$(IN)/python -m headway.sim --seeds $(SEEDS) $(ARGS)

MINUTES ?= 10
nemesis: $(STAMP)  ## Real clusters under kills, broken networks, full disks, garbage: MINUTES=10
	@$(IN)/python -m tests.nemesis --minutes $(MINUTES) $(ARGS)

KILLS ?= 100
kills: $(STAMP)  ## Kill a real controller KILLS=100 times while a graph of 10,000 tasks runs
	@$(IN)/python -m tests.nemesis.controller_kills --kills $(KILLS) $(ARGS)

# ARGS: --quick, --only no_ops,metg, --figures DIR; docs/benchmarks.md has the questions.
bench: $(STAMP)  ## Measure headway beside the standard library's pool; ARGS=--quick for a first look
	@$(IN)/python benchmarks/run.py $(ARGS)

bench-peers: $(PEERS_STAMP)  ## The same beside Dask, Ray, Parsl, loky, ipyparallel, in .venv-peers
	@$(PEERS)/bin/python benchmarks/run.py --peers all $(ARGS)

# ARGS is for both: --quick, --repetitions, --json.
bench-ipyparallel: $(STAMP)  ## Measure the schedulers of IPython clusters: ipyparallel's and ours
	@$(IN)/python benchmarks/ipyparallel_scheduler.py $(ARGS)
	@echo
	@$(IN)/python benchmarks/ipyparallel_end_to_end.py $(ARGS)

# runpy warns that the package has imported core.states before: the tables are the same.
docs: $(STAMP)  ## Write the generated pages anew: states.md, cli.md, options.md, metrics.md, logs.md
	@$(IN)/python -W ignore::RuntimeWarning -m headway.core.states > docs/.new && mv docs/.new docs/states.md
	@$(IN)/python -m headway.cli.reference > docs/.new && mv docs/.new docs/cli.md
	@$(IN)/python -m headway.cli.options_reference > docs/.new && mv docs/.new docs/options.md
	@$(IN)/python -m headway.cli.metrics_reference > docs/.new && mv docs/.new docs/metrics.md
	@$(IN)/python -m headway.cli.logs_reference > docs/.new && mv docs/.new docs/logs.md

site: $(SITE_STAMP)  ## Build the site of the docs into build/site, strictly
	@NO_MKDOCS_2_WARNING=1 $(IN)/python -m mkdocs build --strict --quiet $(ARGS)
	@echo "build/site/index.html"

clean:  ## Remove the environments, caches and build output
	rm -rf $(VENV) $(PEERS) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} +

# A name may be on the PATH and still not run (a version manager's stand-in), or be too old, or
# lack venv (Debian packs it apart): so each is asked. A .venv that works and is new enough stays.
define MAKE_VENV
fit='import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))'; \
new_enough='import sys; sys.exit(sys.version_info < (3, 11))'; \
if $(IN)/python -c "$$new_enough" 2>/dev/null && $(IN)/python -m pip --version >/dev/null 2>&1; \
then exit 0; fi; \
lacks_venv=; \
set -- $(if $(PYTHON),"$(PYTHON)",python3.13 python3.12 python3.11 python3); \
for python in "$$@"; do \
	if "$$python" -c "$$fit" 2>/dev/null; then \
		echo "Setting up $(VENV) with $$("$$python" --version) ..."; \
		"$$python" -m venv --clear $(VENV) && exit 0; \
		echo "$$python -m venv failed: see above." >&2; exit 1; \
	elif "$$python" -c "$$new_enough" 2>/dev/null; then lacks_venv="$$lacks_venv $$python"; fi; \
done; \
if [ -n "$$lacks_venv" ]; then \
	echo "Found$$lacks_venv, but without venv. On Debian or Ubuntu: apt install python3-venv" >&2; \
else \
	echo "headway needs Python 3.11 or newer; found none as $(if $(PYTHON),$(PYTHON),python3.13, python3.12, python3.11 or python3)." >&2; \
	echo "Install one, or name it: make PYTHON=/path/to/python ..." >&2; \
fi; \
exit 1
endef

$(STAMP): pyproject.toml
	@$(MAKE_VENV)
	@echo "Installing headway and its tools into $(VENV) ..."
	@$(IN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(STAMP)

# What builds the site, beside the rest: neither tests nor checks need it.
$(SITE_STAMP): $(STAMP) pyproject.toml
	@echo "Installing mkdocs-material into $(VENV) ..."
	@$(IN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $(SITE_STAMP)

# The same Python as in .venv, and what the benchmarks are measured beside.
$(PEERS_STAMP): $(STAMP) pyproject.toml
	@echo "Installing headway and its peers into $(PEERS) ..."
	@$(IN)/python -m venv --clear $(PEERS)
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[bench-peers]'
	@touch $(PEERS_STAMP)
