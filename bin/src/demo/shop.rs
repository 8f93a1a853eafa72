//! The demo's little shop: its tables, its first stock, and what one order is.

use std::fmt::Write as _;
use std::net::SocketAddr;

use bytes::Bytes;
use futures::future::try_join_all;
use futures::{SinkExt, TryFutureExt};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, NoTls, Statement};

pub const CUSTOMERS: u64 = 10_000;
pub const PRODUCTS: u64 = 1_000;
/// What every product has in stock at first: enough for any demo.
const ON_HAND: u64 = 1_000_000;
/// Every worker numbers its orders in a range of its own.
const ORDERS_PER_WORKER: i64 = 1_000_000_000;

const REGIONS: [&str; 5] = ["north", "south", "east", "west", "overseas"];
const KINDS: [&str; 5] = ["lamp", "chair", "kettle", "radio", "basket"];
const COLOURS: [&str; 4] = ["red", "blue", "white", "black"];

const SCHEMA: &str = "
CREATE TABLE customers (customer_id int PRIMARY KEY, name text NOT NULL, region text NOT NULL);
CREATE TABLE products (product_id int PRIMARY KEY, name text NOT NULL, price_cents bigint NOT NULL);
CREATE TABLE stock (product_id int PRIMARY KEY, on_hand bigint NOT NULL, sold bigint NOT NULL DEFAULT 0);
CREATE TABLE orders (
    order_id bigint PRIMARY KEY, customer_id int NOT NULL, total_cents bigint NOT NULL,
    lines int NOT NULL, placed_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE order_lines (
    order_id bigint, line int, product_id int NOT NULL, quantity int NOT NULL,
    price_cents bigint NOT NULL, PRIMARY KEY (order_id, line));
";

/// All tables, in the order in which they are made.
pub const TABLES: [&str; 5] = ["customers", "products", "stock", "orders", "order_lines"];

/// A price that a worker knows without asking.
pub fn price_cents(product: u64) -> i64 {
    (199 + product * 37 % 9_800) as i64
}

/// Connects as the shop's till, or as whoever `application` says.
pub async fn connect(address: SocketAddr, application: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = Config::new()
        .host(address.ip().to_string())
        .port(address.port())
        .user("shop")
        .dbname(crate::server::DATABASE)
        .application_name(application)
        .connect(NoTls)
        .await?;
    // Ends with the client; its error is every pending request's error too.
    tokio::spawn(connection.unwrap_or_else(drop));
    Ok(client)
}

/// Makes the tables and fills the first three by COPY.
pub async fn open(client: &Client) -> Result<(), tokio_postgres::Error> {
    client.batch_execute(SCHEMA).await?;
    let customers = (0..CUSTOMERS).map(|id| {
        let region = REGIONS[(id * 7 % 5) as usize];
        format!("{id}\tcustomer {id}\t{region}\n")
    });
    copy(client, "COPY customers FROM STDIN", customers).await?;
    let products = (0..PRODUCTS).map(|id| {
        let kind = KINDS[(id % 5) as usize];
        let colour = COLOURS[(id / 5 % 4) as usize];
        format!("{id}\t{colour} {kind} no. {id}\t{}\n", price_cents(id))
    });
    copy(client, "COPY products FROM STDIN", products).await?;
    let stock = (0..PRODUCTS).map(|id| format!("{id}\t{ON_HAND}\t0\n"));
    copy(client, "COPY stock FROM STDIN", stock).await
}

async fn copy(
    client: &Client,
    statement: &str,
    rows: impl Iterator<Item = String>,
) -> Result<(), tokio_postgres::Error> {
    let mut text = String::new();
    rows.for_each(|row| {
        let _ = text.write_str(&row);
    });
    let sink = client.copy_in(statement).await?;
    futures::pin_mut!(sink);
    sink.send(Bytes::from(text)).await?;
    sink.finish().await.map(drop)
}

/// One order: a customer and some products, each once and in ascending order, so that orders lock
/// the stock in one order and never wait in a circle.
#[derive(Debug, Clone)]
pub struct Order {
    pub id: i64,
    customer: i32,
    lines: Vec<(i32, i32)>,
}

impl Order {
    pub fn draw(worker: u64, number: i64, random: &mut Random) -> Self {
        let mut products: Vec<i32> = (0..1 + random.below(4))
            .map(|_| random.below(PRODUCTS) as i32)
            .collect();
        products.sort_unstable();
        products.dedup();
        let customer = random.below(CUSTOMERS) as i32;
        let lines = products
            .into_iter()
            .map(|product| (product, 1 + random.below(3) as i32))
            .collect();
        Self {
            id: worker as i64 * ORDERS_PER_WORKER + number,
            customer,
            lines,
        }
    }

    fn total_cents(&self) -> i64 {
        self.lines
            .iter()
            .map(|(product, quantity)| i64::from(*quantity) * price_cents(*product as u64))
            .sum()
    }
}

/// How placing an order ended.
pub enum Placed {
    /// COMMIT was acknowledged.
    Acknowledged,
    /// The server said no: nothing of it exists.
    Refused,
    /// The connection broke before COMMIT was sent: nothing of it may exist.
    Lost,
    /// The connection broke after COMMIT was sent: it may exist, whole, or not at all.
    Unknown,
}

/// A worker's prepared statements.
pub struct Till {
    client: Client,
    order: Statement,
    line: Statement,
    stock: Statement,
}

impl Till {
    pub async fn open(address: SocketAddr) -> Result<Self, tokio_postgres::Error> {
        let client = connect(address, "shop till").await?;
        let order = client
            .prepare("INSERT INTO orders (order_id, customer_id, total_cents, lines) VALUES ($1, $2, $3, $4)")
            .await?;
        let line = client
            .prepare("INSERT INTO order_lines VALUES ($1, $2, $3, $4, $5)")
            .await?;
        let stock = client
            .prepare("UPDATE stock SET on_hand = on_hand - $2, sold = sold + $2 WHERE product_id = $1")
            .await?;
        Ok(Self {
            client,
            order,
            line,
            stock,
        })
    }

    /// One transaction, its statements sent together, its COMMIT only after all succeeded.
    pub async fn place(&self, order: &Order) -> Placed {
        match self.write(order).await {
            Ok(()) => {}
            Err(error) if error.code().is_some_and(|code| *code != SqlState::ADMIN_SHUTDOWN) => {
                return match self.client.batch_execute("ROLLBACK").await {
                    Ok(()) => Placed::Refused,
                    Err(_) => Placed::Lost,
                };
            }
            Err(_) => return Placed::Lost,
        }
        match self.client.batch_execute("COMMIT").await {
            Ok(()) => Placed::Acknowledged,
            Err(error) if error.as_db_error().is_some() => Placed::Refused,
            Err(_) => Placed::Unknown,
        }
    }

    async fn write(&self, order: &Order) -> Result<(), tokio_postgres::Error> {
        let lines = order.lines.len() as i32;
        let total = order.total_cents();
        let head = async {
            self.client
                .execute(&self.order, &[&order.id, &order.customer, &total, &lines])
                .await
        };
        let body = try_join_all(order.lines.iter().zip(1i32..).map(
            |((product, quantity), line)| async move {
                let price = price_cents(*product as u64);
                let many = i64::from(*quantity);
                let taken: [&(dyn ToSql + Sync); 2] = [product, &many];
                let written: [&(dyn ToSql + Sync); 5] = [&order.id, &line, product, quantity, &price];
                futures::try_join!(
                    self.client.execute(&self.stock, &taken),
                    self.client.execute(&self.line, &written),
                )
            },
        ));
        futures::try_join!(
            self.client.batch_execute("BEGIN").map_ok(|()| 0),
            head,
            body.map_ok(|_| 0)
        )
        .map(drop)
    }
}

/// A small generator (xorshift64*): the demo's customers need no better one.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % bound
    }
}
