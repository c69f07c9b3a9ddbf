# Everything a developer types. Each target sets up what it needs, from a clean clone too.

PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
ARGS   ?=

# A user's settings for the network (index, certificates, proxy, cache) are theirs to make. These
# would put packages elsewhere, leave some out, or let other code into the tests.
unexport PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PIP_NO_DEPS PIP_CONSTRAINT PIP_REQUIRE_HASHES
unexport PIP_NO_BINARY PIP_ONLY_BINARY PIP_NO_BUILD_ISOLATION PIP_DRY_RUN PIP_REQUIREMENT
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONUNBUFFERED DJANGO_SETTINGS_MODULE

# Without pip's hint that a newer pip exists: the interpreter's own is what we test with.
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: help
help: ## List the targets (this is what make does by itself)
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | \
		while IFS='|' read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

# What the demo needs: less than the tests do.
.PHONY: demo
demo: needs-demo $(VENV)/.project ## Open a newsroom to try notifyd in; CHECK=1 tries it by itself
	$(BIN)/notifyd demo $(if $(filter-out 0,$(CHECK)),--check) $(ARGS)

.PHONY: test
test: setup ## Run the tests, without the long ones; ARGS="-k hub" is handed to pytest
	$(BIN)/python -m pytest -m "not long" $(ARGS)

.PHONY: test-bare
test-bare: ## Prove as root, in a fresh Debian 12: make demo CHECK=1, make test; ARGS=demo: that only
	.ci/bare $(ARGS)

.PHONY: test-systemd
test-systemd: ## Run the tests on a real systemd, as root: the package in a container of Debian 12
	@[ "$$(id -u)" -eq 0 ] || { echo "make test-systemd has to be root, to boot a container. Please" \
		"type: sudo make test-systemd" >&2; exit 2; }
	@.ci/needs debootstrap systemd-container
	@$(MAKE) --no-print-directory setup
	$(BIN)/python -m pytest tests/systemd $(ARGS)

.PHONY: day
day: setup ## Live a day with a real Prometheus: all alerts and panels; pictures are in .cache/day
	@.ci/needs prometheus
	$(BIN)/python -m pytest tests/day -s $(ARGS)

.PHONY: previews
previews: setup ## Live that day, and put its pictures into the documentation
	@.ci/needs prometheus
	$(BIN)/python -m pytest tests/day/test_day.py -s $(ARGS)
	mkdir -p docs/images/dashboard
	cp .cache/day/*.png docs/images/dashboard/

.PHONY: lint
lint: $(VENV)/.project ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy notifyd tests bench docs grafana

.PHONY: coverage
coverage: setup ## Measure what the tests cover, without the long ones
	.ci/coverage $(BIN)/python -m "not long"

.PHONY: docs
docs: $(VENV)/.project ## Write the reference pages that come from the code; ARGS=--check compares them
	$(BIN)/python docs/generate.py $(ARGS)

.PHONY: dashboard
dashboard: $(VENV)/.project ## Write grafana/notifyd.json from its rows; ARGS=--check compares it
	$(BIN)/python grafana/make.py $(ARGS)

.PHONY: bench
bench: setup ## Compare the daemon with the guide's server, side by side
	$(BIN)/python bench/run.py $(ARGS)

.PHONY: storm
storm: setup ## Have ten thousand clients return at once, beside the guide's server
	PYTHONPATH=tests $(BIN)/python bench/storm.py $(ARGS)

.PHONY: guard
guard: setup ## Fail if processor time or memory got worse by a fifth, beside the guide's server
	$(BIN)/python bench/guard.py $(ARGS)

.PHONY: overhead
overhead: setup ## Count what metrics cost the fan-out, in instructions; fails above 3 %
	@.ci/needs valgrind
	$(BIN)/python bench/overhead.py $(ARGS)

.PHONY: scrape
scrape: setup ## See that a scrape each second does not disturb delivery to ten thousand clients
	PYTHONPATH=tests $(BIN)/python bench/scrape.py $(ARGS)

.PHONY: deb
deb: ## Build the Debian package into dist/
	.ci/deb

.PHONY: lock
lock: ## Write the lists of requirements from pyproject.toml; UPGRADE=1 takes the newest releases
	UPGRADE=$(UPGRADE) .ci/lock

.PHONY: clean
clean: ## Remove everything that make and the tools have made
	rm -rf $(VENV) .cache var/demo .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: setup
setup: needs $(VENV)/.project ## Get everything the tests need, without running them

.PHONY: needs
needs: # The programs that pip can't bring.
	@PYTHON=$(PYTHON) .ci/needs

.PHONY: needs-demo
needs-demo:
	@PYTHON=$(PYTHON) .ci/needs demo

# The environment holds what requirements.txt says and nothing else: a package that left the list
# must not stay behind and hide that somebody still imports it. It is complete, so dependencies are
# not looked up again: pip would meet newer releases on the way, and refuse them for their hashes.
$(VENV)/.requirements: requirements.txt
	@PYTHON=$(PYTHON) .ci/needs python3-venv
	@echo "==> $(VENV): the packages of requirements.txt"
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --progress-bar off --no-deps --require-hashes -r requirements.txt
	@touch $@

$(VENV)/.project: pyproject.toml $(VENV)/.requirements
	@echo "==> $(VENV): notifyd itself"
	$(BIN)/python -m pip install --quiet --no-build-isolation --no-deps --editable .
	@touch $@
