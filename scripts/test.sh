#!/usr/bin/env bash
# Every check and every test, cheapest first; stops at the first that fails. Leaves the machine's
# PostgreSQL as it was. Usage: scripts/test.sh [PostgreSQL major version, default 15]
set -euo pipefail
cd "$(dirname "$0")/.."

pg="${1:-15}"
export LIBCLANG_PATH="${LIBCLANG_PATH:-/usr/lib/llvm-14/lib}"
# With a backtrace in them, error details would no longer be what users see.
unset RUST_BACKTRACE

# One selection of packages and features for every step: cargo compiles a dependency once for each
# set of features that its users ask for.
all=(--workspace --locked --no-default-features --features "integration/pg$pg")

step() { printf '\n=== %s (%d min %02d s) ===\n' "$1" $((SECONDS / 60)) $((SECONDS % 60)); }

step "format, lints, dependencies"
scripts/lint.sh "$pg"

step "compile the tests"
cargo test "${all[@]}" --no-run

step "unit and property tests, the sandbox's and the benchmarks' own tests"
# Everything but the black-box tests, which are called `it`.
cargo test "${all[@]}" --lib --bins --test '???*'
cargo test "${all[@]}" --doc

step "install into a private copy of PostgreSQL $pg, black-box tests"
PG_CONFIG=$(scripts/private-postgresql.sh tests "$pg")
export PG_CONFIG
PGRX_BUILD_FLAGS="--workspace --locked" scripts/install.sh --profile dev
# Three at a time, for two processors: each has a sandbox of its own, and waits most of the time.
cargo test "${all[@]}" --test it -- --test-threads=3
