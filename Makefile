# Two commands do all the set-up: `make quickstart` and `make test`; `make test-all` adds
# PyTorch's and the TPU compiler's, `make benchmarks` what ours is measured beside.
PYTHON ?= python3
VENV := .venv
# Large pages, kept from step to step, make this code up to twice as fast on CPU with glibc.
export GLIBC_TUNABLES := glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1:glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=34359738368

.PHONY: quickstart test test-all benchmarks mutation clean

quickstart: $(VENV)/.installed
	$(VENV)/bin/rbs quickstart $(QUICKSTART)

test: $(VENV)/.installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest -n 2 --dist loadfile -m "not torch and not tpu"

# What compares with transformers, and what compiles for TPU pods, after everything that does
# without them.
test-all: test
	$(MAKE) $(VENV)/.installed-torch
	$(VENV)/bin/pytest -n 2 --dist loadfile -m torch
	$(MAKE) $(VENV)/.installed-tpu
	PYTHONPATH=$(CURDIR)/$(VENV)/tpu JAX_PLATFORMS=cpu $(VENV)/bin/pytest -n 2 -m tpu

# Speed beside the alternatives, in one run each; more than an hour on 2 CPU cores that do nothing else.
benchmarks: $(VENV)/.installed-benchmarks
	$(VENV)/bin/python benchmarks/step.py
	$(VENV)/bin/python benchmarks/score.py
	$(VENV)/bin/python benchmarks/data.py

# Changes the core in hundreds of places, one at a time; see docs/mutation.md.
mutation: $(VENV)/.installed-dev
	$(VENV)/bin/python -m tests.mutation

$(VENV)/.installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt requirements-cloud.txt requirements-beam.txt requirements-ifeval.txt requirements-sample.txt
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

$(VENV)/.installed-torch: $(VENV)/.installed-dev requirements-torch.txt
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements-torch.txt
	touch $@

$(VENV)/.installed-benchmarks: $(VENV)/.installed-torch requirements-benchmarks.txt
	$(VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements-benchmarks.txt
	touch $@

# In a folder of its own: whatever else runs in this environment would complain of no TPU.
$(VENV)/.installed-tpu: $(VENV)/.installed-dev requirements-tpu.txt
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --no-deps --upgrade \
		--target $(VENV)/tpu -r requirements-tpu.txt
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info
