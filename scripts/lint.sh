#!/usr/bin/env bash
# Format, lints, documentation, dependency policy; changes nothing. Usage: scripts/lint.sh [PostgreSQL major version]
set -euo pipefail
cd "$(dirname "$0")/.."

pg="${1:-15}"
export LIBCLANG_PATH="${LIBCLANG_PATH:-/usr/lib/llvm-14/lib}"

cargo fmt --all --check
cargo clippy --workspace --all-targets --locked --no-default-features \
    --features "integration/pg$pg" -- -D warnings

RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --workspace --no-deps --document-private-items --locked \
    --no-default-features --features "integration/pg$pg"

if command -v cargo-deny >/dev/null; then
    cargo deny --locked check licenses bans sources
    # Fetched by whoever wants advisories looked at: a lint needs no network.
    if compgen -G "${CARGO_HOME:-$HOME/.cargo}/advisory-db*" >/dev/null; then
        cargo deny --locked --offline check advisories
    else
        echo "lint: advisories not checked: there is no advisory database (cargo deny fetch db)"
    fi
else
    echo "lint: licences, bans, sources and advisories not checked: cargo-deny is not installed (cargo install cargo-deny --locked)"
fi
