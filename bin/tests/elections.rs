//! Elections through a client library that sends SELECT and parameters.

mod common;

use common::{DEADLINE, Home};
use tokio_postgres::NoTls;

#[test]
fn an_election_from_its_beginning_to_its_end_by_functions_alone() {
    let home = Home::new();
    let server = home.start();
    let config = format!(
        "host={} port={} user=tester dbname=scry",
        server.address.ip(),
        server.address.port()
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    let work = async {
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.expect("connects");
        tokio::spawn(connection);
        client
            .batch_execute("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1), (2, 2)")
            .await
            .expect("a table");
        let row = client
            .query_one("SELECT scry.create_election($1, winners => $2)", &[&"e", &1i32])
            .await
            .expect("an election");
        assert_eq!(row.get::<_, &str>("create_election"), "e");
        // The parameters have the types of their places.
        let create = client
            .prepare("SELECT scry.create_candidate($1, weight => $2, mirror => $3, note => $4) AS made")
            .await
            .expect("prepared");
        for name in ["e/a", "e/b"] {
            let made = client
                .query_one(&create, &[&name, &0.25f64, &true, &"from parameters"])
                .await
                .expect("a candidate");
            assert_eq!(made.get::<_, &str>("made"), name);
        }
        client
            .query_one("SELECT scry.set_candidate($1)", &[&"e/a"])
            .await
            .expect("inside");
        client
            .execute("UPDATE t SET v = v * 10", &[])
            .await
            .expect("changed");
        client
            .query_one("SELECT scry.set_candidate()", &[])
            .await
            .expect("outside");
        let rows: i64 = client
            .query_one("SELECT scry.elect($1)", &[&"e/a"])
            .await
            .expect("elected")
            .get(0);
        assert_eq!(rows, 2);
        let sum: i64 = client
            .query_one("SELECT sum(v) FROM t", &[])
            .await
            .expect("a sum")
            .get(0);
        assert_eq!(sum, 30);
        let error = client
            .query_one("SELECT scry.elect($1)", &[&"e/b"])
            .await
            .expect_err("over");
        assert_eq!(error.code().map(|code| code.code()), Some("55000"));
    };
    runtime.block_on(async { tokio::time::timeout(DEADLINE, work).await.expect("in time") });
}
