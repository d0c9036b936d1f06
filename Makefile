# The project's commands. `make` alone lists them; each sets up whatever it needs first, once.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON := .venv/bin/python
UP := $(PYTHON) -m emulators.up
# Renderers of the demo: outside of the clone, for renders run as a user who may not be able to enter it.
SOFTWARE := $(or $(BATON_SOFTWARE_DIR),/var/tmp/baton-software)
BLENDER := $(SOFTWARE)/blender-4.5
# The stamp of each step lies where its work lies: whoever deletes the one deletes the other.
VENV := .venv/.complete
NODE := node_modules/.complete
# A peer of the bench, in an environment of its own.
RAY := build/ray/.complete
WEB_NODE := $(if $(wildcard web/package.json),web/node_modules/.complete)
WEB := $(if $(wildcard web/package.json),web/dist/.complete)
STACK := build/system build/system-stack $(VENV) $(NODE) $(WEB)
WEB_SOURCES := $(shell find web -type f -not -path '*/node_modules/*' -not -path 'web/dist/*' -not -path 'web/tests/*' 2>/dev/null)

# What Debian calls each thing, and how to see that it is here (a command, or a library when its name holds .so).
SYSTEM := python3.11:python3.11 nodejs:node npm:npm default-jre-headless:java
SYSTEM_STACK := bubblewrap:bwrap libseccomp2:libseccomp.so.2
SYSTEM_DEMO := libx11-6:libX11.so.6 libxrender1:libXrender.so.1 libxfixes3:libXfixes.so.3 libxi6:libXi.so.6 \
	libxkbcommon0:libxkbcommon.so.0 libsm6:libSM.so.6 libgl1:libGL.so.1 python3:/usr/bin/python3
SYSTEM_TEST := chromium:chromium

say = printf '\033[2m· %s\033[0m\n' "$(1)" >&2
# run a step quietly; show all that it said if it fails
quietly = { log=$$(mktemp); { $(1); } >"$$log" 2>&1 </dev/null || { cat "$$log" >&2; rm -f "$$log"; exit 1; }; rm -f "$$log"; }

.PHONY: help
help:  ## list the commands
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(STACK) build/system-demo software  ## render a real job on a farm of your own, from upload to bill
	@$(UP) run $(PYTHON) -m demo $(ARGS)

.PHONY: up
up: $(STACK)  ## start the local stack and say where everything is
	@$(UP) up
	@$(UP) run $(PYTHON) -m demo.local

.PHONY: env
env: $(VENV)  ## print what a shell needs: eval "$(make env)"
	@$(UP) env

.PHONY: status
status: $(VENV)  ## show the processes of the stack
	@$(UP) status

.PHONY: down
down: $(VENV)  ## stop the stack and all its instances
	@$(UP) down

.PHONY: test
test: $(STACK) build/system-test  ## pass the tests (ARGS="-k word" for some)
ifneq ($(WEB),)
	@$(call say,the dashboard's tests)
	@$(call quietly,npm --prefix web run test --if-present)
endif
	@$(PYTHON) -m pytest --numprocesses 2 --dist loadfile $(ARGS)

.PHONY: lint
lint: $(VENV) $(WEB_NODE)  ## check style, types, and who imports whom
	@$(call say,ruff) && .venv/bin/ruff check --quiet .
	@.venv/bin/ruff format --check --quiet . || { echo "not formatted: run .venv/bin/ruff format" >&2; exit 1; }
	@$(call say,mypy) && .venv/bin/mypy --no-error-summary .
	@$(call say,import-linter) && $(call quietly,.venv/bin/lint-imports)
	@! grep -ns '"resolved":' package-lock.json web/package-lock.json || { echo "a lock file names a registry: make lock" >&2; exit 1; }
ifneq ($(WEB),)
	@$(call say,the dashboard) && $(call quietly,npm --prefix web run lint --if-present)
endif

.PHONY: bench
bench: $(STACK) $(RAY)  ## measure the scorecard and write it down
	@$(PYTHON) -m bench $(ARGS)

.PHONY: golden
golden: $(STACK)  ## write the golden files anew; review reads the difference
	@BATON_GOLDEN=write $(PYTHON) -m pytest --quiet -m golden $(ARGS)

.PHONY: lock
lock: $(VENV) build/uv-path  ## pin the newest packages that requirements*.in and package.json allow (UPGRADE=--upgrade)
	@for name in requirements requirements-dev demo/requirements-blender bench/requirements-ray $(basename $(wildcard tests/clients/requirements-*.in)); do \
		$$(cat build/uv-path) pip compile --quiet --no-header --no-emit-index-url --no-emit-find-links \
			--python-version 3.11 $(UPGRADE) $$name.in --output-file $$name.txt; done
	@for folder in . $(if $(WEB),web); do \
		npm --prefix $$folder install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved --no-audit --no-fund --loglevel=error; \
		sed -i '/"resolved": "http/d' $$folder/package-lock.json; done

.PHONY: clean
clean:  ## remove everything that was set up here
	rm -rf .venv node_modules build web/node_modules web/dist

# --- setting up -------------------------------------------------------------------------------------------------------

build/uv-path: | build/system
	@mkdir -p build
	@if uv --version >/dev/null 2>&1; then command -v uv >$@; else \
		$(call say,uv); \
		$(call quietly,python3.11 -m venv build/uv && build/uv/bin/pip install --quiet --disable-pip-version-check uv); \
		echo build/uv/bin/uv >$@; fi

$(VENV): requirements.txt requirements-dev.txt | build/system build/uv-path
	@$(call say,Python packages)
	@[ -x $(PYTHON) ] || $$(cat build/uv-path) venv --quiet --python 3.11 --no-python-downloads .venv
	@$$(cat build/uv-path) pip install --quiet --python $(PYTHON) --requirement requirements-dev.txt
	@touch $@

$(RAY): bench/requirements-ray.txt | build/uv-path
	@$(call say,Ray to measure beside us)
	@[ -x build/ray/bin/python ] || $$(cat build/uv-path) venv --quiet --python 3.11 --no-python-downloads build/ray
	@$$(cat build/uv-path) pip install --quiet --python build/ray/bin/python --requirement $<
	@touch $@

$(NODE): package.json package-lock.json | build/system
	@$(call say,firebase-tools)
	@$(call quietly,npm ci --ignore-scripts --no-audit --no-fund)
	@touch $@

web/node_modules/.complete: web/package.json web/package-lock.json | build/system
	@$(call say,packages of the dashboard)
	@$(call quietly,npm --prefix web ci --no-audit --no-fund)
	@touch $@

web/dist/.complete: $(WEB_SOURCES) | web/node_modules/.complete
	@$(call say,the dashboard)
	@$(call quietly,npm --prefix web run build)
	@touch $@

# One at a time, for copies of the project share it; done anew only when the list of packages has changed.
.PHONY: software
software: $(VENV) | build/uv-path build/system-demo
	@umask 022; mkdir -p $(SOFTWARE); exec 9>$(SOFTWARE)/.lock; flock 9; uv=$$(cat build/uv-path); \
	cmp -s demo/requirements-blender.txt $(BLENDER)/requirements.txt || { \
		$(call say,Blender); rm -rf $(BLENDER); \
		$(call quietly,$$uv pip install --python /usr/bin/python3 --target $(BLENDER)/lib --only-binary :all: -r demo/requirements-blender.txt); \
		cp demo/requirements-blender.txt $(BLENDER)/requirements.txt; }; \
	mkdir -p $(BLENDER)/bin; for file in blender render.py; do \
		cmp -s demo/blender/$$file $(BLENDER)/bin/$$file || install -m 755 demo/blender/$$file $(BLENDER)/bin/$$file; done;
	@$(PYTHON) -m tests.clients.install 9.2.0

# Install what is missing where we may, else name it in one line.
define install
	@mkdir -p build; missing=; \
	for pair in $(1); do \
		probe=$${pair#*:}; \
		case $$probe in \
			*.so*) PATH=$$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null | grep -F "$$probe" >/dev/null || missing+=" $${pair%%:*}";; \
			*) $$probe --version >/dev/null 2>&1 || missing+=" $${pair%%:*}";; \
		esac; \
	done; \
	if [ -n "$$missing" ]; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			$(call say,Debian packages:$$missing); \
			[ -e build/apt-updated ] || { $(call quietly,apt-get update); touch build/apt-updated; }; \
			$(call quietly,DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $$missing); \
		else echo "missing:$$missing (Debian's names; as root: apt-get install$$missing)" >&2; exit 1; fi; \
	fi; touch $@
endef

build/system:
	$(call install,$(SYSTEM))
	@node -e 'process.exit(process.versions.node.split(".")[0] < 20 ? 1 : 0)' \
		|| { rm $@; echo "Node.js 20 or newer is needed, this is $$(node --version)" >&2; exit 1; }

build/system-stack:
	$(call install,$(SYSTEM_STACK))

build/system-demo:
	$(call install,$(SYSTEM_DEMO))

build/system-test:
	$(call install,$(SYSTEM_TEST))
