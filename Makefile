# make demo and make test are the two commands a newcomer needs; `make help` lists the rest.
# Everything is installed into .venv of this checkout with the versions in constraints.txt.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
STAMP := $(VENV)/.installed
TORCH := $(shell grep '^torch==' constraints.txt)

# lmms-eval asks for av<16 and a hundred packages; these are the ones that an evaluation imports. torchvision does not
# import beside a torch without CUDA and breaks transformers there: it stays where only the tests that need it look, with
# qwen-vl-utils, which imports it.
LMMS_NEEDS := datasets evaluate sacrebleu loguru tenacity pytablewriter

# Older versions lie over the environment, each in a folder of its own that PYTHONPATH puts before it.
OLDER_TRANSFORMERS := 5.18.0 5.23.0
OVERLAYS := $(OLDER_TRANSFORMERS:%=.transformers-%/.installed)

# vLLM pins another torch build and an older transformers than the rest, so it has an environment of its own. It is
# installed without dependencies, since its CPU build names a torch that only some indexes have.
SERVING := .vllm
SERVING_PIP := $(SERVING)/bin/python -m pip install -qq --disable-pip-version-check

# Two test processes with one torch thread each use two cores better than one process with two threads.
JOBS ?= 2
PYTEST_ARGS ?=
FUZZ_ARGS ?=
MUTANTS_ARGS ?=
BENCH_ARGS ?=
PAGES ?=
MASS_ARGS ?=
OFFLINE := HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_DATASETS_OFFLINE=1

.DEFAULT_GOAL := help
.PHONY: help install demo test test-older test-versions test-newest mutants fuzz lint format snippets docs docs-links accuracy accuracy-mass bench bench-gpu release-check serve-test clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | awk -F'|' '{printf "  make %-13s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || { echo "creating $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing into $(VENV) (the first time takes a few minutes)"
	@$(PIP) -c constraints.txt $(TORCH)
	@$(BIN)/python -m pip uninstall -qqy vidcompress  # its former name, in an environment that was made before
	@$(PIP) -c constraints.txt -e '.[dev,decord,plot,docs,app,datasets]' $(LMMS_NEEDS)
	@$(PIP) -c constraints.txt --no-deps lmms-eval opencv-python-headless
	@$(PIP) -c constraints.txt --no-deps --upgrade --target $(VENV)/torchvision torchvision qwen-vl-utils
	@touch $@

install: $(STAMP)  ## set up .venv

demo: $(STAMP)  ## ask the embedded model about an image and a clip with all, a quarter and a tenth of the tokens
	@$(OFFLINE) $(BIN)/python scripts/demo.py

test: $(STAMP)  ## run every test, offline
	$(OFFLINE) OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal $(PYTEST_ARGS)

lint: $(STAMP)  ## check style, formatting, types and which module imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(STAMP)  ## rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

snippets: $(STAMP)  ## write beneath the snippets of README and docs what they print, and their tables of methods and costs
	$(OFFLINE) $(BIN)/python scripts/refresh_documents.py $(PAGES)

docs: $(STAMP)  ## build the documentation into docs/_build, offline; a warning or a dead link is an error
	@rm -rf docs/_build
	$(OFFLINE) PYTHONPATH=$(CURDIR) $(BIN)/sphinx-build -q -W --keep-going -c docs . docs/_build/html
	$(BIN)/python scripts/check_site.py docs/_build/html
	@echo "docs/_build/html/index.html"

docs-links: $(STAMP)  ## look up every link of the documentation that leaves it; needs the network
	PYTHONPATH=$(CURDIR) $(BIN)/sphinx-build -q -c docs -b linkcheck . docs/_build/links

fuzz: $(STAMP)  ## read 10,000 broken clips, pictures and checkpoints; findings and the journal go to runs/fuzz
	$(OFFLINE) $(BIN)/python scripts/fuzz.py --out docs/results/fuzz.json $(FUZZ_ARGS)

.transformers-%/.installed: $(STAMP)
	@echo "installing transformers $* into .transformers-$*"
	@rm -rf .transformers-$*
	@$(PIP) --no-deps --target .transformers-$* transformers==$*
	@touch $@

# $(call test_on,VERSION,ARGUMENTS): run tests on an older version; a folder that is not the one imported is an error.
define test_on
	$(OFFLINE) OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONPATH=$(CURDIR)/.transformers-$(1) $(BIN)/python -c \
		"import transformers; assert transformers.__version__ == '$(1)', transformers.__file__"
	$(OFFLINE) OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONPATH=$(CURDIR)/.transformers-$(1) \
		$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal $(2) $(PYTEST_ARGS)

endef

test-older: $(OVERLAYS)  ## run the tests marked transformers on the older versions we support
	$(foreach version,$(OLDER_TRANSFORMERS),$(call test_on,$(version),-m transformers tests))

test-versions: $(OVERLAYS)  ## run the contract and unit tests on the newest and the older versions we support
	$(OFFLINE) OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 \
		$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal tests/contract tests/unit $(PYTEST_ARGS)
	$(foreach version,$(OLDER_TRANSFORMERS),$(call test_on,$(version),tests/contract tests/unit))

test-newest: $(STAMP)  ## run the contract and unit tests on whatever transformers is newest, without a pin
	@rm -rf .transformers-newest
	@$(PIP) --no-deps --target .transformers-newest --upgrade transformers
	@PYTHONPATH=$(CURDIR)/.transformers-newest $(BIN)/python -c "import transformers; print('transformers', transformers.__version__)"
	$(OFFLINE) OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONPATH=$(CURDIR)/.transformers-newest \
		$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal tests/contract tests/unit $(PYTEST_ARGS)

mutants: $(STAMP)  ## break the code on purpose, mistake by mistake, and print which test notices each
	$(OFFLINE) $(BIN)/python scripts/mutants.py --jobs $(JOBS) $(MUTANTS_ARGS)

accuracy: $(STAMP)  ## measure every method on the embedded models, 1,000 questions each, and draw the tables and plots
	$(OFFLINE) $(BIN)/python scripts/accuracy.py --model models/tiny-onevision --medium image
	$(OFFLINE) $(BIN)/python scripts/accuracy.py --model models/tiny-onevision --medium clip
	$(OFFLINE) $(BIN)/python scripts/accuracy.py --model models/tiny-next --medium image
	$(OFFLINE) $(BIN)/python scripts/accuracy.py --model models/tiny-qwen --medium image
	$(OFFLINE) $(BIN)/python scripts/accuracy.py --model models/tiny-qwen --medium clip
	$(OFFLINE) $(BIN)/python scripts/accuracy_table.py

accuracy-mass: $(STAMP)  ## measure mass and positions on new questions (hours); goes on where it was stopped
	$(OFFLINE) $(BIN)/python scripts/accuracy_mass.py $(MASS_ARGS)
	$(OFFLINE) $(BIN)/python scripts/dose_response.py
	$(BIN)/python scripts/mass_table.py

bench: $(STAMP)  ## measure on this CPU (half an hour) whether savings show, and how cost grows with length; goes on where it was stopped
	$(OFFLINE) $(BIN)/python scripts/bench_cpu.py $(BENCH_ARGS)
	$(OFFLINE) $(BIN)/python scripts/bench_length.py
	$(OFFLINE) $(BIN)/python scripts/bench_length.py --geometry llava-onevision-0.5b --no-baseline --longest 36 --rounds 2
	$(BIN)/python scripts/bench_tables.py

bench-gpu: $(STAMP)  ## fill the table of a large GPU, nine minutes at a time; goes on where it was stopped
	$(OFFLINE) $(BIN)/python scripts/bench_h200.py $(BENCH_ARGS); code=$$?; $(BIN)/python scripts/bench_tables.py; exit $$code

$(SERVING)/.installed: tests/serving/requirements.txt tests/serving/torchvision_schemas.py
	@test -x $(SERVING)/bin/python || { echo "creating $(SERVING)"; $(PYTHON) -m venv $(SERVING); }
	@echo "installing vLLM into $(SERVING) (a few minutes, 3 to 6 GB)"
	@$(SERVING_PIP) $(TORCH)
	@$(SERVING_PIP) --no-deps -r tests/serving/requirements.txt
	@cp tests/serving/torchvision_schemas.py \
		"$$($(SERVING)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/sitecustomize.py"
	@$(SERVING_PIP) --no-deps -e .
	@touch $@

serve-test: $(SERVING)/.installed  ## serve small models by vLLM on the CPU, in an environment of its own
	$(OFFLINE) OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 PYTHONPATH=$(CURDIR) \
		$(SERVING)/bin/python -m pytest -q -n $(JOBS) --dist loadfile tests/serving $(PYTEST_ARGS)

release-check: $(STAMP)  ## build wheel and sdist, check what they say and hold, use the wheel on every Python 3.11 to 3.13 here
	$(BIN)/python scripts/release_check.py --out runs/release

clean:  ## remove what make made (environments stay; delete .venv* to be rid of those)
	rm -rf dist build docs/_build runs/release .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*' -not -path './.vllm/*' -prune -exec rm -rf {} +
