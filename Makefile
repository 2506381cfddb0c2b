# Every target first sets up what it needs in .venv, and again when a requirement has changed.
#   PYTHON=python3.11     the interpreter to set up with, 3.10 to 3.12
#   PIP_ARGS="..."        further arguments of pip install, such as an index of PyTorch for CPUs
#   BAG=recording.mcap    what `make demo` plays instead of the bundled recording
#   DEMO_ARGS="..."       further arguments of crisp demo
#   PYTEST_ARGS="..."     further arguments of pytest

SHELL := /bin/bash
VENV ?= .venv
PYTHON ?= $(shell for python in python3 python3.12 python3.11 python3.10; do \
	$$python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' \
	2>/dev/null && echo $$python && break; done)
PIP_INSTALL = PATH="$(abspath $(VENV)/bin):$$PATH" $(VENV)/bin/python -m pip \
	install --disable-pip-version-check $(PIP_ARGS)
PYTEST = $(VENV)/bin/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

# Tests and demo talk to nobody outside this machine. The other variable tells the ROS wheels that
# their library path is set already; inherited from another environment it would mislead them.
export ROS_AUTOMATIC_DISCOVERY_RANGE := LOCALHOST
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE

# ROS 2 is the sourced one, whose cv_bridge needs its own NumPy; where none is sourced it comes from
# PyPI, with stand-ins for what is not there.
ifdef ROS_DISTRO
ROS := $(ROS_DISTRO)
VENV_ARGS := --system-site-packages
REQUIREMENTS = -r <(grep -v ^numpy== requirements.txt) 'numpy<2'
else
ROS := wheels
REQUIREMENTS = -r requirements.txt -r requirements-ros.txt
endif

# The steps of the set-up, each marked by a file in .venv that names the hash of what it depends on.
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
	@echo "make demo       watch the node estimate objects in a recording; report in out/demo"
	@echo "make test       check everything, in minutes"
	@echo "make test-slow  the checks that take longer"
	@echo "make soak       the checks that run for a long time"
	@sed -n '2,/^$$/s/^#//p' Makefile

demo: venv
	$(VENV)/bin/crisp demo $(if $(BAG),--bag '$(BAG)') $(DEMO_ARGS)

test: venv
	$(VENV)/bin/ruff check .
	$(PYTEST) -m "not slow and not soak"

test-slow: venv
	$(PYTEST) -m slow

soak: venv
	$(PYTEST) -m soak

venv: $(INSTALLED) $(if $(ROS_DISTRO),,$(STAND_INS))

$(CREATED):
	@[ -n "$(PYTHON)" ] || { echo "No Python 3.10 to 3.12: name one, make PYTHON=..." >&2; exit 1; }
	scripts/install-system-packages $(PYTHON)
	@# An environment made for another ROS starts anew, and so does one that never got its pip.
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
