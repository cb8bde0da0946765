VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
READY := $(VENV)/.ready

CASES := benchmarks/published/cases.csv
FIELD := benchmarks/published/field.csv
HELD_OUT ?= out/held-out.csv
PARALLEL := -n auto --dist worksteal

.PHONY: demo test test-hosts test-slow test-gpu check format bench-gpu bench-cpu bench-search bench-session kernels structure performance architectures fit cross-validate calibrate accuracy clean

demo: $(READY)
	$(BIN)/advisor demo

# A process for each core; the tests share them.
test: $(READY)
	$(BIN)/pytest $(PARALLEL)

# The default tests as on the other canned host of tests/hosts: with bf16 instructions.
test-hosts: $(READY)
	ADVISOR_TEST_HOST=avx512-bf16 $(BIN)/pytest $(PARALLEL)

# What takes too long for every change: all shapes in the interpreter, kernels compiled ahead of time, real children, terminals.
test-slow: $(READY)
	$(BIN)/pytest $(PARALLEL) -m "slow and not gpu and not online"

# The same checks of the kernels on the GPU itself, compiled instead of interpreted.
test-gpu: $(READY)
	TRITON_INTERPRET=0 $(BIN)/pytest -m gpu

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.structure
	$(BIN)/python tools/accuracy_page.py --check
	$(BIN)/python -m tools.performance_page --check
	$(BIN)/python -m tools.cross_validate $(CASES) --fast
	$(MAKE) test

# What a change of the estimator asks for, in this order: fit, cross-validate, calibrate, accuracy.
fit: $(READY)
	$(BIN)/python -m tools.fit_engines $(CASES) vllm sglang tensorrt-llm --write

cross-validate: $(READY)
	mkdir -p out
	$(BIN)/python -m tools.cross_validate $(CASES) --out benchmarks/results/cross-validation.json --rows $(HELD_OUT)

# 90 % ranges of what the next source publishes; HELD_OUT holds predictions by constants fitted without their source, of cross-validate.
calibrate: $(READY) $(HELD_OUT)
	mkdir -p out
	$(BIN)/advisor validate $(CASES) --rows out/rows.csv > out/validation.txt
	$(BIN)/advisor validate $(FIELD) --rows out/field-rows.csv > out/field-validation.txt
	$(BIN)/python -m tools.calibrate $(CASES) out/rows.csv $(HELD_OUT) $(FIELD) out/field-rows.csv

$(HELD_OUT):
	$(MAKE) cross-validate

accuracy: $(READY)
	$(BIN)/python tools/accuracy_page.py

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench-cpu: $(READY)
	$(BIN)/python -m benchmarks.cpu $(BENCH)

# Nine minutes on one GPU; what is done stays, so run it again to go on. Where nothing can be installed, `python3 -m benchmarks.gpu` needs
# torch, triton, transformers, pydantic, pyyaml, click, numpy and nvidia-ml-py, and BENCHMARK_COMMIT where there is no repository.
bench-gpu: $(READY)
	TRITON_INTERPRET=0 $(BIN)/python -m benchmarks.gpu $(BENCH)

bench-search: $(READY)
	$(BIN)/python benchmarks/search.py

# Milliseconds from a key to the screen, over all shipped models.
bench-session: $(READY)
	$(BIN)/python -m benchmarks.session --out benchmarks/results $(BENCH)

# Entries under advisor/, rings of imports, imports that run upward, class names with several meanings.
structure: $(READY)
	$(BIN)/python -m tools.structure

# What every kernel compiles to for GPUs that need not be here.
kernels: $(READY)
	TRITON_INTERPRET=0 $(BIN)/python -m tools.compile_ahead --out benchmarks/results/compiled.json

performance: $(READY)
	$(BIN)/python -m tools.performance_page

# Every decoder architecture of transformers against its own `generate`: about fifteen minutes of one core. What is done stays.
architectures: $(READY)
	$(BIN)/python -m tools.architecture_comparison $(ARCHITECTURES)
	$(BIN)/python -m tools.architectures_page

# torch first: the exact version takes a CPU build where one is offered, a range would take the newest CUDA build.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet -c constraints.txt -e '.[run,dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
