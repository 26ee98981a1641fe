#!/usr/bin/env bash
# Every check and every test, cheapest first; stops at the first that fails.
# Usage: scripts/test.sh [PostgreSQL major version, default 15]
set -euo pipefail
cd "$(dirname "$0")/.."

pg="${1:-15}"
export PG_CONFIG="${PG_CONFIG:-/usr/lib/postgresql/$pg/bin/pg_config}"
export LIBCLANG_PATH="${LIBCLANG_PATH:-/usr/lib/llvm-14/lib}"
# With a backtrace in them, error details would no longer be what users see.
unset RUST_BACKTRACE

step() { printf '\n=== %s (%d min %02d s) ===\n' "$1" $((SECONDS / 60)) $((SECONDS % 60)); }

step "format, lints, dependencies"
scripts/lint.sh "$pg"

step "unit and property tests, sandbox, benchmarks' own tests"
cargo test --locked -p integration-engine -p integration-hubspot -p integration-mailchimp -p integration-contracts -p integration-sandbox -p integration-bench

step "tests inside PostgreSQL $pg"
scripts/pg-test.sh "$pg"

step "install into PostgreSQL $pg, black-box tests"
scripts/install.sh --profile dev
# Three at a time, for two processors: each has a sandbox of its own, and waits most of the time.
cargo test --locked -p integration-tests -- --test-threads=3
