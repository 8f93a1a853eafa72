#!/usr/bin/env bash
# All end-to-end checks against one server program.
#
#   run.sh small|full [scry|postgres]     small: a few minutes, as CI runs it; full: the sizes of a release
#   run.sh small scry psql_check hostile  only these
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
here=$(dirname "${BASH_SOURCE[0]}")
size=${1:-small}
target=${2:-scry}
[ $# -le 2 ] || chosen=("${@:3}")
: "${chosen:=psql_check clients differential pgbench tpch hostile crash histories}"

case $size in
  small)
    export SECONDS_EACH=${SECONDS_EACH:-2} RUNS=${RUNS:-5} HISTORY_SECONDS=${HISTORY_SECONDS:-20} CLIENTS=${CLIENTS:-1 64}
    export SCALE_PGBENCH=${SCALE_PGBENCH:-1} SCALE_TPCH=${SCALE_TPCH:-0.01}
    ;;
  full)
    export SECONDS_EACH=${SECONDS_EACH:-5} RUNS=${RUNS:-100} HISTORY_SECONDS=${HISTORY_SECONDS:-1800} CLIENTS=${CLIENTS:-1 4 16 64} REQUIRED=1
    export SCALE_PGBENCH=${SCALE_PGBENCH:-10} SCALE_TPCH=${SCALE_TPCH:-1}
    ;;
  *) die "the size is small or full, not $size" ;;
esac

load_programs
for name in ${chosen[*]}; do
  began=$SECONDS
  scale=
  case $name in
    pgbench) scale=$SCALE_PGBENCH ;;
    tpch) scale=$SCALE_TPCH ;;
  esac
  status=0
  SCALE=$scale "$here/$name.sh" "$target" || status=$?
  # A script that died before it could say what was wrong is a failure of its own.
  [ $status -eq 0 ] || fail "$name.sh ended with status $status"
  log "$name.sh: $((SECONDS - began)) s"
done
exit $FAILED
