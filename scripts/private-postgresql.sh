#!/usr/bin/env bash
# A copy of PostgreSQL's programs and files, in target/, to install a build into: tests and benchmarks
# leave what the machine's own PostgreSQL has as it was. Prints the copy's pg_config.
# Usage: scripts/private-postgresql.sh what-it-is-for [PostgreSQL major version, default 15]
set -euo pipefail
cd "$(dirname "$0")/.."

purpose="$1"
pg="${2:-15}"
pg_config="${PG_CONFIG:-/usr/lib/postgresql/$pg/bin/pg_config}"
target="${CARGO_TARGET_DIR:-$PWD/target}"

# As root, the server is run as postgres, who may not be let into our directories.
if [ "$(id -u)" = 0 ] && ! setpriv --reuid=postgres --regid=postgres --init-groups test -x "$PWD"; then
    target="${TMPDIR:-/tmp}/integration-target"
fi
copy="$target/postgresql/$purpose-$pg"

# PostgreSQL's programs find the other directories from where they are: those keep their places
# relative to one another.
rm -rf "$copy"
for dir in bindir pkglibdir sharedir; do
    from=$("$pg_config" "--$dir")
    mkdir -p "$copy$from"
    tar -C "$from" -c --exclude='./bitcode' --exclude='./integration.so' --exclude='./extension/integration[.-]*' . | tar -C "$copy$from" -x
done
chmod -R a+rX "$copy"
echo "$copy$("$pg_config" --bindir)/pg_config"
