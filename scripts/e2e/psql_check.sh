#!/usr/bin/env bash
# psql as people use it: backslash commands, \copy, variables, errors.   psql_check.sh [scry|postgres]
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
start_target "${1:-scry}"

# expect NAME PATTERN psql-arguments…: the output (with errors) has a line that matches the pattern.
expect() {
  local name=$1 pattern=$2 output
  shift 2
  output=$(psql -X "$@" 2>&1) || true
  if grep -qE -- "$pattern" <<<"$output"; then
    ok "psql: $name"
  else
    fail "psql: $name"
    printf '%s\n' "wanted: $pattern" "$output" | head -n 20 | sed 's/^/    /'
  fi
}

expect "creates a table" '^CREATE TABLE$' -c "create table item (id int primary key, name text not null, price numeric(10,2) default 9.99, tags varchar(20), made timestamptz default now())"
expect "inserts" '^INSERT 0 3$' -c "insert into item (id, name, tags) values (1, 'first', 'a'), (2, 'second, with comma', null), (3, E'third\\twith tab', 'ü')"
expect "\\dt lists the table" 'public +\| item +\| table' -c '\dt'
expect "\\d lists the table" 'item +\| table' -c '\d'
expect "\\d item shows columns" 'name +\| text +\| +\| not null' -c '\d item'
expect "\\d item shows types with their modifiers" 'numeric\(10,2\)' -c '\d item'
expect "\\d item shows the key" '"item_pkey" PRIMARY KEY, btree \(id\)' -c '\d item'
expect "\\d of nothing" 'Did not find any relation' -c '\d nothing'
expect "\\l lists the database" "^ $PGDATABASE +\|" -c '\l'
expect "\\dn lists schemas" '^ *public +\|' -c '\dn'
expect "\\conninfo" 'You are connected to database' -c '\conninfo'
expect "\\timing and \\x" 'name +\| first' -c '\timing' -c '\x' -c 'select * from item where id = 1'
expect "prints NULL as set" '^2\|NONE$' -At -P null=NONE -c 'select id, tags from item where id = 2'
expect "interpolates variables" '^second, with comma$' -At -v "who=2" -c 'select 1' -f <(echo "select name from item where id = :who;")
expect "quotes variables" '^1$' -At -v "who=first" -f <(echo "select id from item where name = :'who';")
expect "gset and if" '^many$' -At -f <(printf 'select count(*) > 2 as big from item \\gset\n\\if :big\n\\echo many\n\\endif\n')
expect "gexec" '^CREATE TABLE$' -f <(printf "select 'create table gexec_made (a int)' \\\\gexec\n")

printf '4\tfourth\t1.50\t\\N\t2024-01-02 03:04:05+00\n5\tfifth\t2.50\tx\t2024-01-02 03:04:05+00\n' >"$WORK/items.tsv"
expect "\\copy from a file" '^COPY 2$' -c "\\copy item from '$WORK/items.tsv'"
printf 'id,tags,price\n6,"six, ""quoted""",3.25\n' >"$WORK/items.csv"
expect "not null holds in \\copy" 'violates not-null constraint' -c "\\copy item (id, tags, price) from '$WORK/items.csv' csv header"
printf 'id,name,price\n6,"six, ""quoted""",3.25\n7,seven,4\n' >"$WORK/items.csv"
expect "\\copy csv with quotes" '^COPY 2$' -c "\\copy item (id, name, price) from '$WORK/items.csv' csv header"
expect "\\copy to a file" '^COPY 7$' -c "\\copy item to '$WORK/out.tsv'"
check "psql: \\copy writes what it read" grep -qxF "$(head -n 1 "$WORK/items.tsv")" "$WORK/out.tsv"
expect "copy a query to stdout as csv" '^6,"six, ""quoted"""$' -c "copy (select id, name from item where id = 6) to stdout with (format csv)"

expect "syntax error has its SQLSTATE" '42601' -v VERBOSITY=verbose -c 'selec 1'
expect "syntax error has its place" '^ +\^' -c 'select * form item'
expect "unknown table" '42P01.*relation "nothing" does not exist' -v VERBOSITY=verbose -c 'select * from nothing'
expect "unknown column" '42703.*column "nothing" does not exist' -v VERBOSITY=verbose -c 'select nothing from item'
expect "division by zero" '22012.*division by zero' -v VERBOSITY=verbose -c 'select 1 / 0'
expect "duplicate key" '23505.*duplicate key value violates unique constraint "item_pkey"' -v VERBOSITY=verbose -c "insert into item (id, name) values (1, 'again')"
expect "duplicate key has its detail" 'Key \(id\)=\(1\) already exists' -c "insert into item (id, name) values (1, 'again')"
expect "a failed transaction refuses" '25P02' -v VERBOSITY=verbose -f <(printf 'begin;\nselect 1/0;\nselect 1;\nrollback;\n')
expect "stops at the first error with ON_ERROR_STOP" 'division by zero' -v ON_ERROR_STOP=1 -f <(printf 'select 1/0;\ninsert into item (id, name) values (90, 1);\n')
check "psql: nothing ran after the error" test 0 = "$(psql -XAtc 'select count(*) from item where id = 90')"
expect "single transaction is all or nothing" 'division by zero' -1 -v ON_ERROR_STOP=1 -f <(printf "insert into item (id, name) values (91, 'x');\nselect 1/0;\n")
check "psql: the single transaction left nothing" test 0 = "$(psql -XAtc 'select count(*) from item where id = 91')"
expect "several statements in one string are one transaction" 'division by zero' -c "insert into item (id, name) values (92, 'x'); select 1/0"
check "psql: the string left nothing" test 0 = "$(psql -XAtc 'select count(*) from item where id = 92')"
seq 1 1000 >"$WORK/numbers"
expect "\\copy from the program's input" '^COPY 1000$' -c 'create table n (a int primary key)' -c "\\copy n from '$WORK/numbers'"
expect "FETCH_COUNT reads by cursor" '^1000$' -At -v FETCH_COUNT=100 -c 'select a from n order by a'
expect "show server_version" '^1[0-9]' -Atc 'show server_version'
expect "explain" '.' -Atc 'explain select count(*) from item'
if [ "$TARGET" = scry ]; then
  expect "explain says mirror" 'mirror' -Atc 'explain select count(*) from item'
  expect "explain says primary" 'primary' -Atc 'explain select * from item where id = 1'
fi
expect "drop" '^DROP TABLE$' -c 'drop table item'
exit $FAILED
