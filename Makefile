# Every target first sets up what it needs in .venv, and updates it if a requirement has changed.
#   PYTHON=python3.11     the interpreter of .venv, 3.10 to 3.12
#   PIP_ARGS="..."        more arguments of pip install, such as PyTorch's index of CPU wheels
#   BAG=recording.mcap    what `make demo` plays instead of the bundled recording
#   DEMO_ARGS="..."       more arguments of crisp demo
#   PYTEST_ARGS="..."     more arguments of pytest

SHELL := /bin/bash
VENV ?= .venv
PYTHON ?= $(shell for python in python3 python3.12 python3.11 python3.10; do \
	$$python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
	2>/dev/null && echo $$python && break; done)
PIP_INSTALL = PATH="$(abspath $(VENV)/bin):$$PATH" $(VENV)/bin/python -m pip \
	install --disable-pip-version-check $(PIP_ARGS)
PYTEST = $(VENV)/bin/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

# Tests and demo do not communicate beyond this machine. The second variable marks that the library
# path of the ROS wheels is set; inherited from another environment it would be wrong.
export ROS_AUTOMATIC_DISCOVERY_RANGE := LOCALHOST
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE

# Use the sourced ROS 2, whose cv_bridge needs its own NumPy. If none is sourced, ROS 2 comes from
# PyPI, with stand-ins for the packages that PyPI lacks.
ifdef ROS_DISTRO
ROS := $(ROS_DISTRO)
VENV_ARGS := --system-site-packages
REQUIREMENTS = -r <(grep -v ^numpy== requirements.txt) 'numpy<2'
else
ROS := wheels
REQUIREMENTS = -r requirements.txt -r requirements-ros.txt
endif

# The setup steps. Each is marked by a file in .venv whose name has the hash of its inputs.
hash = $(shell cat $(1) | sha256sum | cut -c 1-16)
BUILD_FILES := $(wildcard cmake/*)
STAND_IN_FILES := $(shell find stand_ins -type f -not -path '*/build/*' -not -path '*.egg-info/*' \
	-not -name '*.pyc' | sort)
PACKAGE_FILES := setup.py pyproject.toml CMakeLists.txt package.xml $(wildcard msg/* srv/*)
CREATED := $(VENV)/.created-$(ROS)
REQUIRED := $(VENV)/.required-$(call hash,requirements.txt requirements-ros.txt)
STAND_INS := $(VENV)/.stand-ins-$(call hash,$(BUILD_FILES) $(STAND_IN_FILES))
INSTALLED := $(VENV)/.installed-$(call hash,$(BUILD_FILES) $(PACKAGE_FILES))

.PHONY: help demo test test-slow soak venv

help:
	@echo "make demo       play two recordings through the node; reports in out/demo and out/demo/unseen"
	@echo "make test       lint and run the tests, in minutes"
	@echo "make test-slow  run the slow tests"
	@echo "make soak       run the soak tests: many minutes"
	@sed -n '2,/^$$/s/^#//p' Makefile

demo: venv
	$(VENV)/bin/crisp demo $(if $(BAG),--bag '$(BAG)') $(DEMO_ARGS)
ifeq ($(BAG)$(DEMO_ARGS),)
	$(VENV)/bin/crisp demo --bag recordings/unseen --checkpoint models/crisp_household_compact.safetensors \
	  --output out/demo/unseen
endif

test: venv
	$(VENV)/bin/ruff check .
	$(VENV)/bin/python scripts/lint-prose
	$(PYTEST) -m "not slow and not soak"

test-slow: venv
	$(PYTEST) -m slow

soak: venv
	$(PYTEST) -m soak

venv: $(INSTALLED) $(if $(ROS_DISTRO),,$(STAND_INS))

$(CREATED):
	@[ -n "$(PYTHON)" ] || { echo "No Python 3.10 to 3.12 found: choose one with make PYTHON=..." >&2; exit 1; }
	scripts/install-system-packages $(PYTHON)
	@# Recreate an environment that was made for another ROS, or that has no pip.
	[ -z "$(wildcard $(VENV)/.created-*)" ] && $(VENV)/bin/python -m pip --version 2>/dev/null || \
		$(PYTHON) -m venv --clear $(VENV_ARGS) $(VENV)
	touch $@

$(REQUIRED): $(CREATED)
	$(PIP_INSTALL) $(REQUIREMENTS)
	rm -f $(VENV)/.required-* $(VENV)/.stand-ins-* $(VENV)/.installed-*
	touch $@

$(STAND_INS): $(REQUIRED)
	rm -rf stand_ins/build
	$(PIP_INSTALL) --no-deps --no-build-isolation ./stand_ins
	rm -f $(VENV)/.stand-ins-*
	touch $@

$(INSTALLED): $(REQUIRED)
	$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	rm -f $(VENV)/.installed-*
	touch $@
