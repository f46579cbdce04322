# How every layer is installed; included by the Makefiles beside it and by edge_lambda's.
#
# `sam build` copies a layer's own folder to a scratch folder and runs its Makefile there, so the
# rest of the repository is out of reach. The template therefore sets `WorkingDirectory: .` in the
# resource's Metadata: make then runs in the repository root. Run by hand, do the same:
#   make -f layers/core/Makefile build-CoreLayer ARTIFACTS_DIR=/tmp/core
# Each Makefile sets ROOT.

UV ?= $(firstword $(wildcard $(ROOT)/.tools/bin/uv) uv)
PYTHON ?= python3
PYTHON_VERSION := 3.13
# The project's own, where it is set up; elsewhere uv finds one, or fetches it.
LAMBDA_PYTHON := $(firstword $(wildcard $(ROOT)/.venv/bin/python) $(PYTHON_VERSION))

# $(call install,REQUIREMENTS,PLATFORM,FOLDER): exactly the locked wheels of that platform, whatever
# this machine is. trim.py compiles bytecode, where it pays: without times. Copied, not
# linked: trim.py changes modes and times, which would reach into uv's cache through a hard link.
define install
	mkdir -p "$(3)"
	"$(UV)" pip install --quiet --target "$(3)" --python-platform $(2) --python-version $(PYTHON_VERSION) \
		--link-mode copy \
		--only-binary :all: --no-deps --require-hashes --no-config --requirements "$(1)"
endef

# $(call install_isthmus,FOLDER): the package as it is in src/; it has nothing to compile.
define install_isthmus
	mkdir -p "$(1)"
	cp -R "$(ROOT)/src/isthmus" "$(1)/"
endef

# $(call trim,FOLDER,OPTIONS): by the Python that the functions run on, which bytecode must fit.
define trim
	PYTHONHASHSEED=0 "$(UV)" run --quiet --frozen --no-project --no-config --python "$(LAMBDA_PYTHON)" \
		python -B "$(ROOT)/layers/trim.py" "$(1)" $(2)
endef
