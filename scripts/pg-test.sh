#!/usr/bin/env bash
# The #[pg_test]s: they run inside a throw-away PostgreSQL, which cargo-pgrx starts as user postgres
# because the server refuses root. Usage: scripts/pg-test.sh [PostgreSQL major version] [test name]
set -euo pipefail
cd "$(dirname "$0")/.."

pg="${1:-15}"
runas=postgres
export USER="${USER:-$(id -un)}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"

# A short path of its own: it holds the data directory and the socket.
pgdata=$(mktemp -d "${TMPDIR:-/tmp}/integration-pg-test.XXXXXX")
copy=
trap 'sudo rm -rf "$pgdata" ${copy:+"$copy"}' EXIT
chmod 755 "$pgdata"
sudo chown "$runas" "$pgdata"

if ! sudo -u "$runas" test -x .; then
    # pg_ctl has to be able to enter the directory it is called in.
    copy=$(mktemp -d "${TMPDIR:-/tmp}/integration-sources.XXXXXX")
    echo "user $runas cannot enter $PWD: testing a copy of the sources"
    tar -c --exclude=./target --exclude=./.git --exclude=node_modules . | tar -x -C "$copy"
    chmod 755 "$copy"
    cd "$copy"
fi

cargo pgrx test "pg$pg" ${2:+"$2"} --runas "$runas" --pgdata "$pgdata"
