#!/usr/bin/env bash
# The same statements to scry and to PostgreSQL 15: every difference that docs/reference.md does not explain is a failure.
#
#   differential.sh               the golden scripts of sql/testdata and the statements of differential/
#   differential.sh FILE…         only these
#
# Where PostgreSQL's server is missing, the check is left out, unless REQUIRED is set.
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# The end-to-end checks name the server they run against; this one needs both.
[ "${1:-scry}" = scry ] || [ "$1" != postgres ] || { log "differential.sh compares scry with PostgreSQL: nothing to do against PostgreSQL alone"; exit 0; }
[ "${1:-}" != scry ] || shift
if [ ! -x "$PGBIN/postgres" ]; then
  [ -z "${REQUIRED:-}" ] || die "$PGBIN/postgres is not there: PostgreSQL 15's server package has it"
  echo "skip - differential: $PGBIN/postgres is not there"
  exit 0
fi
files=("$@")
[ ${#files[@]} -gt 0 ] || files=("$REPO"/sql/testdata/{types,expressions}.txt "$REPO"/sql/testdata/sessions/*.txt "$here"/differential/*.txt)

start_scry
start_postgres
# The same name of the database, for what prints it.
psql -XAtqc 'create database scry' -c 'alter database scry set lc_messages = "C"'
python3 "$here/differential.py" --scry "$SCRY_PORT" --postgres "$POSTGRES_PORT" --differences "$REPO/docs/reference.md" "${files[@]}" || FAILED=1
exit $FAILED
