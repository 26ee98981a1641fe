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
# In memory, if there is plenty: a disk's file system takes longer to make and remove the files of a
# thousand databases than the tests take.
room=$(df --output=avail -k /dev/shm 2>/dev/null | tail -1 || true)
memory=$(awk '$1 == "MemAvailable:" { print $2 }' /proc/meminfo)
if [ -z "${TMPDIR-}" ] && [ "${room:-0}" -ge 8000000 ] && [ "${memory:-0}" -ge 12000000 ]; then
    export TMPDIR=/dev/shm
fi
# Five at a time, for two processors: each has a sandbox of its own, and waits most of the time.
cargo test "${all[@]}" --test it -- --test-threads=5
