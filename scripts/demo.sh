#!/usr/bin/env bash
# A small CRM kept in step with a sandbox of HubSpot and Mailchimp, told on the terminal with real SQL.
# Starts a PostgreSQL and a sandbox of its own, ends them, and leaves nothing behind. Fails if
# anything is not as the story says. Usage: scripts/demo.sh
# For developers: DEMO_SKIP_BUILD=1 takes the extension that is installed, DEMO_SANDBOX=program a
# sandbox that is built, and neither is built.
set -euo pipefail
cd "$(dirname "$0")/.."
# With a backtrace in them, error details would not be what users see.
unset RUST_BACKTRACE

pg_config="${PG_CONFIG:-/usr/lib/postgresql/15/bin/pg_config}"
bin=$("$pg_config" --bindir)

# --- What is built ---

sandbox="${DEMO_SANDBOX:-${CARGO_TARGET_DIR:-target}/release/integration-sandbox}"
if [ -z "${DEMO_SKIP_BUILD-}" ]; then
    echo "demo: building the extension (a few minutes the first time)"
    PG_CONFIG="$pg_config" scripts/install.sh --release
fi
if [ -z "${DEMO_SANDBOX-}" ]; then
    echo "demo: building the sandbox"
    cargo build --quiet --release --locked -p integration-sandbox --bin integration-sandbox
fi

# --- What is started, and ended again whatever happens ---

# The server refuses to run as root.
as_server=()
[ "$(id -u)" != 0 ] || as_server=(setpriv --reuid=postgres --regid=postgres --init-groups --reset-env)

work=$(mktemp -d "${TMPDIR:-/tmp}/integration-demo.XXXXXX")
server_dir="$work/server"
sandbox_pid=
server_started=

clean_up() {
    local status=$?
    trap - EXIT
    # A second Ctrl-C must not leave anything running.
    trap '' INT TERM HUP
    if [ -n "$server_started" ]; then
        pg_ctl stop -m fast -t 20 || pg_ctl stop -m immediate || echo "demo: could not stop the server in $server_dir" >&2
    fi
    if [ -n "$sandbox_pid" ]; then
        kill "$sandbox_pid" 2>/dev/null || true
        wait "$sandbox_pid" 2>/dev/null || true
    fi
    rm -rf "$work"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

pg_ctl() { (cd "$server_dir" && "${as_server[@]}" "$bin/pg_ctl" -s -D "$server_dir/data" -l "$server_dir/log" "$@"); }

start_sandbox() {
    local line='' tries=0
    : >"$work/sandbox.out"
    "$sandbox" --port 0 >"$work/sandbox.out" 2>&1 &
    sandbox_pid=$!
    until line=$(grep '^hubspot=' "$work/sandbox.out"); do
        tries=$((tries + 1))
        if ! kill -0 "$sandbox_pid" 2>/dev/null || [ "$tries" -gt 200 ]; then
            fail "the sandbox starts: $(cat "$work/sandbox.out")"
        fi
        sleep 0.05
    done
    # hubspot=URL mailchimp=URL control=URL token=… key=… list=…
    local word
    for word in $line; do
        case $word in
            hubspot=*) hubspot_url=${word#*=} ;;
            mailchimp=*) mailchimp_url=${word#*=} ;;
            token=*) token=${word#*=} ;;
            key=*) key=${word#*=} ;;
            list=*) list=${word#*=} ;;
        esac
    done
    # HubSpot's port is closed for a while: the other one stays.
    control_port=${mailchimp_url##*:}
}

start_server() {
    install -d "$server_dir" "$server_dir/secrets"
    printf '%s' "$token" >"$server_dir/secrets/hubspot"
    printf '%s' "$key" >"$server_dir/secrets/mailchimp"
    # What the sandbox signs its webhooks with.
    printf '00000000-0000-0000-0000-0000000005ec' >"$server_dir/secrets/hubspot-webhooks"
    printf 'whsec-sandbox' >"$server_dir/secrets/mailchimp-webhooks"
    chmod 600 "$server_dir"/secrets/*
    if [ ${#as_server[@]} -gt 0 ]; then
        chmod 711 "$work"
        chown -R postgres: "$server_dir"
    fi
    (cd "$server_dir" && "${as_server[@]}" "$bin/initdb" -D data -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync >initdb.out 2>&1) \
        || fail "a data directory is made: $(tail -n 5 "$server_dir/initdb.out")"
    cat >>"$server_dir/data/postgresql.conf" <<CONF
listen_addresses = ''
unix_socket_directories = '$server_dir'
port = 5432
fsync = off
log_checkpoints = off
shared_preload_libraries = 'integration'
integration.hubspot_base_url = '$hubspot_url'
integration.hubspot_app_id = '50780459'
integration.hubspot_webhook_secret = 'file:$server_dir/secrets/hubspot-webhooks'
integration.mailchimp_base_url = '$mailchimp_url'
integration.mailchimp_webhook_signing_secret = 'file:$server_dir/secrets/mailchimp-webhooks'
CONF
    server_started=yes
    pg_ctl start -w -t 60 >/dev/null || fail "PostgreSQL starts: $(tail -n 5 "$server_dir/log")"
    database=postgres run_psql -q -c 'CREATE DATABASE crm'
}

# --- The story ---

# shellcheck source=scripts/demo/lib.sh
. scripts/demo/lib.sh
# shellcheck source=scripts/demo/outward.sh
. scripts/demo/outward.sh
# shellcheck source=scripts/demo/inward.sh
. scripts/demo/inward.sh

start_sandbox
start_server
began=$SECONDS
echo
say "A CRM in PostgreSQL, in step with HubSpot and Mailchimp. Everything runs on this machine: a private" \
    "PostgreSQL, and a sandbox that stands in for both services."
set_up
fill
change_in_bulk
survive_an_outage
repair_a_poisoned_record
follow_hubspot
follow_consent
look_at_one_record
compare_everything
printf '\n%sdemo: all checks passed, in %d s%s\n' "$bold" $((SECONDS - began)) "$plain"
