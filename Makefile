# Perdure's commands; `make` alone lists them. Asks for any make, a POSIX shell and Python 3.11 to 3.14; keeps all its state
# under build/. Every path is relative or quoted, so that a checkout in a folder with a space in its name works.
.PHONY: help setup lock demo demo-kafka test check check-static format bench bench-recovery bench-rolling bench-floods kill-test chaos models simulate bugs fuzz ci clean

KEPT = HYPOTHESIS_STORAGE_DIRECTORY="$$PWD/build/hypothesis" PYTHONPYCACHEPREFIX="$$PWD/build/pycache"
PY = $(KEPT) build/venv/bin/python
GUARDED = PERDURE_GUARD_VALUES=1 # schemas/frozen.py
# Tests wait more than they compute, so that two at a time are faster on one core, too. A file's tests share what they set up.
# Who is ended because its test hangs is replaced, and runs that test again: twice is enough.
TESTS = $(PY) -m pytest --numprocesses $(WORKERS) --dist loadfile --max-worker-restart 2
PIP = $(PY) -m pip --disable-pip-version-check --quiet install
WORKERS = 2
BENCH = full
KILLS = 20
RUNS = 1000
FUZZ = 100
MINUTES = 10

help: ## list these commands
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

demo: setup ## index real text while scheduled tasks run, through SIGKILLs, on the embedded log
	@$(PY) -m workloads.demo

demo-kafka: setup ## the same on a real broker, with one of two worker processes killed for good
	@$(PY) -m workloads.demo --kafka

test: setup ## run every test, two at a time (WORKERS=2); those for a real Kafka where Docker, or Java 17 with Maven, can start one
	@$(GUARDED) $(TESTS)

check: check-static ## check format, lint and types, and run the tests that need no broker
	@$(GUARDED) $(TESTS) -m "not kafka"

check-static: build/venv/installed ## check format, lint and types only
	@$(PY) -m ruff format --check
	@$(PY) -m ruff check
	@$(PY) -m mypy
	@$(PY) -m pyright --pythonpath build/venv/bin/python

format: build/venv/installed ## format the code and mend what the linter can mend
	@$(PY) -m ruff check --fix
	@$(PY) -m ruff format

bench: setup ## race the engine against a bare loop and write build/bench.json (BENCH=short: a few minutes)
	@$(PY) -m bench --$(BENCH)

bench-recovery: setup ## measure recovery, hand-over and take-over on a real broker and write build/recovery.json (RECOVERIES=10)
	@$(PY) -m bench.recovery $${RECOVERIES:+--runs "$$RECOVERIES"}

bench-rolling: setup ## measure a rolling restart with each kind of group membership (minutes)
	@$(PY) -m bench.rolling

bench-floods: setup ## flood one worker again and again on a real broker, and look whether what it holds goes on growing (minutes)
	@$(PY) -m bench.floods

kill-test: setup ## kill workers again and again on a real broker and count every effect (KILLS=20)
	@KILL_TEST_KILLS=$(KILLS) $(PY) -m pytest -s -m kafka tests/test_kill.py

chaos: setup ## real workers on real brokers under every kind of fault, and a verdict (MINUTES=10 SEED=a fresh one ONLY=all of it)
	@$(PY) -m tests.chaos --minutes $(MINUTES) $${SEED:+--seed "$$SEED"} $${ONLY:+--only "$$ONLY"}

simulate: setup ## run hubs in virtual time under every kind of fault and judge them (RUNS=1000 SEED=a fresh one BATCHES=1 RECORD=a file)
	@$(PY) -m tests.simulation --runs $(RUNS) $${SEED:+--seed "$$SEED"} $${BATCHES:+--batches "$$BATCHES"} $${RECORD:+--record "$$RECORD"}

bugs: setup ## plant every bug that a checker is there for, and tell the shortest story in which it is caught
	@SIMULATION_TRIES=300 $(PY) -m pytest -s tests/simulation/test_bugs.py

fuzz: setup ## look for bytes that decoders, owners, readers and clients cannot take (FUZZ=100 times what a test run tries)
	@FUZZ_FACTOR=$(FUZZ) $(PY) -m pytest -q --timeout=0 -m "not kafka" tests/security/test_h*.py tests/partitions/test_hostile_inbox.py \
		tests/serve/test_hostile.py tests/schemas/test_codec.py

models: setup ## search the small models of the log's rules to the end, within wide bounds (minutes)
	@$(PY) -m tests.models

ci: ## what CI runs
	@bash .ci/run

setup: build/venv/installed build/broker ## install what is locked, and a broker's jars, under build/

clean: ## remove build/
	@rm -rf build

# The environment is made anew when the lock changes; the project itself, in place, when its metadata does.
build/venv/locked: requirements/dev.txt scripts/find-python
	@python="$$(sh scripts/find-python)" && \
	echo "Setting up build/venv with $$python: about 250 MB of locked wheels, once." && \
	"$$python" -m venv --clear build/venv && \
	$(PIP) --require-hashes --only-binary=:all: -r requirements/dev.txt && \
	touch $@

build/venv/installed: build/venv/locked pyproject.toml
	@$(PIP) --no-index --no-deps --no-build-isolation --editable . && touch $@

# Where no broker can be had, no stamp is left, so that the next run looks again.
build/broker: build/venv/locked tests/kafka/pom.xml
	@if $(PY) -m tests.broker --fetch; then touch $@; else echo 'Tests that need a real Kafka will be skipped.'; fi

lock: ## renew requirements/*.txt from pyproject.toml (uv, from the registry)
	@sh scripts/lock
