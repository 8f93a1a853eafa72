//! Notifications on the wire: when they come, and between which messages.

mod common;

use common::{Home, Message, Raw, execute, parse, query, run, sync, tags, value};

/// (process id, channel, payload) of a NotificationResponse.
fn heard(message: &Message) -> (i32, String, String) {
    assert_eq!(char::from(message.tag), 'A', "{message:?}");
    let (process, texts) = message.body.split_at(4);
    let mut texts = texts
        .split(|&byte| byte == 0)
        .map(|text| String::from_utf8_lossy(text).into_owned());
    let mut text = || texts.next().expect("a text");
    (
        i32::from_be_bytes(process.try_into().expect("four bytes")),
        text(),
        text(),
    )
}

fn process(client: &mut Raw) -> i32 {
    value(client, "SELECT pg_backend_pid()")
        .parse()
        .expect("a number")
}

#[test]
fn an_idle_session_hears_at_once() {
    let home = Home::new();
    let server = home.start();
    let (mut listener, mut writer) = (server.session(), server.session());
    assert_eq!(tags(&run(&mut listener, "LISTEN news")), "CZ");
    let process = process(&mut writer);
    assert_eq!(
        tags(&run(&mut writer, "NOTIFY news, 'one'; NOTIFY news, 'two'")),
        "CCZ"
    );
    let first = heard(&listener.receive().expect("a notification"));
    assert_eq!(first, (process, "news".to_owned(), "one".to_owned()));
    let second = heard(&listener.receive().expect("another"));
    assert_eq!(second.2, "two");
    // Nothing else follows: the next answer begins with its own messages.
    assert_eq!(tags(&run(&mut listener, "SELECT 1")), "TDCZ");
}

#[test]
fn a_session_in_a_transaction_hears_at_its_end() {
    let home = Home::new();
    let server = home.start();
    let (mut listener, mut writer) = (server.session(), server.session());
    run(&mut listener, "LISTEN news");
    run(&mut listener, "BEGIN");
    run(&mut writer, "NOTIFY news, 'meanwhile'");
    assert_eq!(tags(&run(&mut listener, "SELECT 1")), "TDCZ");
    let answer = run(&mut listener, "COMMIT");
    assert_eq!(tags(&answer), "CAZ");
    assert_eq!(heard(&answer[1]).2, "meanwhile");
}

#[test]
fn own_notifications_come_before_ready_for_query_in_both_protocols() {
    let home = Home::new();
    let server = home.start();
    let mut client = server.session();
    run(&mut client, "LISTEN news");
    assert_eq!(tags(&run(&mut client, "NOTIFY news")), "CAZ");
    let bind = common::bind("", &[Some(b"news"), Some(b"payload")]);
    client.send(&[parse("", "SELECT pg_notify($1, $2)"), bind, execute(), sync()].concat());
    let answer = client.until_ready();
    assert_eq!(tags(&answer), "12DCAZ");
    assert_eq!(heard(&answer[4]).2, "payload");
}

#[test]
fn notifications_do_not_break_into_a_message_that_is_half_there() {
    let home = Home::new();
    let server = home.start();
    let (mut listener, mut writer) = (server.session(), server.session());
    run(&mut listener, "LISTEN news");
    let statement = query("SELECT 42");
    let (head, rest) = statement.split_at(8);
    listener.send(head);
    run(&mut writer, "NOTIFY news, 'between'");
    assert_eq!(heard(&listener.receive().expect("a notification")).2, "between");
    listener.send(rest);
    assert_eq!(tags(&listener.until_ready()), "TDCZ");
}

#[test]
fn a_listener_that_does_not_read_loses_and_is_told_and_nobody_waits_for_it() {
    let home = Home::new();
    let server = home.start();
    let (mut listener, mut writer) = (server.session(), server.session());
    run(&mut listener, "LISTEN news");
    run(&mut listener, "BEGIN");
    let notify = format!("NOTIFY news, '{}'", "x".repeat(7000));
    for number in 0..200 {
        // Each in a transaction of its own, and each another text.
        run(&mut writer, &notify.replacen('x', &number.to_string(), 1));
    }
    let answer = run(&mut listener, "COMMIT");
    let kept = answer.iter().filter(|message| message.tag == b'A').count();
    assert!((100..200).contains(&kept), "{kept}");
    let notice = answer
        .iter()
        .find(|message| message.tag == b'N')
        .expect("a warning");
    assert_eq!(notice.field(b'S').as_deref(), Some("WARNING"));
    let text = notice.field(b'M').expect("a text");
    assert!(
        text.starts_with(&format!("{} notifications were lost", 200 - kept)),
        "{text}"
    );
    assert_eq!(tags(&answer[answer.len() - 2..]), "NZ");
}

#[test]
fn tokio_postgres_hears_what_another_client_tells() {
    use futures::{StreamExt, TryStreamExt, channel::mpsc, stream};
    use tokio_postgres::{AsyncMessage, NoTls};
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
    runtime.block_on(async {
        let (client, mut connection) = tokio_postgres::connect(&config, NoTls).await.expect("connects");
        let (sender, mut receiver) = mpsc::unbounded();
        let messages = stream::poll_fn(move |context| connection.poll_message(context))
            .map_err(|error| panic!("{error}"));
        tokio::spawn(messages.forward(sender));
        client.batch_execute("LISTEN orders").await.expect("listens");
        let (other, connection) = tokio_postgres::connect(&config, NoTls).await.expect("connects");
        tokio::spawn(connection);
        other
            .execute("SELECT pg_notify($1, $2)", &[&"orders", &"17"])
            .await
            .expect("notified");
        let hearing = async {
            while let Some(message) = receiver.next().await {
                if let AsyncMessage::Notification(heard) = message {
                    return Some((heard.channel().to_owned(), heard.payload().to_owned()));
                }
            }
            None
        };
        let heard = tokio::time::timeout(common::DEADLINE, hearing)
            .await
            .expect("in time");
        assert_eq!(heard, Some(("orders".to_owned(), "17".to_owned())));
    });
}
