# shellcheck shell=bash
# shellcheck disable=SC2154 # scripts/demo.sh sets $bin, $work, $server_dir, $server_started and $control_port
# How the demo talks: sentences, SQL with what psql says to it, checks, and the sandbox's control
# endpoint.

bold='' dim='' green='' red='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR-}" ]; then
    bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
fi

# --- Sentences ---

chapter() {
    printf '\n%s%s%s\n' "$bold" "$*" "$plain"
    after_title=yes
}

# A sentence before a step; the first one of a chapter follows its title.
say() {
    [ -n "$after_title" ] || echo
    after_title=
    printf '%s\n' "$*" | fold -s -w 100 | sed 's/ *$//'
}
after_title=yes

ok() { printf '%s  ok: %s%s\n' "$green" "$*" "$plain"; }

# Ends the demo: what is not as it should be, and what the extension and the server say of it.
fail() {
    {
        printf '%s  FAILED: %s%s\n' "$red" "$*" "$plain"
        [ -z "$server_started" ] || run_psql -q -c "SELECT target, state, pending, retrying, in_flight, dead,
            (SELECT count(*) FROM integration.outbox o WHERE o.target = s.target) AS outbox FROM integration.status s" 2>/dev/null || true
        [ ! -s "$server_dir/log" ] || grep -E 'LOG:  integration|ERROR:|WARNING:|FATAL:|PANIC:' "$server_dir/log" | tail -n 20
    } >&2
    exit 1
}

# --- SQL ---

run_psql() {
    PGOPTIONS='' PGCLIENTENCODING=UTF8 "$bin/psql" -X -h "$server_dir" -p 5432 -U postgres -d "${database:-crm}" \
        -v ON_ERROR_STOP=1 -P pager=off -P footer=off -P null=- "$@"
}

# Statements as they look behind psql's prompt.
show() {
    local line prompt='crm=#'
    after_title=
    while IFS= read -r line; do
        printf '%s%s%s %s%s\n' "$dim" "$prompt" "$plain$bold" "$line" "$plain"
        case $line in *\; | \\*) prompt='crm=#' ;; *) prompt='crm-#' ;; esac
    done <<<"$1"
}

# Shows statements, runs them, shows what psql says. Words before the statements go to psql.
sql() {
    local text="${*: -1}"
    show "$text"
    run_shown "$@" || fail "the statement above succeeds"
}

# The same without showing the statements.
run_shown() {
    local text="${*: -1}"
    run_psql -P format=wrapped -P columns=98 "${@:1:$#-1}" -f - <<<"$text" 2>&1 \
        | sed 's/^psql:<stdin>:[0-9]*: //' | fold -s -w 100 | sed 's/ *$//; /^$/d'
}

# As sql, for long texts: folded between words instead of laid out in columns.
sql_text() { sql -A -t -F ': ' "$@"; }

# The answer to a question, bare.
ask() { run_psql -q -At -c "SELECT $1"; }

# --- Checks ---

# check "what has to be so" "SQL that says whether it is"
check() {
    local answer
    answer=$(ask "$2") || fail "$1 (the check itself failed: $2)"
    [ "$answer" = t ] || fail "$1; this is not so: $2"
    ok "$1"
}

# until_true SECONDS "what is waited for" "SQL that says whether it has come"
until_true() {
    local deadline=$((SECONDS + $1)) answer
    while answer=$(ask "$3") && [ "$answer" != t ]; do
        [ "$SECONDS" -lt "$deadline" ] || fail "$2: not within $1 s"
        sleep 0.05
    done
    [ "$answer" = t ] || fail "$2 (asking failed: $3)"
}

# Waits until everything is delivered and applied, to one target or to all, and tells how long it took.
settle() {
    local started=${EPOCHREALTIME//[!0-9]/} tenths statement="integration.wait_idle('60s')"
    [ $# = 0 ] || statement="integration.wait_idle('60s', '$1')"
    [ "$(ask "$statement")" = t ] || fail "everything is delivered within 60 s"
    tenths=$(((${EPOCHREALTIME//[!0-9]/} - started + 50000) / 100000))
    show "SELECT $statement; -- t, after $((tenths / 10)).$((tenths % 10)) s"
}

# Number of the last request the extension logged.
last_request() { ask "coalesce(max(id), 0) FROM integration.request_log"; }

# --- The sandbox ---

# control METHOD PATH [JSON]: asks its control endpoint, prints the JSON it answers. Bash alone,
# because a bare machine has no HTTP client.
control() {
    local method=$1 path=$2 body=${3-} version status rest header
    local LC_ALL=C
    exec {connection}<>"/dev/tcp/127.0.0.1/$control_port" || fail "the sandbox can be reached"
    printf '%s /_sandbox%s HTTP/1.0\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s' \
        "$method" "$path" "${#body}" "$body" >&"$connection"
    # shellcheck disable=SC2034 # the version and the reason are of no interest
    read -r version status rest <&"$connection"
    while read -r header <&"$connection" && [ "$header" != $'\r' ]; do :; done
    if [ "$status" = 200 ]; then
        cat <&"$connection"
        exec {connection}>&-
    else
        fail "$method $path at the sandbox: $status $(cat <&"$connection")"
    fi
}

# The webhooks that wait, as the company's backend receives them: in psql's variable deliveries, and
# the first one in body, headers, method and uri. What receive() takes, sql_received runs with.
receive() { control POST /webhooks/take >"$work/webhooks.json"; }

sql_received() {
    show "$1"
    DEMO_WORK="$work" run_shown "\\set deliveries \`cat \"\$DEMO_WORK/webhooks.json\"\`
SELECT d->>'body' AS body, d->>'headers' AS headers, d->>'method' AS method, d->>'uri' AS uri
FROM (SELECT :'deliveries'::jsonb->0) AS first(d) \\gset
$1"
}

# Reads what both services hold, and checks that it is what the CRM says, dead letters aside.
check_both_sides() {
    fetch
    if [ "$(ask "sum(missing + \"too many\" + different) = 0 FROM there.comparison")" != t ]; then
        run_shown "SELECT * FROM there.comparison; SELECT * FROM there.differences LIMIT 10;" >&2
        fail "$1"
    fi
    ok "$1"
}

# What both services hold, into schema there.
fetch() {
    control GET /hubspot/companies >"$work/companies.json"
    control GET /hubspot/contacts >"$work/contacts.json"
    control GET /mailchimp/members >"$work/members.json"
    DEMO_WORK="$work" run_psql -q -f scripts/demo/there.sql
}
