#!/usr/bin/env bash
# Builds the extension and copies it into the PostgreSQL that $PG_CONFIG names.
# Usage: scripts/install.sh [cargo pgrx install options; default --release]
set -euo pipefail
cd "$(dirname "$0")/.."

pg_config="${PG_CONFIG:-pg_config}"
export LIBCLANG_PATH="${LIBCLANG_PATH:-/usr/lib/llvm-14/lib}"
# build.rs does it.
export CARGO_PGRX_DISABLE_GC_SECTIONS_WORKAROUND=1
[ $# -gt 0 ] || set -- --release

# Only the copying may need more rights than we have.
for dir in "$("$pg_config" --pkglibdir)" "$("$pg_config" --sharedir)/extension"; do
    [ -w "$dir" ] || set -- "$@" --sudo
done
cargo pgrx install --pg-config "$pg_config" "$@"
