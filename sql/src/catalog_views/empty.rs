//! Catalogs of what does not exist here. Queries over them alone are answered without being planned as written (see
//! `analytic::rewrite`), so the columns matter only to queries that join them from outside.

use super::view::View;

/// Views without rows.
macro_rules! empty {
    ($($schema:literal . $name:literal: $columns:literal;)*) => {
        pub const VIEWS: &[View] = &[
            $(View { schema: $schema, name: $name, columns: $columns, rows: |_| Vec::new() },)*
        ];
    };
}

empty! {
    "pg_catalog"."pg_proc": "oid oid, proname name, pronamespace oid, proowner oid, prolang oid, prokind char, \
        prosecdef bool, proretset bool, provolatile char, pronargs int2, prorettype oid, proargtypes oidvector, \
        proallargtypes oid[], proargmodes char[], proargnames text[], prosrc text, proacl aclitem[]";
    "pg_catalog"."pg_description": "objoid oid, classoid oid, objsubid int4, description text";
    "pg_catalog"."pg_shdescription": "objoid oid, classoid oid, description text";
    "pg_catalog"."pg_inherits": "inhrelid oid, inhparent oid, inhseqno int4, inhdetachpending bool";
    "pg_catalog"."pg_partitioned_table": "partrelid oid, partstrat char, partnatts int2, partdefid oid, \
        partattrs int2vector, partexprs pg_node_tree";
    "pg_catalog"."pg_policy": "oid oid, polname name, polrelid oid, polcmd char, polpermissive bool, polroles oid[], \
        polqual pg_node_tree, polwithcheck pg_node_tree";
    "pg_catalog"."pg_policies": "schemaname name, tablename name, policyname name";
    "pg_catalog"."pg_statistic_ext": "oid oid, stxrelid oid, stxname name, stxnamespace oid, stxowner oid, \
        stxstattarget int4, stxkeys int2vector, stxkind char[]";
    "pg_catalog"."pg_publication": "oid oid, pubname name, pubowner oid, puballtables bool";
    "pg_catalog"."pg_publication_rel": "oid oid, prpubid oid, prrelid oid, prqual pg_node_tree, prattrs int2vector";
    "pg_catalog"."pg_publication_namespace": "oid oid, pnpubid oid, pnnspid oid";
    "pg_catalog"."pg_publication_tables": "pubname name, schemaname name, tablename name";
    "pg_catalog"."pg_subscription": "oid oid, subdbid oid, subname name, subowner oid, subenabled bool";
    "pg_catalog"."pg_trigger": "oid oid, tgrelid oid, tgparentid oid, tgname name, tgfoid oid, tgtype int2, \
        tgenabled char, tgisinternal bool, tgconstrrelid oid, tgconstrindid oid, tgconstraint oid, tgdeferrable bool";
    "pg_catalog"."pg_event_trigger": "oid oid, evtname name, evtevent name, evtowner oid";
    "pg_catalog"."pg_rewrite": "oid oid, rulename name, ev_class oid, ev_type char, ev_enabled char, is_instead bool";
    "pg_catalog"."pg_rules": "schemaname name, tablename name, rulename name, definition text";
    "pg_catalog"."pg_auth_members": "roleid oid, member oid, grantor oid, admin_option bool";
    "pg_catalog"."pg_group": "groname name, grosysid oid, grolist oid[]";
    "pg_catalog"."pg_db_role_setting": "setdatabase oid, setrole oid, setconfig text[]";
    "pg_catalog"."pg_enum": "oid oid, enumtypid oid, enumsortorder float4, enumlabel name";
    "pg_catalog"."pg_range": "rngtypid oid, rngsubtype oid, rngmultitypid oid, rngcollation oid, rngsubopc oid";
    "pg_catalog"."pg_views": "schemaname name, viewname name, viewowner name, definition text";
    "pg_catalog"."pg_matviews": "schemaname name, matviewname name, matviewowner name, definition text";
    "pg_catalog"."pg_foreign_table": "ftrelid oid, ftserver oid, ftoptions text[]";
    "pg_catalog"."pg_foreign_server": "oid oid, srvname name, srvowner oid, srvfdw oid, srvtype text, srvoptions text[]";
    "pg_catalog"."pg_foreign_data_wrapper": "oid oid, fdwname name, fdwowner oid";
    "pg_catalog"."pg_user_mappings": "umid oid, srvid oid, srvname name, usename name";
    "pg_catalog"."pg_extension": "oid oid, extname name, extowner oid, extnamespace oid, extversion text";
    "pg_catalog"."pg_available_extensions": "name name, default_version text, installed_version text, comment text";
    "pg_catalog"."pg_shdepend": "dbid oid, classid oid, objid oid, refclassid oid, refobjid oid, deptype char";
    "pg_catalog"."pg_operator": "oid oid, oprname name, oprnamespace oid, oprleft oid, oprright oid, oprresult oid";
    "pg_catalog"."pg_opclass": "oid oid, opcmethod oid, opcname name, opcnamespace oid, opcintype oid, opcdefault bool";
    "pg_catalog"."pg_opfamily": "oid oid, opfmethod oid, opfname name, opfnamespace oid";
    "pg_catalog"."pg_cast": "oid oid, castsource oid, casttarget oid, castfunc oid, castcontext char";
    "pg_catalog"."pg_conversion": "oid oid, conname name, connamespace oid";
    "pg_catalog"."pg_language": "oid oid, lanname name, lanowner oid, lanpltrusted bool";
    "pg_catalog"."pg_aggregate": "aggfnoid oid, aggkind char";
    "pg_catalog"."pg_default_acl": "oid oid, defaclrole oid, defaclnamespace oid, defaclobjtype char";
    "pg_catalog"."pg_seclabels": "objoid oid, classoid oid, objsubid int4, provider text, label text";
    "pg_catalog"."pg_stats": "schemaname name, tablename name, attname name, null_frac float4, n_distinct float4";
    "pg_catalog"."pg_statistic": "starelid oid, staattnum int2";
    "pg_catalog"."pg_ts_config": "oid oid, cfgname name, cfgnamespace oid";
    "pg_catalog"."pg_ts_dict": "oid oid, dictname name, dictnamespace oid";
    "pg_catalog"."pg_locks": "locktype text, database oid, relation oid, pid int4, mode text, granted bool";
    "pg_catalog"."pg_stat_activity": "datid oid, datname name, pid int4, usename name, application_name text, \
        state text, query text, backend_start timestamptz";
    "pg_catalog"."pg_prepared_statements": "name text, statement text";
    "pg_catalog"."pg_prepared_xacts": "transaction xid, gid text";
    "pg_catalog"."pg_cursors": "name text, statement text";
    "pg_catalog"."pg_timezone_names": "name text, abbrev text, is_dst bool";
    "information_schema"."views": "table_catalog name, table_schema name, table_name name, view_definition text";
    "information_schema"."routines": "specific_schema name, specific_name name, routine_schema name, \
        routine_name name, routine_type text, data_type text";
    "information_schema"."parameters": "specific_schema name, specific_name name, ordinal_position int4, \
        parameter_name name";
    "information_schema"."triggers": "trigger_schema name, trigger_name name, event_object_table name";
    "information_schema"."table_privileges": "grantor name, grantee name, table_schema name, table_name name, \
        privilege_type text";
    "information_schema"."column_privileges": "grantor name, grantee name, table_schema name, table_name name, \
        column_name name, privilege_type text";
}
