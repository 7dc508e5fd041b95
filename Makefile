# Everything a newcomer types. Each target sets up what it needs, says what it installs, and never installs twice.
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv/bin

export SPOKE_TEST_CLUSTER ?= spoke-test

.PHONY: help demo test test-busy test-long test-pythons lint format generate lock cluster cluster-down cluster-demo images release base-image audit setup-python clean bench bench-imports bench-claims bench-control bench-dispatch bench-launch bench-tasks bench-web breaks situations pictures

help: ## what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 16

demo: ## the main job on SQLite, on this machine: under a minute after set-up, which installs only what it needs; WEB=1: then its dashboard
	@scripts/venv demo
	@$(VENV)/python -m texting.demo --later 'make cluster-demo   (the same on a real Kubernetes cluster)' $(if $(WEB),--web)

cluster-demo: setup-python ## the same on a real Kubernetes cluster (kind), through two `helm install`s, with 10,000 messages as tasks
	@scripts/in-turn "make $@" scripts/cluster-demo

test: setup-python ## the tests; UNIT=1: what needs only Python, FAST=1: all but the cluster, ROOM=sync: one folder, CHANGED=1: what the change since main reaches, SLOW=1: the slow ones, too, ARGS=: for pytest
	@scripts/test

test-busy: setup-python ## the same with stress-ng beside it, for whoever changes a test's timing
	@scripts/test-busy

test-long: setup-python ## all tests: with the slow ones, the longer series, and the unit tests on the other Pythons; two hours
	@SLOW=1 scripts/test
	@LONG=1 SPOKE_TEST_FLAKY_REPORT=build/flaky-long.json scripts/test
	@UNIT=1 scripts/test-pythons others

test-pythons: setup-python ## unit and SQLite tests on every supported Python that is found (PYTHONS="3.12 3.13": on these)
	@scripts/test-pythons $(PYTHONS)

bench: bench-imports ## this library beside other job queues, on one PostgreSQL: some 10 minutes (ROUNDS=1: a quick look)
	@scripts/in-turn "make $@" tests/bench/ledger/run

bench-imports: setup-python ## what importing it costs
	@scripts/in-turn "make $@" $(VENV)/python -m tests.bench.imports

bench-claims: setup-python ## what a claim costs beside history, under an open transaction, behind a held queue, of jobs that depend on others
	@scripts/in-turn "make $@" bash -ec 'scripts/postgres >/dev/null; exec $(VENV)/python -m tests.bench.claims'

bench-control: setup-python ## limits, schedules, batches and `why`, beside other job queues: some 5 minutes (ROUNDS=1: a quick look)
	@scripts/in-turn "make $@" tests/bench/control/run

bench-dispatch: setup-python ## what a dispatch adds to its caller's transaction, on PostgreSQL and the test cluster's API server
	@scripts/in-turn "make $@" bash -ec 'scripts/postgres >/dev/null; scripts/test-cluster; exec "$$@"' -- \
	  $(VENV)/python -m tests.bench.dispatch $(ARGS)

bench-launch: setup-python ## what the operator costs beside plain Jobs, on a kind cluster of its own: some 30 minutes
	@scripts/in-turn "make $@" tests/bench/launch/run

bench-tasks: setup-python ## tasks beside other task queues: some 10 minutes (ROUNDS=1: a quick look)
	@scripts/in-turn "make $@" tests/bench/tasks/run

bench-web: setup-python ## the dashboard beside 10 million jobs: pages, filters, live updates, claims; some 45 minutes and 19 GB (ROWS=200000: a quick look)
	@scripts/in-turn "make $@" tests/bench/web/run

breaks: setup-python ## break each rule once and see which tests notice: some 20 minutes; writes docs/breaks.md
	@scripts/in-turn "make $@" $(VENV)/python -m tests.breaks

situations: setup-python ## what goes wrong in clusters, recorded as a person on call sees it: some 30 minutes; writes build/situations (ONLY="3 7": these)
	@scripts/in-turn "make $@" $(VENV)/python -m tests.situations build/situations $(ONLY)

pictures: setup-python ## take the pictures of the docs again, docs/pictures: some 5 minutes, the first time 15 (kubectl's only where the tests' cluster is up)
	@scripts/pictures/draw

lint: setup-python ## formatting, style, types, layers, generated files
	@$(VENV)/ruff format --check .
	@$(VENV)/ruff check .
	@$(VENV)/mypy
	@$(VENV)/lint-imports
	@$(VENV)/shellcheck -x $$(git ls-files | xargs grep -lE '^#!/(usr/bin/env |bin/)bash')
	@scripts/generate --check
	@SPOKE_TEST_ROOMS=$${XDG_CACHE_HOME:-$$HOME/.cache}/spoke-jobs/rooms.json $(VENV)/python -m tests.budgets

format: setup-python ## format the Python code
	@$(VENV)/ruff format .
	@$(VENV)/ruff check --fix --select I .

base-image: ## write the newest digest of the published base image to image/Dockerfile
	@scripts/base-image refresh

audit: setup-python ## linters from outside: bandit, REUSE, actionlint, checkov, kube-score; minutes (ARGS=bandit: one of them)
	@scripts/audit $(ARGS)

generate: setup-python ## the files that are generated from code: the CRD, docs/reference
	@scripts/generate

lock: setup-python ## resolve the requirements again, within pyproject.toml (UPGRADE=1: take the newest versions)
	@scripts/lock $(if $(UPGRADE),--upgrade)

cluster: setup-python ## a kind cluster of two nodes to try things on, `spoke-dev`
	@scripts/in-turn "make $@" tests/cluster/up spoke-dev 1

cluster-down: ## remove it, and the demonstration's and the tests' clusters
	@for name in spoke-dev spoke-demo spoke-test; do tests/cluster/down $$name; done

images: setup-python ## the container images
	@scripts/in-turn "make $@" bash -ec 'tests/cluster/build; scripts/images'

release: setup-python ## what is published of this version, into dist/, built twice and compared: wheel, images, charts, SBOMs, provenance; minutes
	@scripts/in-turn "make $@" scripts/release

setup-python:
	@scripts/venv

clean: ## remove what was made in this folder (what is cached stays)
	@rm -rf .venv .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist dist.new build
