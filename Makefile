# From a clone to a rendered book. `make` alone lists the targets.
#
#   notebooks/*.ipynb --tools/execute.py--> _build/src/notebooks/ \
#   _config.yml _toc.yml book/ -----copy--> _build/src/            --jupyter-book--> _build/site/
#
# Each step runs again only when something it reads has changed. Nothing outside _build is written
# to, but by `make refresh`, `record`, `bench`, `bounds`, `rivals`, `scale`, `lock`, `dist` and `url`,
# which are there for that.

# Three chapters are executed at a time: while one waits for its kernel or between the steps of a
# small network, the others have two cores to themselves.
MAKEFLAGS += --jobs=3

PYTHON ?= python3
PORT ?= 8000

VENV := .venv
BIN := $(VENV)/bin
SRC := _build/src
SITE := _build/site
PEERS := _build/peers
# The other backends of Keras: environments without TensorFlow.
BACKENDS := _build/jax _build/torch

# The book's numbers come from TensorFlow; its start-up messages are of no use to anyone here.
export KERAS_BACKEND := tensorflow
export TF_CPP_MIN_LOG_LEVEL := 3
# Keep freed memory instead of giving it back to the kernel after each training step: with glibc's
# defaults half the time of a step on a CPU can go into faulting the same pages in again.
export MALLOC_ARENA_MAX := 1
export MALLOC_MMAP_THRESHOLD_ := 4294967296
export MALLOC_TRIM_THRESHOLD_ := 17179869184
export MALLOC_TOP_PAD_ := 268435456
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Where pip is told to look for packages, a PyTorch without CUDA perhaps, uv looks as well.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
# A backend named from outside would take the figures out of the notebooks.
unexport MPLBACKEND

WRITABLE := $(shell test -w . && echo yes)
ifneq ($(filter-out help,$(MAKECMDGOALS)),)
ifneq ($(WRITABLE),yes)
$(error This folder is read-only, and make writes to .venv and _build in it. Copy it, and call make there)
endif
endif

NOTEBOOKS := $(wildcard notebooks/*.ipynb)
PACKAGE := $(wildcard clr/*.py clr/*/*.py)
PAGES := _config.yml _toc.yml \
	$(shell find book -type f ! -name '.*' ! -name '*.pyc' ! -path '*/.ipynb_checkpoints/*')
COPIES := $(sort $(PAGES:%=$(SRC)/%))
CHAPTERS := $(NOTEBOOKS:%=$(SRC)/%)
RECORDS := $(wildcard $(addprefix clr/,runs/*/*.json benchmarks/*.json benchmarks/*/*.json))

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help book test test-all backends colab-check fuzz lint serve lab refresh record bench bounds rivals scale audit lock dist url clean FORCE

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' Makefile

book: $(SITE)/index.html  ## Execute the notebooks and render the site, as far as either is out of date
	@echo "The book is in $(SITE)/index.html"

# Three at a time on two cores, because a test often waits: for a kernel, a browser, a process.
# The notebooks first, in this order: a long one at the end would leave a core idle.
# A test that brings its worker down is reported once, not tried again by one worker after another.
test: $(SITE)/index.html  ## Test the package, the notebooks (nbval) and the site (a real browser)
	CLR_PROFILE=quick $(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder --max-worker-restart=0 \
		--nbval-lax --nbval-current-env --nbval-sanitize-with tests/support/nbval_sanitize.cfg \
		$(NOTEBOOKS) tests

# ONLY="03_policies 13_performance" checks some; PINS=FILE takes the versions from a newer list.
colab-check: $(VENV)/.package  ## Execute the notebooks as a fresh Colab runtime does (ONLY=... for some)
	$(BIN)/python tools/colab_check.py $(ONLY) $(if $(PINS),--pins $(PINS))

test-all: test  ## What `make test` does, the slow tests, and the other backends (an hour)
	$(BIN)/pytest -m slow tests
	$(MAKE) backends

# PyTorch's threads spin while they wait for one another: thirty times slower beside other work.
ONE_THREAD := OMP_NUM_THREADS=1
# One after the other: each takes both cores as it is. What JAX compiles, every operation of an
# uncompiled training on its own, it keeps for the next test and the next time.
JAX_CACHE := JAX_COMPILATION_CACHE_DIR='$(CURDIR)/_build/jax-cache' \
	JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1
backends: $(BACKENDS:%=%/.installed)  ## Test the package on JAX and on PyTorch, without TensorFlow
	@failed=0; for backend in $(BACKENDS:_build/%=%); do \
		echo "Keras on $$backend"; \
		KERAS_BACKEND=$$backend PYTHONPATH='$(CURDIR)' $(ONE_THREAD) $(JAX_CACHE) \
			_build/$$backend/bin/python -m pytest -n 2 --dist loadfile --max-worker-restart=0 \
			tests/package || failed=1; \
	done; exit $$failed

fuzz: $(VENV)/.package  ## Try many more examples of each property and of damaged files than the tests do
	$(BIN)/pytest -n 2 --hypothesis-profile=many tests/package/test_properties.py tests/book/test_fuzz.py

lint: $(VENV)/.package  ## Check style (ruff) and types (mypy)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/ruff format --check --preview --line-length 78 *.md book/*.md
	$(BIN)/mypy

serve: $(SITE)/index.html  ## Show the site at http://localhost:8000 (PORT=... for another port)
	$(BIN)/python -m http.server --bind 127.0.0.1 --directory $(SITE) $(PORT)

lab: $(VENV)/.lab  ## Open the notebooks in JupyterLab
	$(BIN)/jupyter lab notebooks

refresh: $(VENV)/.package  ## Execute the committed notebooks in place and redraw the committed pictures
	@for notebook in $(NOTEBOOKS); do \
		CLR_PROFILE=quick $(BIN)/python tools/execute.py $$notebook $$notebook || exit 1; \
	done
	$(BIN)/python tools/pictures.py

record: $(VENV)/.package  ## Record the runs that the pages show, as far as they are missing (hours; resumable)
	$(BIN)/python tools/record.py budgets
	$(BIN)/python tools/record.py cifar10
	$(BIN)/python tools/record.py averaged
	$(BIN)/python tools/record.py recipe

# One after the other, and nothing else on the machine, please.
bench: $(VENV)/.package $(PEERS)/.torch _build/jax/.installed  ## Measure against peers: tables, and JSON for the Performance page (half an hour)
	@failed=0; for benchmark in callback range_test augmentation throughput growth book; do \
		$(BIN)/python benchmarks/$$benchmark.py $(PEERS)/bin/python || failed=1; \
	done; \
	$(BIN)/python benchmarks/loop.py '$(CURDIR)/_build/jax/bin/python' || failed=1; exit $$failed

bounds: _build/jax/.installed  ## Measure what suggested bounds are worth, on 41 tasks (hours; resumable)
	$(BIN)/python benchmarks/bounds.py --held
	PYTHONPATH=. _build/jax/bin/python benchmarks/bounds_optax.py
	$(BIN)/python benchmarks/two_lines.py
	$(BIN)/python benchmarks/fine_tuning.py

rivals: $(VENV)/.package  ## Compare schedules and optimizers side by side, for chapter 6 (40 minutes; resumable)
	$(BIN)/python benchmarks/rivals.py

# PYTHONPATH in place of an installation: the package's own dependencies are there.
scale: $(BACKENDS:%=%/.installed)  ## Train on several devices, processes and backends, for chapter 12 (a quarter of an hour)
	KERAS_BACKEND=jax PYTHONPATH=. _build/jax/bin/python benchmarks/scaling.py
	$(ONE_THREAD) $(BIN)/python benchmarks/backends.py $(BACKENDS:%=%/bin/python)

audit: $(VENV)/.package  ## Look up known vulnerabilities of the pinned packages (asks pypi.org)
	$(BIN)/uv tool run pip-audit --strict --disable-pip --requirement requirements.txt

lock: $(VENV)/.package  ## Compile requirements.txt anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --extra dev \
		--python-version 3.11 --no-header --output-file requirements.txt pyproject.toml

dist: $(VENV)/.package  ## Build the wheel and the source archive in dist/, checked as PyPI checks them
	rm -rf dist
	$(BIN)/uv tool run --from build pyproject-build --outdir dist .
	$(BIN)/uv tool run twine check --strict dist/*

url: $(VENV)/.package  ## Set the repository's URL everywhere: make url URL=https://github.com/you/clr
	$(BIN)/python tools/set_url.py "$(URL)"

clean:  ## Remove everything built (the environment in .venv stays)
	rm -rf _build

# --- the environment ------------------------------------------------------------------------------

# uv installs in a third of pip's time. It does not read pip.conf: where only pip is told the way
# to the packages, pip installs them.
$(VENV)/.requirements: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
		echo 'Python 3.11, 3.12 or 3.13 is needed, and "$(PYTHON)" is not one of them.'; \
		echo 'Name one that is: make PYTHON=python3.12 $(MAKECMDGOALS)'; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	sed -n '/^uv==/,/[^\\]$$/p' requirements.txt > $(VENV)/uv.txt
	$(BIN)/pip install --quiet --require-hashes -r $(VENV)/uv.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes \
		-r requirements.txt || $(BIN)/pip install --quiet --require-hashes -r requirements.txt
	@touch $@

$(VENV)/.package: pyproject.toml $(VENV)/.requirements
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# JupyterLab stays out of requirements.txt: with it comes a parser of web addresses that takes over a
# second from every process that reads a notebook, and the build and the tests have dozens.
$(VENV)/.lab: $(VENV)/.package
	$(BIN)/pip install --quiet 'jupyterlab>=4'
	@touch $@

# PyTorch is heavy, and only the benchmarks' affair.
$(PEERS)/.torch: pyproject.toml | $(VENV)/.package
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(PEERS)
	$(BIN)/uv pip install --quiet --python $(PEERS)/bin/python --requirements pyproject.toml --extra peers
	@touch $@

$(BACKENDS:%=%/.installed): _build/%/.installed: pyproject.toml requirements.txt | $(VENV)/.package
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(@D)
	$(BIN)/uv pip install --quiet --python $(@D)/bin/python --requirements pyproject.toml \
		--extra check-$* --constraint requirements.txt
	@touch $@

# --- the book -------------------------------------------------------------------------------------

# Each chapter has half the cores: with all of them, their threads would wait for one another.
$(SRC)/notebooks/%.ipynb: export TF_NUM_INTRAOP_THREADS = \
	$(shell $(PYTHON) -c 'import os; print(max(1, os.cpu_count() // 2))')

# Failing leaves the former result where it is: tools/execute.py replaces its output at the very end.
$(SRC)/notebooks/%.ipynb: notebooks/%.ipynb tools/execute.py requirements.txt $(PACKAGE) $(RECORDS) \
		| $(SRC)/.files $(VENV)/.package
	@mkdir -p $(@D)
	$(BIN)/python tools/execute.py $< $@ -p PROFILE quick

$(COPIES): $(SRC)/%: %
	@mkdir -p $(@D)
	@cp $< $@

# The list of the site's sources, each of which must have its place in the table of contents. Written anew only when it changes, so that a file that comes or goes
# has the site rendered again; what went from the source tree goes from the copy.
$(SRC)/.files: FORCE
	@for page in $(basename $(NOTEBOOKS) $(wildcard book/*.md)); do \
		grep -qE "(file|root): $$page(\.ipynb|\.md)?$$" _toc.yml || { failed=1; \
		echo "$$page is not in _toc.yml: add the line '- file: $$page' where the page belongs" >&2; }; \
	done; test -z "$$failed"
	@mkdir -p $(@D)
	@printf '%s\n' $(COPIES) $(CHAPTERS) > $@.new
	@if cmp -s $@.new $@; then rm $@.new; else \
		find $(SRC) -type f ! -name '.files*' | grep -vxF -f $@.new | xargs rm -f; \
		mv $@.new $@; fi

# Always from nothing: with -W, a build that failed would pass when repeated, for it reads only what
# it has not read before. The site on show is replaced when the new one is whole.
$(SITE)/index.html: $(SRC)/.files $(COPIES) $(CHAPTERS) $(PACKAGE) $(RECORDS) \
		| $(VENV)/.package
	rm -rf _build/book
	$(BIN)/jupyter-book build $(SRC) --path-output _build/book -n -W --keep-going --quiet
	rm -rf $(SITE)
	mv _build/book/_build/html $(SITE)
	@touch $@
