#!/usr/bin/env bash
# psycopg 3 and JDBC against one server.   clients.sh [scry|postgres]
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
here=$(dirname "${BASH_SOURCE[0]}")

psycopg_python
start_target "${1:-scry}"
"$PYTHON" "$here/psycopg_check.py" || FAILED=1

jar=${POSTGRESQL_JDBC_JAR:-/usr/share/java/postgresql.jar}
[ -e "$jar" ] || die "$jar is not there: Debian's libpostgresql-jdbc-java has it"
mkdir "$WORK/classes"
javac -nowarn -d "$WORK/classes" "$here/JdbcCheck.java"
java -cp "$WORK/classes:$jar" JdbcCheck "jdbc:postgresql://$PGHOST:$PGPORT/$PGDATABASE" "$PGUSER" || FAILED=1
exit $FAILED
