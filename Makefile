# `make demo` and `make test` need Python 3.11+ and the package registry, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ENVIRONMENT := $(VENV)/.complete
# Where `make bench` writes; the README's table is made from results/bench-cpu.json.
BENCH_JSON ?= bench-work/bench.json
# make survey SURVEY_JSON=results/survey-timm.json SURVEY_TABLE=docs/survey.md
SURVEY_JSON ?= bench-work/survey.json
SURVEY_TABLE ?= bench-work/survey.md
BENCH_CLASSES_JSON ?= bench-work/bench-classes.json
BENCH_PRECISION_JSON ?= bench-work/bench-precision.json
BENCH_TRAINING_JSON ?= bench-work/bench-training.json
BENCH_CPP_JSON ?= bench-work/bench-cpp.json
# make bench-serving BENCH_SERVING_ARGUMENTS="--clients 1 16 --seconds 60"
BENCH_SERVING_JSON ?= bench-work/bench-serving.json
BENCH_SERVING_ARGUMENTS ?=
BENCH_ARCHIVE_JSON ?= bench-work/bench-archive.json
# With photos and a classifier of your own:
#   make bench BENCH_PRECISION_ARGUMENTS="--backbone my.py:factory --photos FOLDER"
BENCH_PRECISION_ARGUMENTS ?= --backbone timm:tf_efficientnet_lite2 \
	--photos bench-work/crops/judge --calibration bench-work/crops/calibrate
BENCH_GPU_JSON ?= bench-work/bench-gpu.json
BENCH_GPU_RUNTIMES ?= onnxruntime:cuda,pytorch:cuda:eager:fp32,pytorch:cuda:eager:fp16,pytorch:cuda:cuda-graphs:fp32,pytorch:cuda:cuda-graphs:fp16,pytorch:cuda:cuda-graphs:bf16
# Further arguments: make bench BENCH_ARGUMENTS="--backbone my.py:factory --rise-masks 4000"
BENCH_ARGUMENTS ?=

# With a classifier and photos of your own:
#   make report REPORT_ARGUMENTS="--backbone my.py:factory --images FOLDER"
REPORT_ARGUMENTS ?= --backbone timm:tf_efficientnet_lite2 --images report-work/photos \
	--images report-work/crops --limit 10 --costly-photos 1 --steps 10 --rise-masks 500 \
	--samples 200 --sanity-photos 4 --rise-curve 1 --rise-curve-masks 500

.PHONY: help demo train-demo test test-all lint bench bench-train bench-cpp bench-serving bench-archive compare-openvino bench-gpu random-model fuzz soak supply-chain mutate lock wheel docs reproduce coverage survey report environment triton-environment tritonserver cpp-headers foreign-models clean

help:
	@echo "make demo      export, explain and bench a real classifier (results in demo/)"
	@echo "make train-demo PHOTOS=FOLDER  train the demo's explainer on photos of yours"
	@echo "make test      lint, types and tests"
	@echo "make test-all  the same, with the tests that take long"
	@echo "make lint      format, linter, types, layers, Dockerfiles"
	@echo "make report    compare explanation methods on the demo's photos (report-work/report/)"
	@echo "make bench-train  time a training step in its fast form and in the paper's"
	@echo "make bench-cpp  time the C++ library beside Python's session, and check its limit"
	@echo "make bench-serving  servers under load, with and without dynamic batching"
	@echo "make tritonserver REPOSITORY=models  a tritonserver on the CPU, to try a repository"
	@echo "make bench-archive  photos a second of ptame explain-archive, by one worker and by two"
	@echo "make compare-openvino TRAIN=FOLDER PHOTOS=FOLDER  times and faithfulness beside OpenVINO XAI"
	@echo "make bench-gpu  precisions, PyTorch's modes and RISE on a GPU (PYTHON: one with CUDA builds)"
	@echo "make fuzz      break every kind of file that is read, 2,000 times each (half an hour)"
	@echo "make soak      memory over 10,000 requests and 10,000 photos (half an hour)"
	@echo "make docs      build the documentation site (site/); any warning fails"
	@echo "make wheel     dist/*.whl, for pipx, and for the images in docker/"
	@echo "make mutate    change the numeric core, one operator at a time: do the tests notice?"
	@echo "make coverage  the tests, and whether each package has 90 % of its lines run by them"
	@echo "make reproduce  every committed number, table and picture again; tells which moved (a day)"
	@echo "make lock      requirements-runtime.lock anew: versions and hashes"
	@echo "make supply-chain  bill of materials, licences, known weaknesses"
	@echo "make survey    export 89 timm models, and tell which hold (an hour)"
	@echo "make bench     reproduce the README's tables of speed and precision, and check their limits"
	@echo "make environment  $(VENV)/, which the others make where they need it"
	@echo "make triton-environment, cpp-headers, foreign-models  likewise, for some of the tests"
	@echo "make random-model  a small graph with random weights, which fuzz and soak run"
	@echo "make clean     remove the environments and all that was made (results/ stays)"

# tritonserver comes with a package that needs an older NumPy.
TRITON ?= .venv-triton
TRITON_ENVIRONMENT := $(TRITON)/.complete

triton-environment: $(TRITON_ENVIRONMENT)

$(TRITON_ENVIRONMENT): constraints-triton.txt
	$(PYTHON) -m venv $(TRITON)
	$(TRITON)/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints-triton.txt nvidia-pytriton onnxruntime pillow pydantic rich typer
	$(TRITON)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

# A repository of ptame triton --backend python, on a CPU: make tritonserver REPOSITORY=models
tritonserver: $(ENVIRONMENT) triton-environment
	PTAME_TRITON_VENV=$(abspath $(TRITON)) $(BIN)/python scripts/tritonserver.py "$(REPOSITORY)"

# An ONNX classifier that somebody else trained and exported, for the tests (Apache-2.0).
FOREIGN ?= .foreign-models

foreign-models: $(FOREIGN)/.complete

$(FOREIGN)/.complete: $(ENVIRONMENT)
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
		--dest $(FOREIGN) rapidocr-onnxruntime==1.2.3
	$(BIN)/python -m zipfile -e $(FOREIGN)/*.whl $(FOREIGN)
	@touch $@

# Headers for the C++ library, as files; the compiler and CMake are the machine's.
CPP_HEADERS ?= .cpp-headers

cpp-headers: $(CPP_HEADERS)/.complete

$(CPP_HEADERS)/.complete: scripts/cpp_headers.sh
	PYTHON=$(PYTHON) scripts/cpp_headers.sh $(CPP_HEADERS)
	@touch $@

environment: $(ENVIRONMENT)

$(ENVIRONMENT): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable ".[demo,train,evaluate,triton,serve,archive,rtx,app,transformers,onnx-gradient,docs,dev]"
	@touch $@

demo: $(ENVIRONMENT)
	$(BIN)/python scripts/demo_photos.py demo/photos --crops demo/crops
	$(BIN)/ptame export --backbone timm:tf_efficientnet_lite2 --auxiliary efficientnet_lite0 --top-k 2 -o demo/start
	$(BIN)/ptame export --backbone timm:tf_efficientnet_lite2 --explainer shipped --top-k 2 -o demo/model
	$(BIN)/ptame explain demo/model demo/photos --beside demo/start -o demo/explained
	$(BIN)/ptame export --backbone timm:tf_efficientnet_lite2 --explainer shipped --top-k 3 -o demo/top3
	$(BIN)/ptame explain demo/top3 demo/photos -o demo/top3-explained
	$(BIN)/ptame export --backbone timm:tf_efficientnet_lite2 --explainer shipped --contrast --top-k 2 \
		-o demo/contrast
	$(BIN)/ptame explain demo/contrast demo/photos -o demo/contrast-explained
	$(BIN)/ptame quantize demo/model demo/crops/judge --calibration demo/crops/calibrate \
		--precision int8 -o demo/model-int8
	$(BIN)/ptame bench demo/model --lowered demo/model-int8 --batch 1 --rise-masks 500 --json demo/bench.json
	@echo
	@echo "Pictures:         demo/explained/*.png (the trained explainer, and its start beside it)"
	@echo "                  demo/top3-explained/*.png (the three best classes)"
	@echo "                  demo/contrast-explained/*.png (why this class and not the next)"
	@echo "Table of classes: demo/explained/results.csv"
	@echo "Table of speed:   demo/bench.json (FP32 and INT8, with INT8's drift)"

# The explainer that ships with the package, anew: make train-demo PHOTOS=FOLDER
train-demo: $(ENVIRONMENT)
	@test -n "$(PHOTOS)" || { echo "Say which photos: make train-demo PHOTOS=FOLDER"; exit 2; }
	$(BIN)/ptame train $(PHOTOS) --backbone timm:tf_efficientnet_lite2 \
		--auxiliary efficientnet_lite0 -o demo/explainer
	$(BIN)/ptame export --backbone timm:tf_efficientnet_lite2 --explainer demo/explainer -o demo/trained

lint: $(ENVIRONMENT)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/hadolint docker/*.Dockerfile

# A thread a worker: more of them wait for each other. A module's tests share what they export.
test: TESTS = -m "not slow"
test: test-all

test-all: lint
	@$(MAKE) --no-print-directory triton-environment \
		|| echo "No environment for tritonserver can be made here: its tests are skipped."
	@$(MAKE) --no-print-directory cpp-headers \
		|| echo "No headers for the C++ library can be had here: its tests are skipped."
	@$(MAKE) --no-print-directory foreign-models \
		|| echo "No foreign ONNX classifier can be had here: its tests are skipped."
	OMP_NUM_THREADS=1 PTAME_FOREIGN_MODELS=$(abspath $(FOREIGN)) PTAME_TRITON_VENV=$(abspath $(TRITON)) \
		PTAME_CPP_HEADERS=$(abspath $(CPP_HEADERS)) $(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(TESTS)

# Lines that the tests run, code for GPUs counted in; what commands run in other processes is not.
coverage: $(ENVIRONMENT)
	OMP_NUM_THREADS=1 PTAME_FOREIGN_MODELS=$(abspath $(FOREIGN)) PTAME_TRITON_VENV=$(abspath $(TRITON)) \
		PTAME_CPP_HEADERS=$(abspath $(CPP_HEADERS)) $(BIN)/pytest --numprocesses auto --maxprocesses 4 \
		--dist loadfile --no-loadscope-reorder -m "not slow" --cov=ptame_deploy --cov=trainer --cov=engines --cov=bench --cov-report=
	for package in ptame_deploy trainer engines bench; do \
		$(BIN)/coverage report --include="$$package/*" --fail-under=90 --format=total || exit 1; done

bench: $(ENVIRONMENT)
	$(BIN)/python scripts/benchmark.py --json "$(BENCH_JSON)" $(BENCH_ARGUMENTS)
	$(BIN)/python scripts/benchmark_classes.py --json "$(BENCH_CLASSES_JSON)"
	$(BIN)/python scripts/demo_photos.py bench-work/photos --crops bench-work/crops
	$(BIN)/python scripts/benchmark_precision.py --json "$(BENCH_PRECISION_JSON)" $(BENCH_PRECISION_ARGUMENTS)

bench-train: $(ENVIRONMENT)
	$(BIN)/python scripts/benchmark_training.py --json "$(BENCH_TRAINING_JSON)"

bench-cpp: $(ENVIRONMENT) cpp-headers
	$(BIN)/ptame export --backbone timm:tf_efficientnet_lite2 --explainer shipped -o bench-work/cpp-model
	$(BIN)/python scripts/benchmark_cpp.py bench-work/cpp-model --headers $(CPP_HEADERS) --json "$(BENCH_CPP_JSON)"

bench-serving: $(ENVIRONMENT) triton-environment
	$(BIN)/ptame export --backbone timm:tf_efficientnet_lite2 --explainer shipped --top-k 2 \
		-o bench-work/served
	PTAME_TRITON_VENV=$(abspath $(TRITON)) $(BIN)/python scripts/benchmark_serving.py \
		bench-work/served --json "$(BENCH_SERVING_JSON)" $(BENCH_SERVING_ARGUMENTS)

bench-archive: $(ENVIRONMENT)
	$(BIN)/python scripts/demo_photos.py bench-work/photos --crops bench-work/crops
	$(BIN)/ptame export --backbone timm:tf_efficientnet_lite2 --explainer shipped -o bench-work/archive-model
	$(BIN)/python scripts/benchmark_archive.py --json "$(BENCH_ARCHIVE_JSON)"

# Beside OpenVINO XAI, which needs an older NumPy: make compare-openvino TRAIN=FOLDER PHOTOS=FOLDER
COMPARE_JSON ?= bench-work/compare-openvino.json
OPENVINO ?= .venv-openvino
OPENVINO_ENVIRONMENT := $(OPENVINO)/.complete

$(OPENVINO_ENVIRONMENT): constraints-openvino.txt
	$(PYTHON) -m venv $(OPENVINO)
	$(OPENVINO)/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints-openvino.txt openvino-xai pillow pydantic rich typer
	$(OPENVINO)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

compare-openvino: $(ENVIRONMENT) $(OPENVINO_ENVIRONMENT)
	@test -n "$(TRAIN)" -a -n "$(PHOTOS)" || { echo "Say which photos: make compare-openvino TRAIN=FOLDER PHOTOS=FOLDER"; exit 2; }
	$(BIN)/python scripts/compare_openvino.py $(PHOTOS) --train $(TRAIN) --work bench-work/openvino \
		--openvino $(abspath $(OPENVINO))/bin/python --json "$(COMPARE_JSON)"

# The same precisions on a GPU, with RISE: in an environment whose torch and onnxruntime-gpu have CUDA.
bench-gpu:
	$(PYTHON) scripts/demo_photos.py bench-work/photos --crops bench-work/crops
	$(PYTHON) scripts/benchmark_precision.py --runtimes "$(BENCH_GPU_RUNTIMES)" --batches 1,8,64 \
		--rise-masks 4000 --json "$(BENCH_GPU_JSON)" $(BENCH_PRECISION_ARGUMENTS)

# A small graph for what does not ask what is in it.
random-model: $(ENVIRONMENT)
	$(BIN)/ptame export --backbone mobilenet_v3_small --weights random --auxiliary mobilenet_v3_small \
		--auxiliary-weights random -o bench-work/random-model

# Breaks every kind of file that is read, thousands of times.
FUZZ_ARGUMENTS ?= --count 2000

fuzz: random-model
	$(BIN)/python tests/doubles/fuzz_readers.py --graph bench-work/random-model $(FUZZ_ARGUMENTS)

# Software bill of materials, licences, known weaknesses (the last asks PyPI).
AUDIT ?= .venv-audit
AUDIT_ENVIRONMENT := $(AUDIT)/.complete

$(AUDIT_ENVIRONMENT): Makefile
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check \
		cyclonedx-bom==7.5.0 pip-audit==2.10.1 uv==0.13.9 cosmic-ray==8.7.0
	@touch $@

supply-chain: $(ENVIRONMENT) $(AUDIT_ENVIRONMENT)
	@mkdir -p bench-work
	$(AUDIT)/bin/cyclonedx-py environment $(VENV) --pyproject pyproject.toml --output-reproducible \
		-o bench-work/sbom.json
	$(BIN)/python scripts/dependencies.py bench-work/sbom.json --table docs/dependencies.md
	$(AUDIT)/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

# Memory over thousands of requests and photos.
SOAK_JSON ?= bench-work/soak.json

soak: random-model
	$(BIN)/python scripts/soak.py bench-work/random-model --json "$(SOAK_JSON)" $(SOAK_ARGUMENTS)

# Whether the tests notice when the numeric core is changed; docs/mutation.md explains what they do not.
# One module: make mutate MODULE=trainer/losses.py; some of its mutants: SAMPLE=200
mutate: $(ENVIRONMENT) $(AUDIT_ENVIRONMENT)
	PATH="$(abspath $(BIN)):$(abspath $(AUDIT)/bin):$$PATH" $(BIN)/python scripts/mutate.py \
		$(if $(MODULE),--only $(MODULE)) $(if $(SAMPLE),--sample $(SAMPLE))

# What production machines install, with hashes; for the images in docker/ too.
lock: $(AUDIT_ENVIRONMENT)
	$(AUDIT)/bin/uv pip compile --quiet --native-tls --generate-hashes --universal \
		--python-version 3.11 --custom-compile-command "make lock" \
		--constraint constraints.txt requirements-runtime.txt -o requirements-runtime.lock

# dist/*.whl, which the images in docker/ are made with.
wheel: $(ENVIRONMENT)
	rm -rf dist
	$(BIN)/python -m build --no-isolation --wheel

docs: $(ENVIRONMENT)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Every committed number, table and picture again, and which of them moved: a day on two cores.
#   make reproduce PHOTOS=FOLDER CLASSIFIER=my.py:build    make reproduce ONLY=bench-cpp-cpu,pictures
reproduce: $(ENVIRONMENT)
	$(BIN)/python scripts/reproduce.py $(if $(PHOTOS),--photos "$(PHOTOS)") \
		$(if $(CLASSIFIER),--classifier "$(CLASSIFIER)") $(if $(ONLY),--only "$(ONLY)")

survey: $(ENVIRONMENT)
	$(BIN)/python scripts/survey.py --json "$(SURVEY_JSON)" --table "$(SURVEY_TABLE)"

report: $(ENVIRONMENT)
	$(BIN)/python scripts/demo_photos.py report-work/photos --crops report-work/crops
	$(BIN)/ptame evaluate $(REPORT_ARGUMENTS) --resume -o report-work/report
	@echo
	@echo "Page:             report-work/report/report.html"

clean:
	rm -rf $(VENV) $(TRITON) $(OPENVINO) $(AUDIT) $(CPP_HEADERS) $(FOREIGN) demo bench-work report-work site build dist .mypy_cache .pytest_cache .ruff_cache
