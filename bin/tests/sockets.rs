//! Clients at a Unix-domain socket, and what stands where its file goes.

mod common;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use common::{Home, Server, tool};
use futures::{SinkExt, TryStreamExt};
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};

/// How long is waited for what does not come by itself.
const MOMENT: Duration = Duration::from_millis(50);

/// A folder of sockets: a short path, for a socket's may have 107 bytes.
fn folder() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("scry")
        .tempdir_in("/tmp")
        .expect("temporary directory")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn start(home: &Home, folder: &Path) -> (Server, PathBuf) {
    let server = home.start_with(&["--socket", text(folder)]);
    let path = folder.join(format!(".s.PGSQL.{}", server.address.port()));
    assert!(server.ready.contains(text(&path)), "{}", server.ready);
    (server, path)
}

async fn connect(folder: &Path, server: &Server) -> Client {
    open(folder, server).await.0
}

/// A client, and the task that holds its connection.
async fn open(folder: &Path, server: &Server) -> (Client, JoinHandle<Result<(), tokio_postgres::Error>>) {
    let config = format!(
        "host={} port={} user=tester dbname=scry",
        folder.display(),
        server.address.port()
    );
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.expect("connects");
    (client, tokio::spawn(connection))
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runtime");
    runtime
        .block_on(async { tokio::time::timeout(common::DEADLINE, work).await })
        .expect("in time")
}

/// What a server that does not start says.
fn refused(home: &Home, address: &str, folder: &Path) -> String {
    let output = home
        .command_at(address)
        .args(["--socket", text(folder)])
        .output()
        .expect("runs");
    assert!(!output.status.success());
    assert!(!home.data().exists(), "nothing was created");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_socket_serves_what_an_address_does() {
    let (home, folder) = (Home::new(), folder());
    let (server, path) = start(&home, folder.path());
    let mode = fs::symlink_metadata(&path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "its owner's alone");
    server.assert_alive();
    block_on(async {
        let client = connect(folder.path(), &server).await;
        client
            .batch_execute("CREATE TABLE t (k int PRIMARY KEY, v text); INSERT INTO t VALUES (-1, 'first')")
            .await
            .expect("writes");
        // More than any buffer on the way holds, there and back.
        let mut sink = pin!(client.copy_in("COPY t FROM STDIN").await.expect("COPY"));
        let value = "v".repeat(1000);
        for part in 0..50 {
            let lines: String = (part * 100..part * 100 + 100)
                .map(|k| format!("{k}\t{value}\n"))
                .collect();
            sink.send(bytes::Bytes::from(lines)).await.expect("sent");
        }
        assert_eq!(sink.finish().await.expect("COPY ends"), 5000);
        let out = client.copy_out("COPY t TO STDOUT").await.expect("COPY");
        let back: usize = out
            .map_ok(|piece| piece.len())
            .try_fold(0, async |all, piece| Ok(all + piece))
            .await
            .expect("read");
        assert_eq!(
            back,
            "-1\tfirst\n".len() + (0..5000).map(|k| format!("{k}\t{value}\n").len()).sum::<usize>()
        );

        // A cancel request is a connection of its own.
        let other = connect(folder.path(), &server).await;
        other
            .batch_execute("BEGIN; DELETE FROM t WHERE k = 1")
            .await
            .expect("deletes");
        let token = client.cancel_token();
        let mut waiting = pin!(client.batch_execute("DELETE FROM t WHERE k = 1"));
        // One that comes before the statement cancels nothing, so it is asked again.
        let ended = loop {
            match tokio::time::timeout(MOMENT, &mut waiting).await {
                Ok(ended) => break ended,
                Err(_) => token.cancel_query(NoTls).await.expect("asked"),
            }
        };
        assert_eq!(
            ended.expect_err("cancelled").code(),
            Some(&SqlState::QUERY_CANCELED)
        );
    });
    server.stop();
    assert!(!path.exists(), "the file goes with the server");
    let audit = tool(&["log", "--audit", "--table", "t", "--key", "-1"], &home.data());
    let audit = String::from_utf8_lossy(&audit.stdout).into_owned();
    assert!(audit.contains("local uid "), "{audit}");
}

#[test]
fn a_statement_that_waits_ends_when_its_client_at_the_socket_has_gone() {
    let (home, folder) = (Home::new(), folder());
    let (server, _) = start(&home, folder.path());
    block_on(async {
        let holder = connect(folder.path(), &server).await;
        holder
            .batch_execute("CREATE TABLE t (k int PRIMARY KEY); INSERT INTO t VALUES (1), (2)")
            .await
            .expect("writes");
        let lock = "BEGIN; DELETE FROM t WHERE k = 1";
        holder.batch_execute(lock).await.expect("locks a row");
        let (gone, connection) = open(folder.path(), &server).await;
        let lock = "BEGIN; DELETE FROM t WHERE k = 2";
        gone.batch_execute(lock).await.expect("locks another");
        {
            let mut waiting = pin!(gone.batch_execute("DELETE FROM t WHERE k = 1"));
            let moment = tokio::time::timeout(MOMENT, &mut waiting).await;
            moment.expect_err("waits for the row");
        }
        connection.abort();
        let third = connect(folder.path(), &server).await;
        let free = "DELETE FROM t WHERE k = 2";
        third.batch_execute(free).await.expect("the row is free again");
    });
}

#[test]
fn the_socket_of_a_server_that_was_killed_is_replaced() {
    let (home, folder) = (Home::new(), folder());
    let (server, path) = start(&home, folder.path());
    let address = server.address.to_string();
    server.kill();
    let left = fs::symlink_metadata(&path).expect("left behind");
    assert!(left.file_type().is_socket());
    // Kept, so that its number is no other file's.
    let kept = self::folder();
    fs::hard_link(&path, kept.path().join("left")).expect("kept");
    let server = home.start_at(&address, &["--socket", text(folder.path())]);
    UnixStream::connect(&path).expect("somebody listens");
    assert_ne!(fs::symlink_metadata(&path).expect("a file").ino(), left.ino());
    assert_eq!(
        fs::read_dir(folder.path()).expect("a folder").count(),
        1,
        "no other file"
    );
    server.stop();
    assert!(!path.exists());
}

#[test]
fn what_stands_in_a_sockets_place_is_left_alone() {
    let (home, other, folder) = (Home::new(), Home::new(), folder());
    let (server, path) = start(&home, folder.path());
    // The same port of another address, so that the port itself is free.
    let twin = format!("127.0.0.2:{}", server.address.port());
    let said = refused(&other, &twin, folder.path());
    assert!(
        said.contains(text(folder.path())) && said.contains("in use"),
        "{said}"
    );
    block_on(connect(folder.path(), &server));

    // Another's that has come since is not removed with the server.
    fs::remove_file(&path).expect("removed");
    let newcomer = std::os::unix::net::UnixListener::bind(&path).expect("binds");
    server.stop();
    UnixStream::connect(&path).expect("is there");
    drop(newcomer);

    fs::remove_file(&path).expect("removed");
    fs::write(&path, "not a socket").expect("written");
    let said = refused(&other, &twin, folder.path());
    assert!(said.contains("no socket"), "{said}");
    assert_eq!(fs::read(&path).expect("a file"), b"not a socket");

    let said = refused(&other, "127.0.0.1:0", &folder.path().join("nowhere"));
    assert!(
        said.contains("nowhere") && said.contains("not a folder"),
        "{said}"
    );
    let long = folder.path().join("x".repeat(100));
    fs::create_dir(&long).expect("a folder");
    let said = refused(&other, "127.0.0.1:0", &long);
    assert!(said.contains("107"), "{said}");
}
