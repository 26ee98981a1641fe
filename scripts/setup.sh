#!/usr/bin/env bash
# Installs what building and testing need and this machine lacks. Says what it does; does nothing
# the second time. Usage: scripts/setup.sh [PostgreSQL major version, default 15] [more Debian packages]
set -euo pipefail
cd "$(dirname "$0")/.."

pg="${1:-15}"
pgrx=0.18.1
pg_bin="/usr/lib/postgresql/$pg/bin"

say() { printf 'setup: %s\n' "$*"; }
die() { say "$*" >&2; exit 1; }

if [ "$(id -u)" = 0 ]; then as_root=(); else as_root=(sudo); fi

# --- Debian packages ---
wanted=(build-essential pkg-config "postgresql-$pg" "postgresql-server-dev-$pg" libclang-14-dev sudo)
command -v node >/dev/null || wanted+=(nodejs)
command -v npm >/dev/null || wanted+=(npm)
wanted+=("${@:2}")

missing=()
for package in "${wanted[@]}"; do
    status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
done

if [ ${#missing[@]} -gt 0 ]; then
    command -v apt-get >/dev/null || die "needs ${missing[*]}; install them by hand, this is not Debian"
    if [ ${#as_root[@]} -gt 0 ] && ! command -v sudo >/dev/null; then
        die "needs ${missing[*]}; run this as root once, or install sudo"
    fi
    say "installing ${missing[*]}"
    # Debian's packages would create and start a cluster on port 5432: not wanted here.
    no_cluster=/etc/postgresql-common/createcluster.d/zz-no-main-cluster.conf
    "${as_root[@]}" mkdir -p "${no_cluster%/*}"
    echo 'create_main_cluster = false' | "${as_root[@]}" tee "$no_cluster" >/dev/null
    trap '"${as_root[@]}" rm -f "$no_cluster"' EXIT
    apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0)
    "${apt[@]}" update </dev/null
    "${apt[@]}" install -y --no-install-recommends "${missing[@]}" </dev/null >/dev/null
fi
[ -x "$pg_bin/pg_config" ] || die "no pg_config in $pg_bin although the packages are installed"

# --- Rust ---
command -v cargo >/dev/null || die "no cargo; install Rust 1.95 first, see https://rustup.rs"
cargo --version >/dev/null || die "the toolchain that rust-toolchain.toml names is missing; rustup toolchain install 1.95.0"
for part in clippy fmt; do
    cargo "$part" --version >/dev/null 2>&1 || die "cargo $part is missing; rustup component add clippy rustfmt"
done

# --- cargo-pgrx ---
export LIBCLANG_PATH="${LIBCLANG_PATH:-/usr/lib/llvm-14/lib}"
if [ "$(cargo pgrx --version 2>/dev/null)" != "cargo-pgrx $pgrx" ]; then
    say "installing cargo-pgrx $pgrx (three to four minutes)"
    cargo install cargo-pgrx --version "=$pgrx" --locked --quiet </dev/null
fi

config="${PGRX_HOME:-$HOME/.pgrx}/config.toml"
configured=$(sed -n "s/^pg$pg *= *\"\(.*\)\"/\1/p" "$config" 2>/dev/null || true)
case "$("${configured:-false}" --version 2>/dev/null || true)" in
    "PostgreSQL $pg"[.b]*) ;;
    *)
        say "telling cargo-pgrx where PostgreSQL $pg is"
        cargo pgrx init "--pg$pg" "$pg_bin/pg_config" </dev/null
        ;;
esac

say "ready: PostgreSQL $pg, $(cargo --version | cut -d' ' -f1-2), cargo-pgrx $pgrx"
