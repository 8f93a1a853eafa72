//! What the demo shows: one block that is redrawn on a terminal, plain lines anywhere else.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::load::{Live, QUESTIONS};
use crate::sys;

/// Between two drawings of the block.
pub const PERIOD: Duration = Duration::from_millis(250);
/// Between two plain lines.
const PLAIN_PERIOD: Duration = Duration::from_secs(2);
/// Commit rates in the little chart: as many as let its line fit into 80 columns.
const CHART: usize = 20;
/// What is drawn again must not wrap, or the lines above it would no longer be where they were.
const COLUMNS_UNKNOWN: usize = 80;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const GREEN: &str = "\x1b[32m";
const RESET: &str = "\x1b[0m";

/// Standard output, as far as the demo is concerned. A closed output is not the demo's trouble.
pub struct Screen {
    terminal: bool,
    /// Lines of the block that stands there now.
    drawn: usize,
    rates: VecDeque<f64>,
    last: Option<(Instant, u64)>,
    plain_due: Instant,
    commits_since_plain: u64,
}

impl Screen {
    pub fn new() -> Self {
        Self {
            terminal: io::stdout().is_terminal(),
            drawn: 0,
            rates: VecDeque::new(),
            last: None,
            plain_due: Instant::now() + PLAIN_PERIOD,
            commits_since_plain: 0,
        }
    }

    /// A line that stays.
    pub fn say(&mut self, text: &str) {
        self.keep_block();
        self.write(&format!("{text}\n"));
    }

    /// A step that begins: a heading.
    pub fn step(&mut self, text: &str) {
        let (bold, reset) = self.style(BOLD);
        self.say(&format!("\n{bold}{text}{reset}"));
    }

    /// A fact that was established.
    pub fn fact(&mut self, text: &str) {
        let (green, reset) = self.style(GREEN);
        self.say(&format!("  {green}✓{reset} {text}"));
    }

    /// Draws the present state.
    pub fn draw(&mut self, live: &Live) {
        let (commits, rate, now) = self.measure(live);
        match self.terminal {
            true => self.draw_block(live, commits, rate),
            false => self.draw_plain(live, commits, now),
        }
    }

    /// Draws the present state with other lines below it; where nothing can be redrawn, now and then.
    pub fn draw_with(&mut self, live: &Live, below: &[String]) {
        let (commits, rate, now) = self.measure(live);
        if self.terminal {
            let mut lines = vec![self.orders(commits, rate)];
            lines.extend_from_slice(below);
            self.redraw(&lines);
        } else if now >= self.plain_due {
            self.plain_due = now + PLAIN_PERIOD;
            self.commits_since_plain = commits;
            self.write(&format!("{}\n", below.join("\n")));
        }
    }

    /// Orders acknowledged so far, how many per second they are now, and when that was.
    fn measure(&mut self, live: &Live) -> (u64, f64, Instant) {
        let commits = live.acknowledged.load(Ordering::Relaxed);
        let now = Instant::now();
        let rate = self.last.map_or(0.0, |(at, before)| {
            (commits - before) as f64 / now.duration_since(at).as_secs_f64().max(0.001)
        });
        if self.last.is_some() {
            if self.rates.len() == CHART {
                self.rates.pop_front();
            }
            self.rates.push_back(rate);
        }
        self.last = Some((now, commits));
        (commits, rate, now)
    }

    /// Forgets the rates: the next draw begins a new stretch.
    pub fn restart(&mut self, live: &Live) {
        self.keep_block();
        self.last = None;
        self.rates.clear();
        self.plain_due = Instant::now() + PLAIN_PERIOD;
        self.commits_since_plain = live.acknowledged.load(Ordering::Relaxed);
    }

    fn draw_block(&mut self, live: &Live, commits: u64, rate: f64) {
        let mut lines = vec![
            self.orders(commits, rate),
            format!("  {BOLD}mirror{RESET}   {}", lag(live)),
        ];
        let times = live.times.lock().clone();
        for (index, ((title, _), times)) in QUESTIONS.iter().zip(&times).enumerate() {
            let heading = if index == 0 { "analyst" } else { "" };
            let median = times
                .median()
                .map_or_else(|| "–".to_owned(), |median| format!("{:.1} ms", ms(median)));
            lines.push(format!(
                "  {BOLD}{heading:<7}{RESET}  {title:<20} {median:>10}   {DIM}asked {} times{RESET}",
                times.asked
            ));
        }
        self.redraw(&lines);
    }

    fn redraw(&mut self, lines: &[String]) {
        let mut text = String::new();
        if self.drawn > 0 {
            text.push_str(&format!("\x1b[{}A", self.drawn));
        }
        let columns = sys::terminal_columns().unwrap_or(COLUMNS_UNKNOWN);
        for line in lines {
            text.push_str(&format!("\r\x1b[2K{}\n", clipped(line, columns)));
        }
        self.drawn = lines.len();
        self.write(&text);
    }

    fn draw_plain(&mut self, live: &Live, commits: u64, now: Instant) {
        if now < self.plain_due {
            return;
        }
        let seconds = (PLAIN_PERIOD + now.duration_since(self.plain_due)).as_secs_f64();
        let rate = (commits - self.commits_since_plain) as f64 / seconds;
        self.plain_due = now + PLAIN_PERIOD;
        self.commits_since_plain = commits;
        let times = live.times.lock().clone();
        let queries: Vec<String> = QUESTIONS
            .iter()
            .zip(&times)
            .filter_map(|((title, _), times)| {
                times
                    .median()
                    .map(|median| format!("{title} {:.1} ms", ms(median)))
            })
            .collect();
        let line = format!(
            "  {:.0} commits/s, {commits} acknowledged; {}; {}\n",
            rate,
            lag(live),
            queries.join(", ")
        );
        self.write(&line);
    }

    fn orders(&self, commits: u64, rate: f64) -> String {
        format!(
            "  {BOLD}orders{RESET}   {:>9} commits/s  {}  {DIM}{} acknowledged{RESET}",
            grouped(rate.round() as u64),
            self.chart(),
            grouped(commits)
        )
    }

    fn chart(&self) -> String {
        let most = self.rates.iter().copied().fold(1.0, f64::max);
        let bars: String = self
            .rates
            .iter()
            .map(|rate| BARS[((rate / most * 7.0) as usize).min(7)])
            .collect();
        format!("{bars:<CHART$}")
    }

    fn style(&self, style: &'static str) -> (&'static str, &'static str) {
        if self.terminal { (style, RESET) } else { ("", "") }
    }

    /// The block stays where it is; what comes next stands below it.
    fn keep_block(&mut self) {
        self.drawn = 0;
    }

    fn write(&self, text: &str) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

/// The line without what does not fit into so many columns. Styles take none, and end all the same.
fn clipped(line: &str, columns: usize) -> String {
    let mut shown = 0;
    let mut style = false;
    line.chars()
        .filter(|c| {
            if *c == '\x1b' {
                style = true;
            }
            if style {
                style = *c != 'm';
                return true;
            }
            shown += 1;
            shown <= columns
        })
        .collect()
}

fn lag(live: &Live) -> String {
    match *live.lag.lock() {
        None => "lag not known yet".to_owned(),
        Some(lag) => format!(
            "lag p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            lag.p50_us as f64 / 1e3,
            lag.p99_us as f64 / 1e3,
            lag.max_us as f64 / 1e3
        ),
    }
}

pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// 1234567 as `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_clipped_to_its_columns_and_its_styles_end() {
        assert_eq!(clipped("\x1b[1morders\x1b[0m  12", 7), "\x1b[1morders\x1b[0m ");
        assert_eq!(clipped("▄█▄", 80), "▄█▄");
    }

    #[test]
    fn the_longest_line_of_an_ordinary_day_fits_into_eighty_columns() {
        let mut screen = Screen::new();
        screen.rates.extend([1e6; CHART]);
        let line = screen.orders(123_456_789, 1e6);
        assert_eq!(clipped(&line, 79), line);
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
