# Two commands do everything: `make book` and `make test`. The first one makes the environment in .venv.
PYTHON ?= python3
TORCH_INDEX ?=# optional: another index for torch alone, such as PyTorch's own CPU builds
CONSTRAINTS ?= constraints.txt
BIN := .venv/bin
READY := .venv/ready
JOBS ?= 3# one more than two cores: who waits for a browser leaves a core idle
export OMP_NUM_THREADS ?= 1

.PHONY: book epub pdf test quick lab execute retrain clean help
help:
	@echo "make book      build the book from the stored outputs and open it"
	@echo "make epub      the book as one file for a reader, book/_build/epub/minigen.epub"
	@echo "make pdf       a PDF of each chapter and page, in book/_build/pdf; it needs Chromium or Chrome"
	@echo "make test      run every check, and every chapter"
	@echo "make quick     the tests of the library alone"
	@echo "make lab       open JupyterLab on the chapters"
	@echo "make execute   run chapters again and store their outputs; one with NAME=02_minimax"
	@echo "make retrain   train the stored checkpoints again, up to 20 minutes each; one with NAME=elbo-shapes12"
	@echo "make clean     remove what was built, and the environment"

$(READY): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "minigen needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | head -n 1). Say which: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "'$(PYTHON)' has no venv module; on Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "Making the environment in .venv (once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) "$$(grep '^torch==' $(CONSTRAINTS) || echo torch)"
	@$(BIN)/python -m pip install -q --disable-pip-version-check -c $(CONSTRAINTS) -e ".[notebook,book,test,dev]"
	@touch $@

book: $(READY)
	@$(BIN)/python -m sphinx -W --keep-going -q -c book -b html . book/_build/html
	@$(BIN)/python book/open.py book/_build/html/index.html

epub: $(READY)
	@$(BIN)/python -m sphinx -W --keep-going -q -c book -b epub -d book/_build/doctrees-epub . book/_build/epub
	@echo book/_build/epub/minigen.epub

pdf: $(READY)
	@$(BIN)/python -m sphinx -W --keep-going -q -c book -b html . book/_build/html
	@$(BIN)/python book/printing.py book/_build/html book/_build/pdf

test: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check -q .
	@$(BIN)/mypy
	@$(BIN)/codespell chapters minigen tests book benchmarks *.md
	@$(BIN)/python -m pytest tests chapters --nbval --nbval-current-env --nbval-sanitize-with nbval.cfg -n $(JOBS) --dist loadscope -q $(PYTEST)

quick: $(READY)
	@$(BIN)/python -m pytest tests -n $(JOBS) --dist loadscope -q -m "not browser" $(PYTEST)

lab: $(READY)
	@$(BIN)/jupyter lab --notebook-dir=chapters

execute: $(READY)
	@$(BIN)/python book/execute.py $(NAME)

retrain: $(READY)
	@$(BIN)/python benchmarks/retrain.py $(NAME)

clean:
	@rm -rf .venv book/_build build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
