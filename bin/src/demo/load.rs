//! Everyone who uses the shop at once: the tills, the analyst, and who watches the mirror's lag.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_postgres::SimpleQueryMessage;

use super::shop::{self, Order, Placed, Random, Till};

/// Tills that take orders at the same time.
const TILLS: u64 = 16;
/// How often the server is asked for its mirror's lag.
const LAG_PERIOD: Duration = Duration::from_millis(500);
/// The analyst thinks this long between questions.
const ANALYST_PAUSE: Duration = Duration::from_millis(100);
/// Times kept for each question; the median is taken over them.
const TIMES_KEPT: usize = 101;

/// The analyst's questions: (title, SQL).
pub const QUESTIONS: [(&str, &str); 3] = [
    (
        "revenue by region",
        "SELECT c.region, count(*), sum(o.total_cents) FROM orders o JOIN customers c \
         ON c.customer_id = o.customer_id GROUP BY c.region ORDER BY c.region",
    ),
    (
        "best sellers",
        "SELECT p.name, sum(l.quantity) AS sold FROM order_lines l JOIN products p \
         ON p.product_id = l.product_id GROUP BY p.name ORDER BY sold DESC, p.name LIMIT 5",
    ),
    ("the books balance", BALANCE),
];

/// One snapshot in which orders, lines and stock must tell the same story: all differences are 0.
pub const BALANCE: &str = "SELECT o.total - l.total AS cents, o.lines - l.lines AS lines, s.sold - l.sold AS pieces FROM \
     (SELECT coalesce(sum(total_cents), 0) AS total, coalesce(sum(lines), 0) AS lines FROM orders) o, \
     (SELECT coalesce(sum(quantity * price_cents), 0) AS total, count(*) AS lines, coalesce(sum(quantity), 0) AS sold \
      FROM order_lines) l, (SELECT coalesce(sum(sold), 0) AS sold FROM stock) s";

/// What one question's answers took.
#[derive(Debug, Clone, Default)]
pub struct Times {
    kept: Vec<Duration>,
    pub asked: u64,
}

impl Times {
    fn add(&mut self, time: Duration) {
        if self.kept.len() == TIMES_KEPT {
            self.kept.remove(0);
        }
        self.kept.push(time);
        self.asked += 1;
    }

    pub fn median(&self) -> Option<Duration> {
        let mut sorted = self.kept.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied()
    }
}

/// From commit to visible in the mirror, in microseconds, as the server counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    pub p50_us: u64,
    pub p99_us: u64,
    pub max_us: u64,
}

/// What everyone writes down and the screen shows.
#[derive(Default)]
pub struct Live {
    pub acknowledged: AtomicU64,
    pub refused: AtomicU64,
    pub lag: Mutex<Option<Lag>>,
    pub times: Mutex<[Times; QUESTIONS.len()]>,
    /// A question's answer that was wrong, or an error that should not be.
    pub trouble: Mutex<Option<String>>,
    stop: AtomicBool,
}

impl Live {
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn trouble(&self, text: String) {
        self.trouble.lock().get_or_insert(text);
    }
}

/// What the tills know when they are done.
#[derive(Debug, Default)]
pub struct Receipts {
    /// Orders whose COMMIT was acknowledged.
    pub acknowledged: Vec<i64>,
    /// Orders whose COMMIT was on its way when the connection broke.
    pub unknown: Vec<i64>,
    /// Orders that must not exist.
    pub never: Vec<i64>,
}

impl Receipts {
    pub fn add(&mut self, mut other: Self) {
        self.acknowledged.append(&mut other.acknowledged);
        self.unknown.append(&mut other.unknown);
        self.never.append(&mut other.never);
    }
}

/// A shop in operation.
pub struct Operation {
    live: Arc<Live>,
    tills: JoinSet<Receipts>,
    others: JoinSet<()>,
}

impl Operation {
    /// Opens the tills. `shift` keeps the order numbers of one run apart from those of another.
    pub async fn start(
        address: SocketAddr,
        shift: u64,
        live: &Arc<Live>,
    ) -> Result<Self, tokio_postgres::Error> {
        live.stop.store(false, Ordering::Release);
        let mut operation = Self {
            live: live.clone(),
            tills: JoinSet::new(),
            others: JoinSet::new(),
        };
        for worker in 0..TILLS {
            let till = Till::open(address).await?;
            operation
                .tills
                .spawn(take_orders(till, shift * TILLS + worker, live.clone()));
        }
        operation.others.spawn(analyse(address, live.clone()));
        operation.others.spawn(watch_lag(address, live.clone()));
        Ok(operation)
    }

    /// Waits for everyone to notice that it is over: by [`Live::stop`] or a dead server.
    pub async fn finish(mut self) -> Receipts {
        let mut receipts = Receipts::default();
        while let Some(till) = self.tills.join_next().await {
            match till {
                Ok(till) => receipts.add(till),
                Err(error) => self.live.trouble(format!("a till ended early: {error}")),
            }
        }
        self.live.stop();
        while self.others.join_next().await.is_some() {}
        receipts
    }
}

async fn take_orders(till: Till, worker: u64, live: Arc<Live>) -> Receipts {
    let mut random = Random::new(worker + 1);
    let mut receipts = Receipts::default();
    for number in 0.. {
        if live.stopped() {
            break;
        }
        let order = Order::draw(worker, number, &mut random);
        match till.place(&order).await {
            Placed::Acknowledged => {
                receipts.acknowledged.push(order.id);
                live.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Placed::Refused => {
                receipts.never.push(order.id);
                live.refused.fetch_add(1, Ordering::Relaxed);
            }
            Placed::Lost => {
                receipts.never.push(order.id);
                break;
            }
            Placed::Unknown => {
                receipts.unknown.push(order.id);
                break;
            }
        }
    }
    receipts
}

/// Asks one question after the other, all on the mirror.
async fn analyse(address: SocketAddr, live: Arc<Live>) {
    let Ok(client) = shop::connect(address, "analyst").await else {
        return;
    };
    if let Err(error) = client.batch_execute("SET scry.read_from = mirror").await {
        return live.trouble(format!("SET scry.read_from: {error}"));
    }
    for (index, (title, sql)) in QUESTIONS.iter().enumerate().cycle() {
        if live.stopped() {
            return;
        }
        let began = Instant::now();
        match client.simple_query(sql).await {
            Ok(answer) => {
                live.times.lock()[index].add(began.elapsed());
                if *sql == BALANCE
                    && let Some(found) = imbalance(&answer)
                {
                    live.trouble(format!("the books do not balance: {found}"));
                }
            }
            Err(error) if error.is_closed() || error.as_db_error().is_none() => return,
            Err(error) => live.trouble(format!("{title}: {error}")),
        }
        tokio::time::sleep(ANALYST_PAUSE).await;
    }
}

/// What is wrong in an answer to [`BALANCE`].
pub fn imbalance(answer: &[SimpleQueryMessage]) -> Option<String> {
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let Some(row) = row else {
        return Some("no answer".to_owned());
    };
    let values: Vec<&str> = (0..row.len())
        .map(|column| row.get(column).unwrap_or("NULL"))
        .collect();
    let zero = |value: &&str| value.parse::<f64>().is_ok_and(|number| number == 0.0);
    match values.len() == 3 && values.iter().all(zero) {
        true => None,
        false => Some(format!("off by (cents, lines, pieces) = ({})", values.join(", "))),
    }
}

async fn watch_lag(address: SocketAddr, live: Arc<Live>) {
    let Ok(client) = shop::connect(address, "lag watcher").await else {
        return;
    };
    while !live.stopped() {
        let Ok(answer) = client.simple_query("SELECT * FROM scry_stat_mirror").await else {
            return;
        };
        let lag = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => {
                let micros = |column: usize| row.try_get(column).ok().flatten()?.parse().ok();
                Some(Lag {
                    p50_us: micros(1)?,
                    p99_us: micros(2)?,
                    max_us: micros(3)?,
                })
            }
            _ => None,
        });
        *live.lag.lock() = lag;
        tokio::time::sleep(LAG_PERIOD).await;
    }
}
