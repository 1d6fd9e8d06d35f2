# make test is all that a fresh machine needs; make install PREFIX=$HOME/.local puts the tools there.
#
#   PREFIX DESTDIR   where make install puts bin/ and share/
#   PYTHON           the first line of the installed tools (their interpreter)
#   PY               the interpreter that builds and tests

PREFIX = /usr/local
DESTDIR =
PYTHON = /usr/bin/env -S python3 -IS
PY = python3

BINDIR = $(DESTDIR)$(PREFIX)/bin
SHARE = $(DESTDIR)$(PREFIX)/share
TOOLS := $(filter-out %~ %+,$(notdir $(wildcard bin/*)))
DIST := $(TOOLS:%=dist/%)
STRANGE = $(filter-out $(DIST),$(wildcard dist/*))
# What is installed in share/: the pages, and a completion for each shell.
PAGES := man/man7/csb-records.7 $(TOOLS:%=man/man1/%.1)
BASH = bash-completion/completions
ZSH = zsh/site-functions
SHARED := $(PAGES) $(BASH)/csb $(ZSH)/_csb
MADE_OF = lib/csb/__init__.py lib/build/manual lib/build/described.py
HASH := \#
# What was made for another PYTHON.
OTHER := $(shell for file in dist/*; do \
	head -n 1 "$$file" 2>/dev/null | grep -qxF '$(HASH)!$(PYTHON)' || echo "$$file"; done)
DEV = pytest ruff
# The commands of the .venv where they are, else those of the machine.
WITH = export PATH="$(CURDIR)/.venv/bin:$$PATH" PYTHONDONTWRITEBYTECODE=1
# The tools run on the system's python3, as they do for users, or on the PY that was asked for.
ON = $(if $(filter-out python3,$(PY)),CSB_PYTHON="$$(command -v $(PY))")
# In memory where there is room: the tests wait for the disk half of the time, and leave it full of
# what is to be discarded.
ROOM = $$(df -k --output=avail /dev/shm 2>/dev/null | tail -n 1)
FAST = [ "$(ROOM)" -gt 4000000 ] 2>/dev/null && [ -w /dev/shm ] && export TMPDIR=/dev/shm
# pytest in a few processes side by side; WORKERS=1 for one at a time.
RUN = $(ON) python3 tests/run $(WORKERS:%=--workers %)

all: dist

dist: $(DIST)
	@rm -rf $(STRANGE)

# Made again when the text or PYTHON changed; written aside, so that no half file is ever there.
dist/%: bin/% $(wildcard lib/csb/*.py) lib/build/squash
	@mkdir -p dist
	@PYTHON='$(PYTHON)' $(PY) -B lib/build/squash $< >$@+ && chmod 755 $@+ && mv $@+ $@

$(filter $(DIST),$(OTHER)): FORCE

# Pages and completions are made of what the tools say of themselves.
man: $(PAGES:%=build/share/%)

completion: build/share/$(BASH)/csb build/share/$(ZSH)/_csb

WRITE = @mkdir -p $(@D) && $(PY) -B
build/share/man/man1/%.1: bin/% $(MADE_OF)
	$(WRITE) lib/build/manual $< >$@+ && mv $@+ $@

build/share/man/man7/csb-records.7: $(TOOLS:%=bin/%) $(MADE_OF)
	$(WRITE) lib/build/manual --records $(TOOLS:%=bin/%) >$@+ && mv $@+ $@

# The page of csb names all tools.
build/share/man/man1/csb.1: $(TOOLS:%=bin/%)

build/share/$(BASH)/csb: $(TOOLS:%=bin/%) $(MADE_OF) lib/build/completion
	$(WRITE) lib/build/completion bash $(TOOLS:%=bin/%) >$@+ && mv $@+ $@

build/share/$(ZSH)/_csb: $(TOOLS:%=bin/%) $(MADE_OF) lib/build/completion
	$(WRITE) lib/build/completion zsh $(TOOLS:%=bin/%) >$@+ && mv $@+ $@

# What a form can break (imports, names, tools that find each other) is tried on both; tests of the
# logic, which is the same text in both, run on bin/ only.
test: lint dist
	@$(FAST); $(WITH) && $(RUN) 'bin:not long' 'dist:not logic and not long'

check: lint
	@$(FAST); $(WITH) && $(RUN) bin:

# The tests of TRUST.md at full length, drawn anew (CSB_SEED=N: as N stands for), and their figures.
soak: WORKERS = 2
soak: .venv/ready
	@$(WITH) && figures=$$(mktemp) && trap 'rm -f "$$figures"' EXIT && \
		{ CSB_SOAK="$$figures" $(RUN) 'bin:soak or long'; \
		status=$$?; sort "$$figures"; exit $$status; }

# The plugin and csb-restore with the real client, which npm brings into directories that are thrown
# away (600 MB). CSB_CLIENT_VERSIONS='2.1.332 2.0.76': csb-restore on each, the plugin on the first.
# CSB_CLIENT names one that is there, or PATH:PATH; CSB_ENDS=50 ends that many in pairs.
test-client: .venv/ready
	@$(WITH) && $(ON) CSB_CLIENT="$${CSB_CLIENT:-npm}" python3 -m pytest -v tests/real_client

lint: .venv/ready
	@$(WITH) && ruff check bin lib tests

# What the tests need, made anew when that or PY changed. Where pip reaches no registry the pytest and ruff
# that the machine has will do.
.venv/ready: $(if $(subst <$(PY) $(DEV)>,,<$(shell cat .venv/ready 2>/dev/null)>),FORCE)
	@rm -rf .venv
	@if $(PY) -c 'import ensurepip' 2>/dev/null && $(PY) -m venv .venv \
	&& .venv/bin/python3 -m pip install -q -U $(DEV); then :; \
	elif $(PY) -m pytest --version 2>/dev/null && ruff --version; then \
		rm -rf .venv && mkdir -p .venv/bin && ln -s "$$(command -v $(PY))" .venv/bin/python3; \
	else \
		rm -rf .venv; \
		echo "make: cannot prepare the tests: apt-get install python3-venv, or let pip reach a" \
			"registry, or install pytest and ruff" >&2; \
		exit 1; \
	fi
	@echo '$(PY) $(DEV)' >$@

install: hello dist man completion
	@mkdir -p '$(BINDIR)'
	@for tool in $(TOOLS); do \
		install -m 755 "dist/$$tool" '$(BINDIR)'/"$$tool+" && \
		mv '$(BINDIR)'/"$$tool+" '$(BINDIR)'/"$$tool" || exit 1; \
	done
	@for file in $(SHARED); do \
		mkdir -p '$(SHARE)'/"$${file%/*}" && \
		install -m 644 "build/share/$$file" '$(SHARE)'/"$$file+" && \
		mv '$(SHARE)'/"$$file+" '$(SHARE)'/"$$file" || exit 1; \
	done
	@for tool in $(filter-out csb,$(TOOLS)); do \
		ln -sf csb '$(SHARE)/$(BASH)'/"$$tool" || exit 1; \
	done
	@echo 'Installed $(words $(TOOLS)) programs in $(BINDIR), their manual pages and completion in' \
		'$(SHARE).'
	@$(if $(DESTDIR),:,$(REACHED))

# Said first: the rest takes half a minute.
hello:
	@echo 'Making $(words $(TOOLS)) programs of one file each, and their manual pages.'

# Does a shell find them, and no others of these names?
REACHED = found=$$(command -v csb); case ":$$PATH:" in \
	*:'$(BINDIR)':*) if [ "$$found" = '$(BINDIR)/csb' ]; then \
			echo 'It is on your PATH. Next: csb setup'; \
		else \
			echo "But another csb comes first on your PATH: $$found. Remove that one, or put" \
				'$(BINDIR) before it.'; \
		fi;; \
	*) echo '$(BINDIR) is not on your PATH. Put this into the profile of your shell:'; \
		echo '    export PATH="$(BINDIR):$$PATH"'; \
		echo 'Then: csb setup';; \
	esac

uninstall:
	@rm -f $(TOOLS:%='$(BINDIR)/%') $(SHARED:%='$(SHARE)/%') $(TOOLS:%='$(SHARE)/$(BASH)/%')

demo:
	@$(PY) tests/demo

# BENCH: options, such as --versions 200 --growth --write.
bench:
	@$(ON) $(PY) tests/bench $(BENCH)

clean:
	@rm -rf dist build .venv .pytest_cache .ruff_cache *.egg-info lib/*.egg-info \
		lib/__pycache__ lib/*/__pycache__ tests/__pycache__

FORCE:
.PHONY: all dist man completion test check test-client soak lint hello install uninstall demo bench \
	clean FORCE
