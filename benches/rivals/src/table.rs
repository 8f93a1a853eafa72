//! Figures of all rounds, and what they come to as a table in Markdown.

use crate::store::NAMES;
use std::collections::HashMap;
use std::fmt::Write;

/// By name, in the order in which the names came up first.
#[derive(Default)]
pub struct Figures {
    names: Vec<String>,
    figures: HashMap<(String, String), Vec<f64>>,
}

impl Figures {
    pub fn add(&mut self, name: &str, store: &str, figure: f64) {
        if !self.names.iter().any(|known| known == name) {
            self.names.push(name.to_owned());
        }
        let key = (name.to_owned(), store.to_owned());
        self.figures.entry(key).or_default().push(figure);
    }

    /// Of all rounds.
    fn median(&self, name: &str, store: &str) -> Option<f64> {
        let mut figures = self.figures.get(&(name.to_owned(), store.to_owned()))?.clone();
        figures.sort_unstable_by(f64::total_cmp);
        let middle = figures.len() / 2;
        Some(match figures.len() % 2 {
            0 => f64::midpoint(figures[middle - 1], figures[middle]),
            _ => figures[middle],
        })
    }

    /// A row for each figure, a column for each store, and how the first store does beside the best of the others: above 1 it is better.
    pub fn table(&self, stores: &[String]) -> String {
        let stores: Vec<&str> = NAMES
            .into_iter()
            .filter(|name| stores.iter().any(|store| store == name))
            .collect();
        let mut table = format!(
            "| | {} | {} to the best other |\n|---",
            stores.join(" | "),
            NAMES[0]
        );
        table.push_str(&"|---:".repeat(stores.len() + 1));
        table.push_str("|\n");
        for name in &self.names {
            let medians: Vec<Option<f64>> = stores.iter().map(|store| self.median(name, store)).collect();
            let _ = write!(table, "| {name} |");
            for median in &medians {
                let _ = write!(table, " {} |", median.map(shown).unwrap_or_default());
            }
            let ratio = self.ratio(name, &stores);
            let _ = writeln!(
                table,
                " {} |",
                ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default()
            );
        }
        table
    }

    fn ratio(&self, name: &str, stores: &[&str]) -> Option<f64> {
        let own = self.median(name, NAMES[0])?;
        let others = stores.iter().filter(|store| **store != NAMES[0]);
        let others = others.filter_map(|store| self.median(name, store));
        match name.ends_with("/s") {
            true => Some(own / others.reduce(f64::max)?),
            // Of times, space and writes less is better.
            false => Some(others.reduce(f64::min)? / own),
        }
    }
}

/// With thousands apart, and places behind the point where they say something.
fn shown(figure: f64) -> String {
    if figure < 100.0 {
        return format!("{figure:.2}");
    }
    let digits = format!("{figure:.0}");
    let mut shown = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}
