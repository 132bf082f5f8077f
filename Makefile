# Everything this project does from a shell. `make` alone explains; the longer steps are scripts/.
# PYTHON, PODMAN_PATH and NPM's own settings are honoured; nothing here needs to be installed by hand.

# The engine's settings on a machine that needs some (scripts/engine writes the file, mostly empty).
WITH_ENGINE = . ./.cache/engine.env &&
# The folders of tests that exist, in the order in which a failure tells most.
TESTS = $(wildcard tests/unit tests/integration tests/containers tests/engines)

.PHONY: help demo test test-long check images containers engine engines egress namespaces venv web browser services protos constraints bench dist clean

help: ## Show this
	@echo "ClusterCode worker agent. Start with 'make demo'; before a commit, 'make test'."
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: engine egress images venv web ## A DevBox with a terminal in your browser, on this machine alone (CHECK=1: try it and stop)
	@$(WITH_ENGINE) exec .venv/bin/clustercode demo $(if $(CHECK),--check)

test: check engine egress namespaces images containers browser services ## All checks and all tests, with real processes, a real engine and a real browser
	@$(WITH_ENGINE) .venv/bin/pytest $(TESTS)

test-long: engine engines egress namespaces images containers browser venv web dist ## The tests that take long: endurance, load, many restarts
	@$(WITH_ENGINE) .venv/bin/pytest -m long $(TESTS)

check: venv web ## Style, types, the contract's rules, and that generated files are fresh
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	console/node_modules/.bin/buf lint
	scripts/protos --check

bench: engine images venv ## Our terminal path next to the engine's own and other web terminals
	@$(WITH_ENGINE) .venv/bin/python -m bench

dist: venv web ## dist/: the wheel, and the program in one file for this platform
	@scripts/dist

engine: ## A Podman that works; one that does already is left alone
	@scripts/engine

images: engine ## The images boxes are made from (rebuilt when images/ changed)
	@$(WITH_ENGINE) scripts/images

egress: ## Squid and socat, which give DevBoxes a network that reaches listed names only
	@scripts/egress

namespaces: # what the tests make an internet of their own with
	@scripts/packages "to give tests an internet of their own" iproute2 openssl

containers: venv web engine ## The images of gateway, executor, egress and console
	@$(WITH_ENGINE) scripts/containers

engines: venv # what the tests on every engine need besides Podman
	@[ -e .cache/podman-compose ] || .venv/bin/python -m pip install -qq --disable-pip-version-check --target .cache/podman-compose podman-compose==1.6.0
	@command -v docker-compose >/dev/null || scripts/packages "to test compose.yaml" docker-compose
	@command -v dockerd >/dev/null || scripts/packages "to test on Docker (15 seconds, 70 MB)" docker.io

venv: ## .venv with the pinned dependencies and this project
	@scripts/venv

web: ## The terminal page's packages
	@scripts/web

browser: # what the page's tests drive
	@command -v chromium >/dev/null || scripts/packages "to drive a real browser (about 20 seconds, 90 MB)" chromium fonts-dejavu-core

services: # what checks the units in deploy/systemd; nothing of it runs
	@command -v systemd-analyze >/dev/null || scripts/packages "to check the systemd units (a few seconds, 3 MB)" systemd

protos: venv ## Generate stubs and docs/protocol from the contract in protos/
	@scripts/protos

constraints: ## Pin the dependencies again (UPGRADE=1: to the newest)
	@scripts/constraints $(if $(UPGRADE),--upgrade)

# Not .cache/engine: containers that are running refer to it. Images go with 'podman rmi'.
clean: ## Remove what was made in this folder; images and DevBoxes stay
	rm -rf .venv .cache/uv .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
	rm -rf console/node_modules console/static/vendor
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
