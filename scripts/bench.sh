#!/usr/bin/env bash
# The benchmarks, on a release build in a private copy of PostgreSQL. Usage: scripts/bench.sh PostgreSQL-major-version [options]
set -euo pipefail
cd "$(dirname "$0")/.."

pg="$1"
shift
PG_CONFIG=$(scripts/private-postgresql.sh bench "$pg")
export PG_CONFIG
scripts/install.sh --release
exec cargo run --quiet --release --locked -p integration-bench -- "$@"
