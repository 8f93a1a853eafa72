//! The second act: three price plans as candidates over the live shop, compared while orders keep coming in, and the best elected.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use scry_sql::dialect::literal;
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use super::DemoError;
use super::load::Live;
use super::screen::{self, Screen, grouped, ms};
use super::shop;

/// What each plan would do: its name, what it is, and its statements.
const PLANS: [(&str, &str, &str); 3] = [
    (
        "up5",
        "every price five per cent up",
        "UPDATE products SET price_cents = price_cents * 105 / 100",
    ),
    (
        "sale",
        "everything ten per cent off, and more in stock",
        "UPDATE products SET price_cents = price_cents * 90 / 100;
         UPDATE stock SET on_hand = on_hand + 500 WHERE product_id < 200",
    ),
    (
        "luxury",
        "lamps at double price, the rest three per cent off",
        "UPDATE products SET price_cents = price_cents * 2 WHERE name LIKE '%lamp%';
         UPDATE products SET price_cents = price_cents * 97 / 100 WHERE name NOT LIKE '%lamp%'",
    ),
];

/// What today's sales would have brought at a future's prices, when each per cent of a price costs 1.2 per cent of the demand.
const REVENUE: &str = "SELECT (sum(l.quantity * p.price_cents * \
     greatest(0, 1 - 1.2 * (p.price_cents - l.price_cents) / l.price_cents::float8)) / 100)::numeric(18,2) AS revenue \
     FROM order_lines l JOIN products p ON p.product_id = l.product_id";

/// What no plan may do.
const ADMISSIBLE: &str = "SELECT max(price_cents) < 12000 FROM products";

/// Between two comparisons.
const PERIOD: Duration = Duration::from_millis(500);

/// Shows the act for about `time`, while others take orders.
pub async fn act(
    address: SocketAddr,
    live: &Live,
    screen: &mut Screen,
    time: Duration,
) -> Result<(), DemoError> {
    let client = shop::connect(address, "pricing").await?;
    // Orders and the plan that restocks change the same rows: their differences add up.
    client
        .batch_execute(
            "ALTER TABLE stock ALTER on_hand SET (scry.on_collision = add), ALTER sold SET (scry.on_collision = add)",
        )
        .await?;
    client.batch_execute("CREATE ELECTION prices").await?;
    for (name, what, statements) in PLANS {
        propose(&client, name, what, statements, screen).await?;
    }
    compare(&client, live, screen, time).await?;
    elect(&client, screen).await
}

/// Makes a candidate and its changes, which nobody else sees.
async fn propose(
    client: &Client,
    name: &str,
    what: &str,
    statements: &str,
    screen: &mut Screen,
) -> Result<(), DemoError> {
    client
        .batch_execute(&format!(
            "CREATE CANDIDATE {name} IN prices WITH (note = '{what}')"
        ))
        .await?;
    let began = Instant::now();
    client
        .batch_execute(&format!("SET scry.candidate = 'prices/{name}'"))
        .await?;
    let answers = client.simple_query(statements).await?;
    client.batch_execute("RESET scry.candidate").await?;
    let changed: u64 = answers
        .iter()
        .map(|answer| match answer {
            SimpleQueryMessage::CommandComplete(rows) => *rows,
            _ => 0,
        })
        .sum();
    screen.say(&format!(
        "  {name:<7} {what}: {} rows in {:.0} ms",
        grouped(changed),
        ms(began.elapsed())
    ));
    Ok(())
}

/// Compares the futures until the time is over, all at one moment each time.
async fn compare(client: &Client, live: &Live, screen: &mut Screen, time: Duration) -> Result<(), DemoError> {
    let asked = format!(
        "SELECT coalesce(candidate, 'today'), revenue, revenue_diff FROM scry.compare('prices', {}) \
         ORDER BY candidate NULLS FIRST",
        literal(REVENUE)
    );
    let end = Instant::now() + time;
    loop {
        let began = Instant::now();
        let futures = rows(client.simple_query(&asked).await?);
        let took = began.elapsed();
        let conflicts = rows(
            client
                .simple_query("SELECT count(*) FROM scry.conflicts('prices/sale')")
                .await?,
        );
        let mut lines = vec![format!(
            "  {:<9}{:>18}{:>18}",
            "future", "revenue", "against today"
        )];
        for future in &futures {
            let text = |column: usize| future.get(column).unwrap_or("").to_owned();
            lines.push(format!("  {:<9}{:>18}{:>18}", text(0), text(1), text(2)));
        }
        let collided = conflicts.first().and_then(|row| row.get(0)).unwrap_or("0");
        lines.push(format!(
            "  compared in {:.1} ms; {collided} rows of \"sale\" collide with orders that came since",
            ms(took)
        ));
        screen.draw_with(live, &lines);
        if let Some(trouble) = live.trouble.lock().take() {
            return Err(DemoError::Proof(trouble));
        }
        if Instant::now() >= end {
            return Ok(());
        }
        tokio::time::sleep(PERIOD.max(screen::PERIOD)).await;
    }
}

/// Elects the best plan, and says what became of what was predicted.
async fn elect(client: &Client, screen: &mut Screen) -> Result<(), DemoError> {
    screen.step("ELECT BEST");
    let began = Instant::now();
    client
        .batch_execute(&format!(
            "ELECT BEST IN prices BY ({REVENUE} MAX) SUBJECT TO ({ADMISSIBLE}) ON CONFLICT RESOLVE"
        ))
        .await?;
    let took = began.elapsed();
    let scores = client
        .simple_query(
            "SELECT candidate, score, admissible, elected FROM scry.scores WHERE election = 'prices'",
        )
        .await?;
    for score in rows(scores) {
        let is = |column: usize| score.get(column) == Some("t");
        let sign = match (is(3), is(2)) {
            (true, _) => "elected",
            (false, true) => "",
            (false, false) => "a price above 120.00 is not admissible",
        };
        let text = |column: usize| score.get(column).unwrap_or("NULL");
        screen.say(&format!("  {:<9}{:>18}  {sign}", text(0), text(1)));
    }
    let figures = client
        .simple_query("SELECT conflicts_resolved FROM scry_stat_elections WHERE election = 'prices'")
        .await?;
    let figures = rows(figures);
    let resolved = figures.first().and_then(|row| row.get(0)).unwrap_or("0");
    screen.fact(&format!(
        "committed in {:.0} ms, {resolved} collisions decided by the rules of their table; the other futures vanished",
        ms(took)
    ));
    let met = client
        .simple_query(
            "SELECT predicted, met, round((error * 100)::numeric, 2) FROM scry.predictions \
             WHERE election = 'prices' AND state = 'met'",
        )
        .await?;
    for met in rows(met) {
        let text = |column: usize| met.get(column).unwrap_or("NULL");
        screen.fact(&format!(
            "predicted {}, met {} when it was committed: {} per cent off, for the orders that came in between",
            text(0),
            text(1),
            text(2)
        ));
    }
    let left = rows(client.simple_query("SHOW CANDIDATES IN prices").await?);
    let open = left.iter().filter(|row| row.get(1) == Some("open")).count();
    match open {
        0 => Ok(()),
        open => Err(DemoError::Proof(format!(
            "{open} candidates are open after the election"
        ))),
    }
}

fn rows(answer: Vec<SimpleQueryMessage>) -> Vec<SimpleQueryRow> {
    let rows = answer.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    rows.collect()
}
