#!/usr/bin/env bash
# Format, lints, dependency policy; changes nothing. Usage: scripts/lint.sh [PostgreSQL major version]
set -euo pipefail
cd "$(dirname "$0")/.."

pg="${1:-15}"
export LIBCLANG_PATH="${LIBCLANG_PATH:-/usr/lib/llvm-14/lib}"

cargo fmt --all --check
cargo clippy --workspace --all-targets --locked --no-default-features \
    --features "integration/pg$pg,integration/pg_test" -- -D warnings

if command -v cargo-deny >/dev/null; then
    cargo deny --locked check licenses bans sources
else
    echo "lint: licences, bans and sources not checked: cargo-deny is not installed (cargo install cargo-deny --locked)"
fi
