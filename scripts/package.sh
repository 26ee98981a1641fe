#!/usr/bin/env bash
# A Debian package of the extension. Usage: scripts/package.sh [PostgreSQL major version, default 15]
set -euo pipefail
cd "$(dirname "$0")/.."

pg="${1:-15}"
pg_config="${PG_CONFIG:-/usr/lib/postgresql/$pg/bin/pg_config}"
export LIBCLANG_PATH="${LIBCLANG_PATH:-/usr/lib/llvm-14/lib}"
# build.rs does it.
export CARGO_PGRX_DISABLE_GC_SECTIONS_WORKAROUND=1
target="${CARGO_TARGET_DIR:-target}"
version=$(cargo pkgid -p integration | sed 's/.*[#@]//')
architecture=$(dpkg --print-architecture)
name="postgresql-$pg-integration"
root="$target/deb/$name"

rm -rf "$root"
cargo pgrx package --pg-config "$pg_config" --out-dir "$root"

install -d "$root/DEBIAN"
install -D -m 644 LICENSE "$root/usr/share/doc/$name/copyright"
install -D -m 644 CHANGELOG.md "$root/usr/share/doc/$name/changelog.md"
find "$root" -name '*.so' -exec strip --strip-unneeded {} +
cat >"$root/DEBIAN/control" <<CONTROL
Package: $name
Version: $version
Architecture: $architecture
Maintainer: the integration contributors <noreply@localhost>
Section: database
Priority: optional
Depends: postgresql-$pg, libc6
Description: keeps a CRM in PostgreSQL in step with HubSpot and Mailchimp
 A PostgreSQL extension: triggers queue what changed, a background worker sends
 it, and functions import what changed at the services. Needs
 shared_preload_libraries = 'integration'.
CONTROL
dpkg-deb --root-owner-group --build "$root" "$target/${name}_${version}_${architecture}.deb"
