# What the project can do on a fresh Debian 12 machine with Rust. `make` lists it.

PG ?= 15
PG_CONFIG ?= /usr/lib/postgresql/$(PG)/bin/pg_config
export PG_CONFIG
export LIBCLANG_PATH ?= /usr/lib/llvm-14/lib

.DEFAULT_GOAL := help
.PHONY: help demo test bench install test-matrix package fmt lint clean setup

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## a small CRM in step with a sandbox of both services, on this machine
	@scripts/demo.sh

test: setup ## every check and test; what CI runs
	@scripts/test.sh $(PG)

bench: ## the benchmarks, as one table of ratios
	@scripts/setup.sh $(PG) postgresql-$(PG)-pgq3
	@scripts/bench.sh $(PG) $(ARGS)

install: setup ## build and copy into the PostgreSQL of PG_CONFIG
	@scripts/install.sh --release

test-matrix: ## the same tests on PostgreSQL 17 and 18 (not there yet)
	@echo "test-matrix: only PostgreSQL $(PG) is tested so far; other versions are not there yet" >&2; exit 1

package: setup ## a .deb for PostgreSQL 15 (PG=17: for 17), in target/
	@scripts/package.sh $(PG)

fmt: ## format all code
	@cargo fmt --all

lint: setup ## format, clippy, documentation, dependency policy; changes nothing
	@scripts/lint.sh $(PG)

clean: ## remove what was built
	@cargo clean

setup: ## install what building and testing need and is missing
	@scripts/setup.sh $(PG)
