# `make demo` and `make test` are all that a newcomer needs; each sets up $(VENV) by itself.
PYTHON ?= python3
VENV ?= .venv
READY = $(VENV)/.metarl-installed

.PHONY: demo test check clean

demo: $(READY)  ## meta-train an arm, adapt it to new variants, write demo/report.html
	$(VENV)/bin/metarl demo

test: $(READY)  ## the whole test suite
	$(VENV)/bin/python -m pytest

check: $(READY)  ## style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/pyright --pythonpath $(VENV)/bin/python

$(READY): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "metarl needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:  ## remove what was built, but neither runs nor the demo
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
