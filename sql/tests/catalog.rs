//! What psql and drivers ask of the catalog.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up has failed")]

mod support;

use scry_engine::{ColumnDef, ColumnDefault, DataType, Value};
use support::{Harness, column};

fn shop() -> Harness {
    let mut h = Harness::new();
    let table = h.create(
        "orders",
        vec![
            ColumnDef {
                not_null: true,
                ..column("id", DataType::Int4)
            },
            ColumnDef {
                default: Some(ColumnDefault::Expression("0".to_owned())),
                ..column("price", DataType::Numeric(Some((10, 2))))
            },
            ColumnDef {
                not_null: true,
                ..column("note", DataType::Varchar(Some(10)))
            },
        ],
        &[0],
    );
    h.insert(
        &table,
        [vec![Value::Int4(1), Value::Null, Value::Text("x".to_owned())]],
    );
    h.create("Log Book", vec![column("line", DataType::Text)], &[]);
    h
}

/// Fills in the table's oid.
fn ask(h: &mut Harness, sql: &str) -> String {
    let oid = h.text("SELECT 'orders'::regclass::oid");
    h.text(&sql.replace("$OID", &oid))
}

fn check(cases: &[(&str, &str)]) {
    let mut h = shop();
    let mut wrong = Vec::new();
    for (sql, expected) in cases {
        let found = ask(&mut h, sql);
        if found != *expected {
            wrong.push(format!("{sql}\n   found {found}\nexpected {expected}"));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} differ:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}

#[test]
fn psql_lists_relations() {
    check(&[
        (
            r#"SELECT n.nspname as "Schema", c.relname as "Name",
                 CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'i' THEN 'index' WHEN 'S' THEN 'sequence' WHEN 't' THEN 'TOAST table' WHEN 'f' THEN 'foreign table' WHEN 'p' THEN 'partitioned table' WHEN 'I' THEN 'partitioned index' END as "Type",
                 pg_catalog.pg_get_userbyid(c.relowner) as "Owner"
               FROM pg_catalog.pg_class c
                 LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                 LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
               WHERE c.relkind IN ('r','p','v','m','S','f','')
                 AND n.nspname <> 'pg_catalog' AND n.nspname !~ '^pg_toast' AND n.nspname <> 'information_schema'
                 AND pg_catalog.pg_table_is_visible(c.oid)
               ORDER BY 1,2"#,
            "public|Log Book|table|tester;public|orders|table|tester",
        ),
        (
            r#"SELECT c.relname, CASE c.relpersistence WHEN 'p' THEN 'permanent' WHEN 't' THEN 'temporary' WHEN 'u' THEN 'unlogged' END as "Persistence",
                 am.amname as "Access method", pg_catalog.pg_size_pretty(pg_catalog.pg_table_size(c.oid)) as "Size",
                 pg_catalog.obj_description(c.oid, 'pg_class') as "Description"
               FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam
               WHERE c.relkind IN ('r','p','') AND c.relname = 'orders'"#,
            "orders|permanent|heap|0 bytes|∅",
        ),
        (
            "SELECT n.nspname AS \"Name\", pg_catalog.pg_get_userbyid(n.nspowner) AS \"Owner\" FROM pg_catalog.pg_namespace n \
             WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' ORDER BY 1",
            "public|tester;scry|tester",
        ),
        (
            r#"SELECT d.datname as "Name", pg_catalog.pg_get_userbyid(d.datdba) as "Owner",
                 pg_catalog.pg_encoding_to_char(d.encoding) as "Encoding", d.datcollate as "Collate", d.datctype as "Ctype",
                 d.daticulocale as "ICU Locale",
                 CASE d.datlocprovider WHEN 'c' THEN 'libc' WHEN 'i' THEN 'icu' END AS "Locale Provider",
                 pg_catalog.array_to_string(d.datacl, E'\n') AS "Access privileges"
               FROM pg_catalog.pg_database d ORDER BY 1"#,
            "scry|tester|UTF8|C.UTF-8|C.UTF-8|∅|libc|∅",
        ),
        (
            "SELECT r.rolname, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin, r.rolconnlimit, r.rolvaliduntil, \
             ARRAY(SELECT b.rolname FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles b ON (m.roleid = b.oid) WHERE m.member = r.oid) as memberof, \
             r.rolreplication, r.rolbypassrls FROM pg_catalog.pg_roles r WHERE r.rolname !~ '^pg_' ORDER BY 1",
            "tester|t|t|t|t|t|-1|∅|{}|t|t",
        ),
        (
            r#"SELECT n.nspname as "Schema", p.proname as "Name", pg_catalog.pg_get_function_result(p.oid) as "Result data type"
               FROM pg_catalog.pg_proc p LEFT JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
               WHERE pg_catalog.pg_function_is_visible(p.oid) ORDER BY 1, 2"#,
            "",
        ),
    ]);
}

#[test]
fn psql_describes_a_table() {
    check(&[
        (
            "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c \
             LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE c.relname OPERATOR(pg_catalog.~) '^(orders)$' COLLATE pg_catalog.default \
             AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 1, 2",
            "public|orders",
        ),
        (
            "SELECT c.relchecks, c.relkind, c.relhasindex, c.relhasrules, c.relhastriggers, c.relrowsecurity, c.relforcerowsecurity, \
             false AS relhasoids, c.relispartition, '', c.reltablespace, \
             CASE WHEN c.reloftype = 0 THEN '' ELSE c.reloftype::pg_catalog.regtype::pg_catalog.text END, c.relpersistence, c.relreplident, am.amname \
             FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_class tc ON (c.reltoastrelid = tc.oid) \
             LEFT JOIN pg_catalog.pg_am am ON (c.relam = am.oid) WHERE c.oid = '$OID'",
            "0|r|t|f|f|f|f|f|f||0||p|d|heap",
        ),
        (
            "SELECT pg_catalog.array_to_string(c.reloptions || array(select 'toast.' || x from pg_catalog.unnest(tc.reloptions) x), ', ') \
             FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_class tc ON (c.reltoastrelid = tc.oid) WHERE c.oid = '$OID'",
            "",
        ),
        (
            "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), \
             (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid, true) FROM pg_catalog.pg_attrdef d \
              WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef), a.attnotnull, \
             (SELECT c.collname FROM pg_catalog.pg_collation c, pg_catalog.pg_type t \
              WHERE c.oid = a.attcollation AND t.oid = a.atttypid AND a.attcollation <> t.typcollation) AS attcollation, \
             a.attidentity, a.attgenerated FROM pg_catalog.pg_attribute a \
             WHERE a.attrelid = '$OID' AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            "id|integer|∅|t|∅||;price|numeric(10,2)|0|f|∅||;note|character varying(10)|∅|t|∅||",
        ),
        (
            "SELECT c2.relname, i.indisprimary, i.indisunique, i.indisclustered, i.indisvalid, pg_catalog.pg_get_indexdef(i.indexrelid, 0, true), \
             pg_catalog.pg_get_constraintdef(con.oid, true), contype, condeferrable, condeferred, i.indisreplident, c2.reltablespace \
             FROM pg_catalog.pg_class c, pg_catalog.pg_class c2, pg_catalog.pg_index i \
             LEFT JOIN pg_catalog.pg_constraint con ON (conrelid = i.indrelid AND conindid = i.indexrelid AND contype IN ('p','u','x')) \
             WHERE c.oid = '$OID' AND c.oid = i.indrelid AND i.indexrelid = c2.oid ORDER BY i.indisprimary DESC, c2.relname",
            "orders_pkey|t|t|f|t|CREATE UNIQUE INDEX orders_pkey ON public.orders USING btree (id)|PRIMARY KEY (id)|p|f|f|f|0",
        ),
        (
            "SELECT pol.polname, pol.polpermissive, CASE WHEN pol.polroles = '{0}' THEN NULL ELSE \
             pg_catalog.array_to_string(array(select rolname from pg_catalog.pg_roles where oid = any (pol.polroles) order by 1),',') END \
             FROM pg_catalog.pg_policy pol WHERE pol.polrelid = '$OID' ORDER BY 1",
            "",
        ),
        (
            "SELECT oid, stxrelid::pg_catalog.regclass, stxnamespace::pg_catalog.regnamespace::pg_catalog.text AS nsp, stxname, \
             'd' = any(stxkind) AS ndist_enabled, stxstattarget FROM pg_catalog.pg_statistic_ext WHERE stxrelid = '$OID' ORDER BY nsp, stxname",
            "",
        ),
        (
            "SELECT pubname, NULL, NULL FROM pg_catalog.pg_publication p \
             JOIN pg_catalog.pg_publication_namespace pn ON p.oid = pn.pnpubid JOIN pg_catalog.pg_class pc ON pc.relnamespace = pn.pnnspid \
             WHERE pc.oid ='$OID' and pg_catalog.pg_relation_is_publishable('$OID') \
             UNION SELECT pubname, pg_get_expr(pr.prqual, c.oid), (CASE WHEN pr.prattrs IS NOT NULL THEN \
             (SELECT string_agg(attname, ', ') FROM pg_catalog.generate_series(0, pg_catalog.array_upper(pr.prattrs::pg_catalog.int2[], 1)) s, \
              pg_catalog.pg_attribute WHERE attrelid = pr.prrelid AND attnum = prattrs[s]) ELSE NULL END) \
             FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_rel pr ON p.oid = pr.prpubid \
             JOIN pg_catalog.pg_class c ON c.oid = pr.prrelid WHERE pr.prrelid = '$OID' \
             UNION SELECT pubname, NULL, NULL FROM pg_catalog.pg_publication p \
             WHERE p.puballtables AND pg_catalog.pg_relation_is_publishable('$OID') ORDER BY 1",
            "",
        ),
        (
            "SELECT c.oid::pg_catalog.regclass FROM pg_catalog.pg_class c, pg_catalog.pg_inherits i \
             WHERE c.oid = i.inhparent AND i.inhrelid = '$OID' AND c.relkind != 'p' AND c.relkind != 'I' ORDER BY inhseqno",
            "",
        ),
        (
            "SELECT c.oid::pg_catalog.regclass, c.relkind, inhdetachpending, pg_catalog.pg_get_expr(c.relpartbound, c.oid) \
             FROM pg_catalog.pg_class c, pg_catalog.pg_inherits i WHERE c.oid = i.inhrelid AND i.inhparent = '$OID' \
             ORDER BY pg_catalog.pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT', c.oid::pg_catalog.regclass::pg_catalog.text",
            "",
        ),
    ]);
}

#[test]
fn names_and_oids_convert_both_ways() {
    check(&[
        (
            "SELECT attname FROM pg_attribute WHERE attrelid = 'orders'::regclass AND attnum > 0 ORDER BY attnum",
            "id;price;note",
        ),
        (
            "SELECT '\"Log Book\"'::regclass::text, to_regclass('nothing'), 'public.orders'::regclass::text",
            "\"Log Book\"|∅|orders",
        ),
        ("SELECT conrelid::regclass FROM pg_constraint", "orders"),
        (
            "SELECT 'nothing'::regclass::oid",
            "42P01 relation \"nothing\" does not exist",
        ),
        (
            "SELECT 'pg_class'::regclass::oid, 'int4'::regtype::oid, 23::regtype, 'public'::regnamespace::oid",
            "1259|23|integer|2200",
        ),
        (
            "SELECT t.typname AS name, t.oid AS oid, t.typarray AS array_oid, t.oid::regtype::text AS regtype, t.typdelim AS delim \
          FROM pg_type t WHERE t.oid = to_regtype('hstore') ORDER BY t.oid",
            "",
        ),
        (
            "SELECT typname, typarray FROM pg_type WHERE oid = to_regtype('numeric')",
            "numeric|1231",
        ),
    ]);
}

#[test]
fn drivers_find_tables_columns_and_keys() {
    check(&[
        (
            "SELECT table_schema, table_name, table_type FROM information_schema.tables \
             WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY table_name",
            "public|Log Book|BASE TABLE;scry|candidate_statements|VIEW;scry|candidates|VIEW;scry|conflict_queue|VIEW;scry|elections|VIEW;scry|mirror_savepoints|VIEW;public|orders|BASE TABLE;scry|predictions|VIEW;scry|scores|VIEW",
        ),
        (
            "SELECT column_name, data_type, is_nullable, character_maximum_length, numeric_precision, numeric_scale, column_default \
             FROM information_schema.columns WHERE table_name = 'orders' ORDER BY ordinal_position",
            "id|integer|NO|∅|32|0|∅;price|numeric|YES|∅|10|2|0;note|character varying|NO|10|∅|∅|∅",
        ),
        (
            "SELECT kcu.column_name FROM information_schema.table_constraints tc \
             JOIN information_schema.key_column_usage kcu ON tc.constraint_name = kcu.constraint_name \
             WHERE tc.table_name = 'orders' AND tc.constraint_type = 'PRIMARY KEY'",
            "id",
        ),
        // JDBC's getPrimaryKeys.
        (
            "SELECT result.TABLE_NAME, result.COLUMN_NAME, result.KEY_SEQ, result.PK_NAME FROM \
             (SELECT NULL AS TABLE_CAT, n.nspname AS TABLE_SCHEM, ct.relname AS TABLE_NAME, a.attname AS COLUMN_NAME, \
             (information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ, ci.relname AS PK_NAME, \
             information_schema._pg_expandarray(i.indkey) AS KEYS, a.attnum AS A_ATTNUM FROM pg_catalog.pg_class ct \
             JOIN pg_catalog.pg_attribute a ON (ct.oid = a.attrelid) JOIN pg_catalog.pg_namespace n ON (ct.relnamespace = n.oid) \
             JOIN pg_catalog.pg_index i ON ( a.attrelid = i.indrelid) JOIN pg_catalog.pg_class ci ON (ci.oid = i.indexrelid) \
             WHERE true AND ct.relname = 'orders' AND i.indisprimary ) result where result.A_ATTNUM = (result.KEYS).x \
             ORDER BY result.table_name, result.pk_name, result.key_seq",
            "orders|id|1|orders_pkey",
        ),
        // The heart of JDBC's getImportedKeys.
        (
            "SELECT con.conname, pos.n FROM pg_catalog.pg_constraint con, pg_catalog.generate_series(1, 32) pos(n) \
             WHERE con.contype = 'f' AND con.conrelid = '$OID' AND pos.n = 1",
            "",
        ),
        // psql's \\dp.
        (
            "SELECT c.relname, pg_catalog.array_to_string(ARRAY(SELECT polname || CASE WHEN polroles <> '{0}' THEN 'x' ELSE '' END \
             FROM pg_catalog.pg_policy pol WHERE polrelid = c.oid), E'\\n') AS \"Policies\" \
             FROM pg_catalog.pg_class c WHERE c.relname = 'orders'",
            "orders|",
        ),
        // JDBC's getIndexInfo.
        (
            "SELECT tmp.TABLE_NAME, tmp.INDEX_NAME, tmp.ORDINAL_POSITION, \
             trim(both '\"' from pg_catalog.pg_get_indexdef(tmp.CI_OID, tmp.ORDINAL_POSITION, false)) AS COLUMN_NAME, \
             CASE tmp.AM_NAME WHEN 'btree' THEN CASE tmp.I_INDOPTION[tmp.ORDINAL_POSITION - 1] & 1::smallint WHEN 1 THEN 'D' ELSE 'A' END \
             ELSE NULL END AS ASC_OR_DESC FROM (SELECT ct.relname AS TABLE_NAME, ci.relname AS INDEX_NAME, \
             (information_schema._pg_expandarray(i.indkey)).n AS ORDINAL_POSITION, ci.oid AS CI_OID, i.indoption AS I_INDOPTION, am.amname AS AM_NAME \
             FROM pg_catalog.pg_class ct JOIN pg_catalog.pg_namespace n ON (ct.relnamespace = n.oid) \
             JOIN pg_catalog.pg_index i ON (ct.oid = i.indrelid) JOIN pg_catalog.pg_class ci ON (ci.oid = i.indexrelid) \
             JOIN pg_catalog.pg_am am ON (ci.relam = am.oid) WHERE true AND ct.relname = 'orders') AS tmp",
            "orders|orders_pkey|1|id|A",
        ),
        // JDBC's type cache.
        (
            "SELECT typinput='array_in'::regproc as is_array, typtype, typname, pg_type.oid FROM pg_catalog.pg_type \
             LEFT JOIN (select ns.oid as nspoid, ns.nspname, r.r from pg_namespace as ns join ( select s.r, (current_schemas(false))[s.r] as nspname \
             from generate_series(1, array_upper(current_schemas(false), 1)) as s(r) ) as r using ( nspname ) ) as sp ON sp.nspoid = typnamespace \
             WHERE typname = '_int4' ORDER BY sp.r, pg_type.oid DESC",
            "t|b|_int4|1007",
        ),
        // SQLAlchemy's get_table_names.
        (
            "SELECT pg_catalog.pg_class.relname FROM pg_catalog.pg_class \
             JOIN pg_catalog.pg_namespace ON pg_catalog.pg_namespace.oid = pg_catalog.pg_class.relnamespace \
             WHERE pg_catalog.pg_class.relkind = ANY (ARRAY['r', 'p']) AND pg_catalog.pg_class.relpersistence != 't' \
             AND pg_catalog.pg_table_is_visible(pg_catalog.pg_class.oid) AND pg_catalog.pg_namespace.nspname != 'pg_catalog' \
             ORDER BY 1",
            "Log Book;orders",
        ),
        // JDBC's getTables.
        (
            "SELECT NULL AS TABLE_CAT, n.nspname AS TABLE_SCHEM, c.relname AS TABLE_NAME, \
             CASE n.nspname ~ '^pg_' OR n.nspname = 'information_schema' WHEN true THEN 'SYSTEM TABLE' \
             WHEN false THEN CASE c.relkind WHEN 'r' THEN 'TABLE' ELSE NULL END ELSE NULL END AS TABLE_TYPE, \
             d.description AS REMARKS FROM pg_catalog.pg_namespace n, pg_catalog.pg_class c \
             LEFT JOIN pg_catalog.pg_description d ON (c.oid = d.objoid AND d.objsubid = 0 and d.classoid = 'pg_class'::regclass) \
             WHERE c.relnamespace = n.oid AND c.relkind = 'r' ORDER BY TABLE_TYPE, TABLE_SCHEM, TABLE_NAME",
            "∅|public|Log Book|TABLE|∅;∅|public|orders|TABLE|∅",
        ),
        // JDBC's getColumns.
        (
            "SELECT * FROM (SELECT n.nspname, c.relname, a.attname, a.atttypid, a.attnotnull OR (t.typtype = 'd' AND t.typnotnull) AS attnotnull, \
             a.atttypmod, a.attlen, t.typtypmod, row_number() OVER (PARTITION BY a.attrelid ORDER BY a.attnum) AS attnum, \
             nullif(a.attidentity, '') as attidentity, nullif(a.attgenerated, '') as attgenerated, pg_catalog.pg_get_expr(def.adbin, def.adrelid) AS adsrc, \
             dsc.description, t.typbasetype, t.typtype FROM pg_catalog.pg_namespace n \
             JOIN pg_catalog.pg_class c ON (c.relnamespace = n.oid) JOIN pg_catalog.pg_attribute a ON (a.attrelid=c.oid) \
             JOIN pg_catalog.pg_type t ON (a.atttypid = t.oid) LEFT JOIN pg_catalog.pg_attrdef def ON (a.attrelid=def.adrelid AND a.attnum = def.adnum) \
             LEFT JOIN pg_catalog.pg_description dsc ON (c.oid=dsc.objoid AND a.attnum = dsc.objsubid) \
             LEFT JOIN pg_catalog.pg_class dc ON (dc.oid=dsc.classoid AND dc.relname='pg_class') \
             LEFT JOIN pg_catalog.pg_namespace dn ON (dc.relnamespace=dn.oid AND dn.nspname='pg_catalog') \
             WHERE c.relkind in ('r','p','v','f','m') and a.attnum > 0 AND NOT a.attisdropped AND c.relname LIKE 'orders') c \
             WHERE true ORDER BY nspname, c.relname, attnum",
            "public|orders|id|23|t|-1|4|-1|1|∅|∅|∅|∅|0|b;public|orders|price|1700|f|655366|-1|-1|2|∅|∅|0|∅|0|b;\
             public|orders|note|1043|t|14|-1|-1|3|∅|∅|∅|∅|0|b",
        ),
    ]);
}

#[test]
fn session_facts_are_answered() {
    check(&[
        (
            "SELECT current_database(), current_schema(), current_user, current_schemas(true)",
            "scry|public|tester|{pg_catalog,public}",
        ),
        (
            "SELECT pg_backend_pid(), current_setting('search_path'), current_setting('x.y', true)",
            "1|public|∅",
        ),
        (
            "SELECT current_setting('x.y')",
            "42704 unrecognized configuration parameter \"x.y\"",
        ),
        (
            "SELECT setting FROM pg_settings WHERE name = 'search_path'",
            "public",
        ),
        (
            "SELECT has_table_privilege('orders', 'SELECT'), quote_ident('a b')",
            "t|\"a b\"",
        ),
        (
            "SELECT now(), to_char(now(), 'YYYY-MM-DD')",
            "2023-11-14 22:13:20+00|2023-11-14",
        ),
        ("SELECT version() LIKE 'PostgreSQL 15%'", "t"),
        ("SELECT count(*) FROM pg_stat_activity", "0"),
    ]);
}
