# Two commands do all the set-up on a fresh machine with Python 3.11+:
#   make run    own virtual environment, install, and the main job on the embedded default
#   make test   own virtual environment, install, lint, types and all tests
#
# OUT=folder     where `make run` puts its results; an unfinished run there is gone on with
# PIP_ARGS=...   e.g. PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu" for a
#                torch without CUDA

PYTHON ?= python3
OUT ?= results/first
RUN_ARGS ?= --device snapdragon8gen3 --budget 1.5B
PIP_ARGS ?=
PIP = -m pip install --quiet --disable-pip-version-check $(PIP_ARGS)

# what this machine needs no device for
TESTS = not gpu and not phone and not network

.PHONY: run test lint unit trainers llama-cpp executorch ray profiles accuracy proxy-page handoff clean

run: .venv/.installed
	@if [ -f $(OUT)/settings.yaml ]; then \
		.venv/bin/phonesearch run --resume $(OUT); \
	else \
		.venv/bin/phonesearch run $(RUN_ARGS) --out $(OUT); \
	fi

test: lint unit

lint: .venv-test/.installed
	.venv-test/bin/ruff check .
	.venv-test/bin/ruff format --check .
	.venv-test/bin/mypy

# -m replaces the default selection: slow tests run, and those with the fake phone, where the
# machine has what they need (.ci/run installs it); those that need a device do not.
unit: .venv-test/.installed
	@for others in trainers llama-cpp; do \
		$(MAKE) --no-print-directory $$others || echo "Going on without $$others: their tests skip."; \
	done
	.venv-test/bin/python -m pytest -n 2 --dist loadfile -m "$(TESTS) and not executorch and not ray and not crowd"
	.venv-test/bin/python -m pytest -m "crowd and not ray" tests/workers
	@if $(MAKE) --no-print-directory executorch; then \
		.venv-executorch/bin/python -m pytest -n 2 -m executorch tests/trainer_export; \
	elif [ -n "$$PHONESEARCH_NEED_ALL" ]; then exit 1; \
	else echo "Went without ExecuTorch: its tests did not run."; fi
	@if $(MAKE) --no-print-directory ray; then \
		.venv-ray/bin/python -m pytest -m ray tests/workers; \
	elif [ -n "$$PHONESEARCH_NEED_ALL" ]; then exit 1; \
	else echo "Went without Ray: its tests did not run."; fi

# other people's trainers, for the tests that let them read what is exported for them
trainers: .venv-trainers/.installed

# ExecuTorch and torchao, for the tests that run what is exported for it
executorch: .venv-executorch/.installed

# Ray, for the tests that let it place workers
ray: .venv-ray/.installed

# llama.cpp, four minutes of one core, for the tests that let it read what is exported for it
llama-cpp: .venv-test/.llama-cpp

profiles: .venv-test/.installed
	.venv-test/bin/python -m phonesearch.device.make_profiles

# docs/device-accuracy.md and its plots, from the profiles as they are
accuracy: .venv-test/.installed
	.venv-test/bin/python -m phonesearch.report.accuracy

# docs/proxy.md, from the shipped law and docs/proxy/study.csv
proxy-page: .venv-test/.installed
	.venv-test/bin/python -m phonesearch.report.proxy_page

# docs/handoff.md, from what the tests of every export target see; needs trainers,
# llama-cpp and executorch
handoff: .venv-test/.installed trainers llama-cpp executorch
	rm -f docs/handoff/tried.jsonl
	PHONESEARCH_NEED_ALL=1 PHONESEARCH_TRIED=$(CURDIR)/docs/handoff/tried.jsonl \
		.venv-test/bin/python -m pytest -n 2 --dist loadfile -m "not executorch" \
		--deselect tests/trainer_export/test_handoff_page.py::test_the_committed_page_is_what_the_command_gives \
		tests/trainer_export
	PHONESEARCH_TRIED=$(CURDIR)/docs/handoff/tried.jsonl \
		.venv-executorch/bin/python -m pytest -n 2 -m executorch tests/trainer_export
	.venv-test/bin/python -m phonesearch.trainer_export.handoff_page --from docs/handoff/tried.jsonl
	rm docs/handoff/tried.jsonl

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	@echo "Installing phonesearch into .venv (a minute or two) ..."
	.venv/bin/python $(PIP) --upgrade "pip>=25.1"
	.venv/bin/python $(PIP) --editable .
	@touch $@

.venv-test/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-test
	@echo "Installing phonesearch and its tests into .venv-test (a minute or two) ..."
	.venv-test/bin/python $(PIP) --upgrade "pip>=25.1"
	.venv-test/bin/python $(PIP) --editable . --group test
	@touch $@

.venv-test/.llama-cpp: .venv-test/.installed .ci/llama-cpp
	@echo "Building llama.cpp into .venv-test (some minutes) ..."
	.ci/llama-cpp .venv-test/bin/python
	@touch $@

# Their pins go against ours, hence an environment of their own. It sees our libraries where it has
# none itself, torch above all, which is several gigabytes. litdata asks for torchvision and never
# uses it; a build for CUDA does not even import beside a torch without.
LIBRARIES = -c "import sysconfig; print(sysconfig.get_path('purelib'))"
TORCH = -c "import torch; print('torch==' + torch.__version__.split('+')[0])"

.venv-trainers/.installed: .venv-test/.installed tests/trainer_export/trainers/requirements.txt
	$(PYTHON) -m venv .venv-trainers
	@echo "Installing the trainers that are exported to into .venv-trainers (a minute or two) ..."
	.venv-test/bin/python $(LIBRARIES) > "$$(.venv-trainers/bin/python $(LIBRARIES))/ours.pth"
	.venv-test/bin/python $(TORCH) > .venv-trainers/constraints.txt
	.venv-trainers/bin/python $(PIP) --constraint .venv-trainers/constraints.txt \
		--requirement tests/trainer_export/trainers/requirements.txt
	.venv-trainers/bin/python -m pip uninstall --quiet --yes torchvision
	@touch $@

# An environment of its own, since other packages behave otherwise where they find torchao, over
# the libraries, and the phonesearch, of .venv-test.
.venv-executorch/.installed: .venv-test/.installed
	$(PYTHON) -m venv .venv-executorch
	@echo "Installing ExecuTorch into .venv-executorch (a minute or two) ..."
	echo "import site; site.addsitedir('$$(.venv-test/bin/python $(LIBRARIES))')" \
		> "$$(.venv-executorch/bin/python $(LIBRARIES))/ours.pth"
	.venv-test/bin/python $(TORCH) > .venv-executorch/constraints.txt
	.venv-executorch/bin/python $(PIP) --constraint .venv-executorch/constraints.txt \
		"phonesearch[executorch]"
	@touch $@

# As the one above, since Ray brings packages that others find.
.venv-ray/.installed: .venv-test/.installed
	$(PYTHON) -m venv .venv-ray
	@echo "Installing Ray into .venv-ray (a minute or two) ..."
	echo "import site; site.addsitedir('$$(.venv-test/bin/python $(LIBRARIES))')" \
		> "$$(.venv-ray/bin/python $(LIBRARIES))/ours.pth"
	.venv-ray/bin/python $(PIP) "phonesearch[ray]"
	@touch $@

clean:
	rm -rf .venv .venv-test .venv-trainers .venv-executorch .venv-ray build dist .mypy_cache .pytest_cache .ruff_cache
