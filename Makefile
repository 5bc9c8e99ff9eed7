# Every target makes .venv and installs what it needs by itself. A Python of your own: make PYTHON=python3.12 lab
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/.ready
# Jupyter asks for this flag when it runs as root, as it does in a container.
ROOT_FLAG = $(shell [ "$$(id -u)" = 0 ] && echo --allow-root)

.PHONY: lab test test-quick test-all test-oldest coverage lessons docs bench results weights readme check types dist clean

# The root is served, so that links from the course map open and `%run training/run_experiment.py` works as in the course;
# kernels find the environment's commands on PATH and `training` in every folder. A save leaves out what Jupyter alone wrote.
lab: $(READY)  ## open JupyterLab at the first lesson (or print its address)
	@mkdir -p $(VENV)/share/jupyter/lab/settings && cp tools/lab_settings.json $(VENV)/share/jupyter/lab/settings/overrides.json
	PATH="$(abspath $(BIN)):$$PATH" PYTHONPATH="$(CURDIR)" $(BIN)/jupyter lab $(ROOT_FLAG) \
	  --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate --ServerApp.root_dir=. \
	  --ContentsManager.pre_save_hook=nbdev.clean.clean_jupyter \
	  --LabApp.default_url=/lab/tree/nbs/01_convolutions.ipynb $(LAB_FLAGS)

test: $(READY)  ## run the tests of every notebook, then pytest; closes with a count
	@status=0; \
	$(BIN)/python tools/test_notebooks.py || status=1; \
	$(BIN)/python -m pytest -n 2 --dist loadfile || status=1; \
	exit $$status

test-quick: $(READY)  ## the library's notebooks, and the tests of what users type
	$(BIN)/python tools/quick.py

coverage: $(READY)  ## which lines of the package the notebooks and pytest run, together: half an hour and more
	$(BIN)/coverage erase
	@status=0; \
	$(BIN)/coverage run tools/test_notebooks.py || status=1; \
	$(BIN)/coverage run -m pytest -n 2 --dist loadfile || status=1; \
	$(BIN)/coverage combine --quiet && $(BIN)/coverage report || status=1; \
	exit $$status

test-all: $(READY)  ## pytest with the robustness suite whole, which closes with a table: about half an hour
	$(BIN)/python -m pytest -n 2 --dist loadfile --thorough

test-oldest:  ## the same short tests with the oldest Python and the oldest packages that settings.ini allows
	$(PYTHON) tools/oldest.py

lessons: $(READY)  ## run all notebooks top to bottom and save their outputs
	$(BIN)/python tools/address.py
	$(BIN)/python tools/lesson_pace.py
	$(BIN)/python tools/run_notebooks.py
	$(BIN)/python tools/readme.py

bench: $(READY)  ## run every benchmark; each prints its ratio last
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python $$script || exit 1; done

results: $(READY)  ## the table of docs/results.md: every network on every source (about an hour; can be broken off)
	$(BIN)/python tools/results.py

weights: $(READY)  ## train the networks that come with the package again (about 20 minutes)
	$(BIN)/python tools/make_weights.py
	$(BIN)/python tools/make_line_weights.py

docs: $(VENV)/.docs  ## build the site into docs/_build/site
	$(BIN)/python tools/build_docs.py

readme: $(READY)  ## write README.md from nbs/index.ipynb, and the list of the library's notebooks
	$(BIN)/python tools/readme.py

types: $(READY)  ## the type checker over the package
	$(BIN)/mypy

dist: $(READY)  ## the source distribution and the wheel, into dist/
	$(BIN)/python -m build --no-isolation

check: $(READY)  ## what must hold before a commit: lint, types, clean notebooks, exported library, README
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python tools/check_tree.py

clean:
	rm -rf $(VENV) build dist docs/_build *.egg-info

$(READY): settings.ini setup.py pyproject.toml constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 10))" \
	  || { echo "Python 3.10 or newer is needed; name one with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Installing into $(VENV): about two minutes the first time."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

$(VENV)/.docs: $(READY) docs/requirements.txt
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -r docs/requirements.txt
	@touch $@
