# Shared by the scripts: where tools are, private servers on loopback, counting of checks. Source it, don't run it.
# Everything started through it is ended by its process id when the script ends, and its folders are removed.

set -euo pipefail

if [ -z "${HOME:-}" ]; then
  HOME=$(getent passwd "$(id -u)" | cut -d: -f6)
  export HOME
fi
export PATH="$HOME/.cargo/bin:${CARGO_HOME:-$HOME/.cargo}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin${PATH:+:$PATH}"
export LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${SCRY_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/scry}
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$CACHE/target}
PGBIN=${PGBIN:-/usr/lib/postgresql/15/bin}
# Which build the scripts use: dev or release.
PROFILE=${SCRY_PROFILE:-dev}
BIN=$CARGO_TARGET_DIR/$([ "$PROFILE" = dev ] && echo debug || echo "$PROFILE")
SCRY=${SCRY:-$BIN/scry}

WORK=
STARTED=()

log() { printf '%s\n' "$*" >&2; }
die() {
  log "error: $*"
  exit 1
}

# A folder that goes with the script; everyone may pass through it, since PostgreSQL refuses to run as root.
work_folder() {
  if [ -z "$WORK" ]; then
    WORK=$(mktemp -d "${TMPDIR:-/tmp}/scry-work.XXXXXX")
    chmod 755 "$WORK"
  fi
}

# Ends one process and waits until it is gone: politely, and hard after 20 seconds.
end_process() {
  local pid=$1 tries=0
  kill -TERM "$pid" 2>/dev/null || return 0
  while kill -0 "$pid" 2>/dev/null && [ "$(cut -d' ' -f3 "/proc/$pid/stat" 2>/dev/null || echo Z)" != Z ]; do
    tries=$((tries + 1))
    if [ $tries -gt 200 ]; then kill -KILL "$pid" 2>/dev/null || true; fi
    sleep 0.1
  done
  wait "$pid" 2>/dev/null || true
}

cleanup() {
  local pid
  for pid in "${STARTED[@]:-}"; do
    [ -z "$pid" ] || end_process "$pid"
  done
  STARTED=()
  if [ -n "$WORK" ] && [ -z "${SCRY_KEEP:-}" ]; then rm -rf "$WORK"; fi
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Waits until the server at PGHOST:PGPORT answers; $1 is the process that should be alive meanwhile, $2 its log.
wait_ready() {
  local tries=0
  until psql -XAtqc 'select 1' >/dev/null 2>&1; do
    kill -0 "$1" 2>/dev/null || { tail -n 20 "$2" >&2; die "the server ended at its start"; }
    tries=$((tries + 1))
    [ $tries -lt 300 ] || { tail -n 20 "$2" >&2; die "no answer from port $PGPORT"; }
    sleep 0.1
  done
}

# SCRY_SOCKETS=1: by Unix-domain sockets. For compare.sh: the end-to-end checks take PGHOST for an address.
use_scry() { export PGHOST=$SCRY_HOST PGPORT=$SCRY_PORT PGDATABASE=scry PGUSER=scry; }
use_postgres() { export PGHOST=$POSTGRES_HOST PGPORT=$POSTGRES_PORT PGDATABASE=postgres PGUSER=scry; }

# start_scry [data folder [further arguments]]: sets SCRY_PID, SCRY_HOST, SCRY_PORT, SCRY_DATA and points libpq at it.
start_scry() {
  [ -x "$SCRY" ] || die "$SCRY is not there: cargo build -p scry"
  work_folder
  SCRY_DATA=${1:-$WORK/scry}
  SCRY_PORT=$(free_port)
  SCRY_HOST=127.0.0.1
  local socket=()
  if [ -n "${SCRY_SOCKETS:-}" ]; then
    SCRY_HOST=$WORK
    socket=(--socket "$WORK")
  fi
  "$SCRY" serve --data "$SCRY_DATA" --listen "127.0.0.1:$SCRY_PORT" "${socket[@]}" "${@:2}" >"$WORK/scry.log" 2>&1 &
  SCRY_PID=$!
  STARTED+=("$SCRY_PID")
  use_scry
  wait_ready "$SCRY_PID" "$WORK/scry.log"
}

# What stands before a command that must run as a user whom PostgreSQL accepts. Sets AS_POSTGRES.
postgres_user() {
  AS_POSTGRES=()
  if [ "$(id -u)" = 0 ]; then
    getent passwd postgres >/dev/null || useradd --system --no-create-home postgres
    AS_POSTGRES=(setpriv --reuid=postgres "--regid=$(id -g postgres)" --clear-groups)
  fi
}

# start_postgres: a private cluster; settings in SCRY_POSTGRES_SETTINGS. Sets POSTGRES_PID, POSTGRES_HOST and POSTGRES_PORT.
start_postgres() {
  [ -x "$PGBIN/postgres" ] || die "$PGBIN/postgres is not there: PostgreSQL 15's server package has it"
  work_folder
  POSTGRES_DATA=$WORK/postgres
  POSTGRES_PORT=$(free_port)
  POSTGRES_HOST=127.0.0.1
  local sockets=
  if [ -n "${SCRY_SOCKETS:-}" ]; then
    POSTGRES_HOST=$POSTGRES_DATA
    sockets=$POSTGRES_DATA
  fi
  mkdir "$POSTGRES_DATA"
  if [ "$(id -u)" = 0 ]; then chown postgres "$POSTGRES_DATA"; fi
  postgres_user
  "${AS_POSTGRES[@]}" "$PGBIN/initdb" --auth=trust --username=scry --encoding=UTF8 --locale=C.UTF-8 -D "$POSTGRES_DATA" >"$WORK/postgres.log" 2>&1 ||
    { tail "$WORK/postgres.log" >&2; die "initdb failed"; }
  local setting settings=()
  for setting in ${SCRY_POSTGRES_SETTINGS:-}; do settings+=(-c "$setting"); done
  "${AS_POSTGRES[@]}" "$PGBIN/postgres" -D "$POSTGRES_DATA" -p "$POSTGRES_PORT" -c listen_addresses=127.0.0.1 \
    -c unix_socket_directories="$sockets" "${settings[@]}" >>"$WORK/postgres.log" 2>&1 &
  POSTGRES_PID=$!
  STARTED+=("$POSTGRES_PID")
  use_postgres
  wait_ready "$POSTGRES_PID" "$WORK/postgres.log"
}

# start_target scry|postgres: the server that the end-to-end checks talk to. PostgreSQL is there to test the checks.
start_target() {
  TARGET=${1:-scry}
  case $TARGET in
    scry) start_scry ;;
    postgres) start_postgres ;;
    *) die "the target is scry or postgres, not $TARGET" ;;
  esac
}

# The load programs of benches/, built when they are not there or old; SCRY_NO_BUILD says that they are there.
load_programs() {
  [ -z "${SCRY_NO_BUILD:-}" ] || return 0
  (cd "$REPO" && cargo build -q -p scry-benches --bins $([ "$PROFILE" = dev ] || echo --profile "$PROFILE"))
}

# run_over PROGRAM scry|postgres ARGUMENTS…: one of these programs that starts and kills its server by itself, with its data in $SITES.
# PostgreSQL is there to test the programs. What a failed run left is worth more than a clean disk, and is kept.
run_over() {
  local program=$1 target=$2 binary=$SCRY before=()
  shift 2
  if [ "$target" = postgres ]; then
    postgres_user
    before=("${AS_POSTGRES[@]}")
    binary=$PGBIN/postgres
    cp "$BIN/$program" "$WORK/$program"
  else
    ln -s "$BIN/$program" "$WORK/$program"
  fi
  mkdir -m 1777 "$SITES"
  "${before[@]}" "$WORK/$program" --server "$target" --binary "$binary" "$@" || {
    SCRY_KEEP=1
    exit 1
  }
}

ok() { printf 'ok - %s\n' "$*"; }
fail() {
  printf 'FAIL - %s\n' "$*"
  FAILED=1
}
FAILED=0

# check NAME COMMAND…: one check; the command's output is shown only when it fails.
check() {
  local name=$1 output
  shift
  if output=$("$@" 2>&1); then
    ok "$name"
  else
    fail "$name"
    printf '%s\n' "$output" | head -n 40 | sed 's/^/    /'
  fi
}

# python_with MODULE REQUIREMENT: Python in an environment of its own, with a module that pip finds as REQUIREMENT; sets PYTHON.
python_with() {
  local venv=$CACHE/venv
  PYTHON=$venv/bin/python
  if ! "$PYTHON" -c "import $1" 2>/dev/null; then
    [ -x "$PYTHON" ] || python3 -m venv "$venv"
    # Behind a proxy the system's certificates are the ones that count.
    if [ -z "${PIP_CERT:-}" ] && [ -e /etc/ssl/certs/ca-certificates.crt ]; then
      export PIP_CERT=/etc/ssl/certs/ca-certificates.crt
    fi
    "$venv/bin/pip" install -q --disable-pip-version-check "$2"
  fi
}

psycopg_python() { python_with psycopg 'psycopg[binary]>=3.2,<4'; }

# find_beside RELATIVE: the first folder of that name beside the checkout or one of its parents; empty when there is none.
find_beside() {
  local at=$REPO
  while [ "$at" != / ]; do
    at=$(dirname "$at")
    if [ -d "$at/$1" ]; then
      printf '%s\n' "$at/$1"
      return
    fi
  done
}
