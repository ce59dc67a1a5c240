# Every target works on a fresh clone: the virtual environment is made when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo test lint bench studies-lab docs docs-metrics pictures clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# Trains runs/NAME unless it is there: an interrupted demo goes on, a finished one is only drawn again.
demo_run = if [ ! -e runs/$(1)/status.json ]; then $(BIN)/ev train Hopper-v4 --name $(1) $(DEMO) $(2); \
	elif ! grep -q '"state": "finished"' runs/$(1)/status.json; then $(BIN)/ev resume runs/$(1); \
	else echo "runs/$(1) is trained already"; fi
DEMO := --seeds 1 2 3 --steps 100000 --activation relu

demo: $(READY) ## Train three healthy and three sick agents on Hopper, with a live table, and report both
	@$(call demo_run,demo-healthy,)
	@$(call demo_run,demo-sick,--epochs 20 --learning-rate 1e-2)
	$(BIN)/ev plot runs/demo-healthy runs/demo-sick --out runs/demo --name comparison
	$(BIN)/ev report runs/demo-healthy runs/demo-sick --out runs/demo/report.html
	@echo "Open runs/demo/report.html in a browser: which of the two is healthy, and why. The curves alone: runs/demo/comparison.png"

# Three workers, on two cores too: tests often wait for processes that they have started.
test: $(READY) ## Run the tests (those of missing extras are skipped and say so)
	$(BIN)/python -m pytest -n 3 --dist loadfile --max-worker-restart 2

lint: $(READY) ## Formatting, lint, types and the rooms' import rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

bench: $(READY) ## Speed and memory against Stable-Baselines3 and SBX, printed and written to benchmarks/README.md
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt 'torch' && \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python -m benchmarks.speed

studies-lab: $(READY) ## Run every experiment of the theory lab at full size into studies/lab
	$(BIN)/ev lab all --out studies/lab

docs: $(READY) ## Build the documentation site into site/, strictly
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

pictures: demo ## Take the pictures of the README: needs Debian's chromium
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[browser]'
	$(BIN)/python docs/_hooks/pictures.py

docs-metrics: $(READY) ## Write docs/metrics.md anew from the table in the code
	$(BIN)/python -m escapevelocity.health.reference > docs/metrics.md

clean: ## Remove what the targets made, but for runs
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist site
