# Each target does all its own set-up in .venv: python3, make and a C++ compiler are enough.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The CPU wheel that results were recorded with; the package itself accepts torch >= 2.6.
TORCH ?= torch==2.13.0
WERROR ?= OFF
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check
PARALLEL := --numprocesses auto --maxprocesses 8 --dist loadfile
SOURCES := pyproject.toml CMakeLists.txt README.md $(shell find csrc python basin_triton -type f -not -name '*.pyc')

.PHONY: demo test test-slow test-browser test-cluster bench docs lint sanitize sdist format clean
demo: $(VENV)/installed-data
	$(BIN)/basinvol reproduce mnist-data-scaling --preset small --seeds 0 --out runs/demo

# Five minutes on two cores; what takes longer, such as verdicts on every known body, is in test-slow.
# A process for each core: more threads in each would only wait for one another.
test: $(VENV)/installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow and not browser and not cluster" $(PARALLEL)

test-slow: $(VENV)/installed-test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "slow and not cluster" --durations 15 $(PARALLEL)

# Clusters of Ray on this machine, whose nodes and workers are killed; about three minutes.
test-cluster: $(VENV)/installed-cluster
	$(BIN)/python -m pytest -m cluster

# The report as its readers see it. Without a Chromium on the machine the tests are skipped, and say so.
test-browser: $(VENV)/installed-browser
	$(BIN)/python -m pytest -m browser

bench: $(VENV)/installed-bench
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.modules
	$(BIN)/python -m benchmarks.gradients
	$(BIN)/python -m benchmarks.scaling
	$(BIN)/python -m pytest benchmarks --benchmark-columns=min,median,stddev,rounds --benchmark-sort=name

# Every page whose code has changed is run again, a page to a core; build/docs/html/index.html is the first page.
docs: $(VENV)/installed-docs
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --quiet --jobs auto \
	    --doctree-dir build/docs/doctrees docs build/docs/html
	@echo "build/docs/html/index.html"

# A source distribution, installed and tried in an environment of its own.
sdist:
	$(PYTHON) -m venv --clear build/fresh
	build/fresh/bin/pip install --quiet --disable-pip-version-check "build>=1.2" "$(TORCH)"
	rm -rf dist
	build/fresh/bin/python -m build --sdist --outdir dist .
	build/fresh/bin/pip install --quiet --disable-pip-version-check \
	    --config-settings=cmake.define.BASINVOL_CUDA=OFF dist/basinvol-*.tar.gz
	cd build/fresh && bin/python "$(CURDIR)/tests/smoke.py"

lint: $(VENV)/installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/zizmor --offline --quiet .github
	$(BIN)/clang-format --dry-run --Werror $$(git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' 'tests/cpp/*.h' 'tests/cpp/*.cpp')

# The engines under AddressSanitizer and UBSan.
sanitize: $(VENV)/installed-lint
	$(BIN)/cmake -S tests/cpp -B build/sanitize -DBASINVOL_WERROR=$(WERROR)
	$(BIN)/cmake --build build/sanitize --parallel
	build/sanitize/check_engine
	build/sanitize/check_points
	build/sanitize/check_program
	build/sanitize/check_proof
	build/sanitize/check_sample
	build/sanitize/check_cuda
	build/sanitize/check_rounding

format: $(VENV)/installed-lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $$(git ls-files 'csrc/*.h' 'csrc/*.cpp' 'csrc/*.cu' 'tests/cpp/*.h' 'tests/cpp/*.cpp')

$(VENV)/torch:
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) "$(TORCH)"
	touch $@

# The extension is compiled once for all environments: a wheel of the project, installed without what it depends on.
$(VENV)/wheel: $(VENV)/torch $(SOURCES)
	rm -rf build/wheel
	$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir build/wheel \
	    --config-settings=cmake.define.BASINVOL_WERROR=$(WERROR) .
	$(INSTALL) --no-deps --force-reinstall build/wheel/*.whl
	touch $@

# Tools and tests in one installation: types are checked against what the tests import.
$(VENV)/installed-lint: $(VENV)/wheel
	$(INSTALL) "$$(echo build/wheel/*.whl)[test,lint]"
	touch $@ $(VENV)/installed-test

# What pages computed with another version of the package is forgotten.
$(VENV)/installed-docs: $(VENV)/wheel
	$(INSTALL) "$$(echo build/wheel/*.whl)[docs]"
	rm -rf build/docs
	touch $@

$(VENV)/installed-cluster: $(VENV)/wheel
	$(INSTALL) "$$(echo build/wheel/*.whl)[test,ray,slurm]"
	touch $@ $(VENV)/installed-test

$(VENV)/installed-%: $(VENV)/wheel
	$(INSTALL) "$$(echo build/wheel/*.whl)[$*]"
	touch $@

clean:
	rm -rf $(VENV) build dist runs
