// JDBC (Debian's libpostgresql-jdbc-java) against a server. Arguments: JDBC URL, user.
// Prints "ok - …" or "FAIL - …" for each check and ends with 1 when one failed.

import java.math.BigDecimal;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.Date;
import java.sql.DatabaseMetaData;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Timestamp;
import java.sql.Types;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.UUID;

public class JdbcCheck {
    interface Body {
        void run(Connection connection) throws Exception;
    }

    static String url;
    static String user;
    static int failed = 0;

    static void check(String name, Body body) {
        try (Connection connection = DriverManager.getConnection(url, user, "")) {
            body.run(connection);
            System.out.println("ok - jdbc: " + name);
        } catch (Throwable caught) {
            failed++;
            System.out.println("FAIL - jdbc: " + name + ": " + String.valueOf(caught).replace("\n", " "));
            for (StackTraceElement frame : caught.getStackTrace()) {
                if (frame.getClassName().startsWith("JdbcCheck")) {
                    System.out.println("    line " + frame.getLineNumber());
                    break;
                }
            }
        }
    }

    static void same(Object expected, Object found) {
        if (expected == null ? found != null : !expected.equals(found)) {
            throw new AssertionError("expected " + expected + ", found " + found);
        }
    }

    static void run(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute(sql);
        }
    }

    static void refused(Connection connection, String state, String sql) throws SQLException {
        try {
            run(connection, sql);
        } catch (SQLException caught) {
            same(state + " for " + sql, caught.getSQLState() + " for " + sql);
            return;
        }
        throw new AssertionError(state + " expected for " + sql);
    }

    static long one(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
            rows.next();
            return rows.getLong(1);
        }
    }

    public static void main(String[] arguments) {
        url = arguments[0];
        user = arguments[1];

        check("connects and says what it is", connection -> {
            DatabaseMetaData meta = connection.getMetaData();
            same("PostgreSQL", meta.getDatabaseProductName());
            same(true, connection.isValid(5));
            same(true, meta.getDatabaseMajorVersion() >= 14);
        });

        check("creates and loads by batch", connection -> {
            run(connection, "DROP TABLE IF EXISTS goods");
            run(connection, "CREATE TABLE goods (id int PRIMARY KEY, name varchar(40) NOT NULL, price numeric(10,2), "
                + "weight double precision, made date, seen timestamptz, key uuid, picture bytea, sold boolean, number bigint)");
            connection.setAutoCommit(false);
            String sql = "INSERT INTO goods VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
            try (PreparedStatement insert = connection.prepareStatement(sql)) {
                for (int n = 0; n < 1000; n++) {
                    insert.setInt(1, n);
                    insert.setString(2, "good " + n);
                    insert.setBigDecimal(3, BigDecimal.valueOf(n * 25L, 2));
                    insert.setDouble(4, n / 8.0);
                    insert.setObject(5, LocalDate.of(2024, 1, 1).plusDays(n % 300));
                    insert.setObject(6, OffsetDateTime.of(2024, 1, 1, 0, 0, 0, 0, ZoneOffset.UTC).plusSeconds(n));
                    insert.setObject(7, new UUID(0, n));
                    insert.setBytes(8, new byte[] {0, 1, (byte) n});
                    insert.setBoolean(9, n % 2 == 0);
                    if (n % 3 == 0) insert.setNull(10, Types.BIGINT); else insert.setLong(10, 1L << (n % 60));
                    insert.addBatch();
                }
                same(1000, Arrays.stream(insert.executeBatch()).map(count -> Math.abs(count)).map(c -> 1).sum());
            }
            connection.commit();
            same(1000L, one(connection, "SELECT count(*) FROM goods"));
        });

        check("loads by rewritten batch", ignored -> {
            try (Connection connection = DriverManager.getConnection(url + "?reWriteBatchedInserts=true", user, "")) {
                run(connection, "DROP TABLE IF EXISTS rewritten");
                run(connection, "CREATE TABLE rewritten (id int PRIMARY KEY, name text)");
                try (PreparedStatement insert = connection.prepareStatement("INSERT INTO rewritten VALUES (?, ?)")) {
                    for (int n = 0; n < 777; n++) {
                        insert.setInt(1, n);
                        insert.setString(2, "n" + n);
                        insert.addBatch();
                    }
                    insert.executeBatch();
                }
                same(777L, one(connection, "SELECT count(*) FROM rewritten"));
                run(connection, "DROP TABLE rewritten");
            }
        });

        check("reads every type with parameters, also as a server-prepared statement", connection -> {
            String sql = "SELECT * FROM goods WHERE id = ?";
            try (PreparedStatement select = connection.prepareStatement(sql)) {
                // The driver switches to a named statement and binary results at the fifth use.
                for (int n = 1; n < 20; n++) {
                    select.setInt(1, n);
                    try (ResultSet row = select.executeQuery()) {
                        same(true, row.next());
                        same("good " + n, row.getString("name"));
                        same(BigDecimal.valueOf(n * 25L, 2), row.getBigDecimal("price"));
                        same(n / 8.0, row.getDouble("weight"));
                        same(LocalDate.of(2024, 1, 1).plusDays(n), row.getObject("made", LocalDate.class));
                        same(OffsetDateTime.of(2024, 1, 1, 0, 0, n, 0, ZoneOffset.UTC).toInstant(),
                            row.getObject("seen", OffsetDateTime.class).toInstant());
                        same(new UUID(0, n), row.getObject("key"));
                        same(3, row.getBytes("picture").length);
                        same(n % 2 == 0, row.getBoolean("sold"));
                        long number = row.getLong("number");
                        same(n % 3 == 0, row.wasNull());
                        if (n % 3 != 0) same(1L << n, number);
                        same(false, row.next());
                    }
                }
            }
        });

        check("aggregates with parameters", connection -> {
            String sql = "SELECT sold, count(*), sum(price), max(seen) FROM goods WHERE id < ? AND made >= ? GROUP BY sold ORDER BY sold";
            try (PreparedStatement select = connection.prepareStatement(sql)) {
                for (int n = 0; n < 10; n++) {
                    select.setInt(1, 100);
                    select.setDate(2, Date.valueOf("2024-01-01"));
                    try (ResultSet rows = select.executeQuery()) {
                        rows.next();
                        same(false, rows.getBoolean(1));
                        same(50L, rows.getLong(2));
                        same(new BigDecimal("625.00"), rows.getBigDecimal(3));
                        rows.next();
                        same(new BigDecimal("612.50"), rows.getBigDecimal(3));
                    }
                }
            }
        });

        check("fetches in portions", connection -> {
            connection.setAutoCommit(false);
            for (String sql : List.of("SELECT id FROM goods ORDER BY id", "SELECT id FROM goods WHERE id BETWEEN 0 AND 999 ORDER BY id")) {
                try (PreparedStatement select = connection.prepareStatement(sql)) {
                    select.setFetchSize(64);
                    try (ResultSet rows = select.executeQuery()) {
                        int expected = 0;
                        while (rows.next()) {
                            same(expected++, rows.getInt(1));
                        }
                        same(1000, expected);
                    }
                }
            }
            connection.commit();
        });

        check("describes results", connection -> {
            try (PreparedStatement select = connection.prepareStatement("SELECT id, name, price, made FROM goods WHERE id = ?")) {
                ResultSetMetaData meta = select.getMetaData();
                same(4, meta.getColumnCount());
                same("price", meta.getColumnName(3));
                same(Types.NUMERIC, meta.getColumnType(3));
                same(10, meta.getPrecision(3));
                same(2, meta.getScale(3));
                same(Types.DATE, meta.getColumnType(4));
                same(Types.INTEGER, select.getParameterMetaData().getParameterType(1));
            }
        });

        check("lists tables, columns and keys", connection -> {
            DatabaseMetaData meta = connection.getMetaData();
            List<String> found = new ArrayList<>();
            try (ResultSet tables = meta.getTables(null, "public", "goo%", new String[] {"TABLE"})) {
                while (tables.next()) found.add(tables.getString("TABLE_NAME"));
            }
            same(List.of("goods"), found);
            found.clear();
            try (ResultSet columns = meta.getColumns(null, "public", "goods", "%")) {
                while (columns.next()) found.add(columns.getString("COLUMN_NAME") + " " + columns.getString("TYPE_NAME"));
            }
            same(List.of("id int4", "name varchar", "price numeric", "weight float8", "made date", "seen timestamptz",
                "key uuid", "picture bytea", "sold bool", "number int8"), found);
            found.clear();
            try (ResultSet keys = meta.getPrimaryKeys(null, "public", "goods")) {
                while (keys.next()) found.add(keys.getString("COLUMN_NAME") + " " + keys.getString("PK_NAME"));
            }
            same(List.of("id goods_pkey"), found);
        });

        check("commits, rolls back, uses savepoints", connection -> {
            connection.setAutoCommit(false);
            run(connection, "DELETE FROM goods WHERE id < 10");
            connection.rollback();
            run(connection, "UPDATE goods SET name = 'renamed' WHERE id = 1");
            Savepoint savepoint = connection.setSavepoint();
            run(connection, "DELETE FROM goods");
            connection.rollback(savepoint);
            connection.commit();
            same(1000L, one(connection, "SELECT count(*) FROM goods"));
            same(1L, one(connection, "SELECT count(*) FROM goods WHERE name = 'renamed'"));
        });

        check("gets generated columns back", connection -> {
            run(connection, "CREATE TABLE made (id int PRIMARY KEY, state text DEFAULT 'new')");
            try (PreparedStatement insert = connection.prepareStatement("INSERT INTO made (id) VALUES (?)", new String[] {"state"})) {
                insert.setInt(1, 5);
                insert.executeUpdate();
                try (ResultSet keys = insert.getGeneratedKeys()) {
                    keys.next();
                    same("new", keys.getString(1));
                }
            }
            run(connection, "DROP TABLE made");
        });

        check("reports errors with their SQLSTATE", connection -> {
            refused(connection, "42601", "SELEC 1");
            refused(connection, "42P01", "SELECT * FROM nothing");
            refused(connection, "42703", "SELECT nothing FROM goods");
            refused(connection, "22012", "SELECT 1 / 0");
            refused(connection, "23505", "INSERT INTO goods (id, name) VALUES (1, 'again')");
            refused(connection, "23502", "INSERT INTO goods (id) VALUES (5000)");
            refused(connection, "22P02", "SELECT 'x'::int");
            refused(connection, "22001", "UPDATE goods SET name = '" + "x".repeat(50) + "' WHERE id = 1");
            same(1000L, one(connection, "SELECT count(*) FROM goods"));
        });

        check("a batch with a duplicate key is all or nothing", connection -> {
            connection.setAutoCommit(false);
            try (PreparedStatement insert = connection.prepareStatement("INSERT INTO goods (id, name) VALUES (?, 'x')")) {
                for (int id : new int[] {2000, 2001, 1, 2002}) {
                    insert.setInt(1, id);
                    insert.addBatch();
                }
                insert.executeBatch();
                throw new AssertionError("a duplicate key was expected");
            } catch (BatchUpdateException caught) {
                same("23505", caught.getSQLState());
            }
            connection.rollback();
            same(0L, one(connection, "SELECT count(*) FROM goods WHERE id >= 2000"));
        });

        check("timestamps keep their time zone apart", connection -> {
            run(connection, "CREATE TABLE clocks (id int PRIMARY KEY, local timestamp, zoned timestamptz)");
            try (PreparedStatement insert = connection.prepareStatement("INSERT INTO clocks VALUES (1, ?, ?)")) {
                insert.setObject(1, LocalDateTime.of(2024, 5, 6, 7, 8, 9, 123456000));
                insert.setTimestamp(2, Timestamp.from(OffsetDateTime.of(2024, 5, 6, 7, 8, 9, 0, ZoneOffset.ofHours(3)).toInstant()));
                insert.executeUpdate();
            }
            try (Statement statement = connection.createStatement(); ResultSet row = statement.executeQuery("SELECT * FROM clocks")) {
                row.next();
                same(LocalDateTime.of(2024, 5, 6, 7, 8, 9, 123456000), row.getObject(2, LocalDateTime.class));
                same(OffsetDateTime.of(2024, 5, 6, 4, 8, 9, 0, ZoneOffset.UTC).toInstant(), row.getObject(3, OffsetDateTime.class).toInstant());
            }
            run(connection, "DROP TABLE clocks");
        });

        check("drops what it made", connection -> run(connection, "DROP TABLE goods"));
        System.exit(failed == 0 ? 0 : 1);
    }
}
