//! The list of lost transactions, as somebody reads it who wants the rows back.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::{
    text::{INDENT, WIDTH, fact, forecast},
    words::{bytes, count, thousands, wrap},
};
use crate::model::{Incident, LossList, LostState, LostTable, LostTransaction, NodeId};

/// The list, and the forecast beside the fact. Without the list: what the incident itself carries.
#[must_use]
pub fn lost_text(incident: &Incident, list: Option<&LossList>) -> String {
    let mut page = Page(String::new());
    let rpo = &incident.rpo;
    let node = |node: &Option<NodeId>| node.as_ref().map_or("nobody", NodeId::as_str).to_owned();
    let (from, to) = (node(&incident.from), node(&incident.to));
    page.section("Incident", &format!("{}: {to} took over from {from}", incident.id));
    page.section("Forecast", &forecast(rpo));
    page.section("Fact", &fact(rpo));
    let lost = list.map(|list| list.committed).or(rpo.lost_transactions).unwrap_or_default();
    let undecided = list.map_or(0, |list| list.prepared);
    if lost + undecided == 0 && rpo.lost_unknown.is_none() && rpo.lost_transactions.is_none() {
        return page.0;
    }
    if rpo.acknowledged_is_safe && lost > 0 {
        page.section("Promise", "none of these was acknowledged: nobody was told that it was committed");
    }
    if let Some(salvage) = &rpo.salvage {
        page.section(
            "Salvaged",
            &format!("{salvage} on {from}: the WAL, this list (lost.json), and a README"),
        );
    }
    let tables = list.map_or(&rpo.lost_tables, |list| &list.tables);
    page.tables(tables);
    if let Some(list) = list {
        if list.catalogue_rows > 0 {
            let rows = count(list.catalogue_rows, "row");
            page.section("Catalogues", &format!("{rows} of definitions, privileges and statistics changed"));
        }
        if !list.sequences.is_empty() {
            page.section("Sequences", &list.sequences.join(", "));
        }
    }
    let transactions = list.map_or(&rpo.lost_first, |list| &list.transactions);
    page.transactions(transactions);
    let hidden = (lost + undecided).saturating_sub(transactions.len() as u64);
    if hidden > 0 {
        page.section("", &format!("and {} more; lost.json has them all", thousands(hidden)));
    }
    for note in list.map_or(&rpo.lost_notes, |list| &list.notes) {
        page.section("Note", note);
    }
    page.0
}

struct Page(String);

impl Page {
    fn section(&mut self, label: &str, text: &str) {
        for (index, line) in wrap(text, WIDTH - INDENT).iter().enumerate() {
            let label = if index == 0 { label } else { "" };
            let _a_string_takes_all = writeln!(self.0, "{label:INDENT$}{line}");
        }
    }

    fn tables(&mut self, tables: &[LostTable]) {
        for (index, table) in tables.iter().enumerate() {
            self.section(if index == 0 { "Tables" } else { "" }, &in_words(table));
        }
    }

    fn transactions(&mut self, transactions: &[LostTransaction]) {
        for (index, lost) in transactions.iter().enumerate() {
            let label = if index == 0 { "Transactions" } else { "" };
            let _a_string_takes_all = writeln!(self.0, "{label:INDENT$}{}", head(lost));
            for line in parts(lost).iter().flat_map(|part| wrap(part, WIDTH - INDENT - 2)) {
                let _a_string_takes_all = writeln!(self.0, "{:INDENT$}  {line}", "");
            }
        }
    }
}

fn head(lost: &LostTransaction) -> String {
    let at = lost.at.map_or_else(|| "at a time not known".into(), time);
    let prepared = lost.prepared_as.as_ref().map_or(String::new(), |name| format!(" (prepared as {name:?})"));
    let state = match lost.state {
        LostState::Committed => "committed",
        LostState::Prepared => "prepared, not decided",
    };
    let partial = if lost.partial { "; it began before the WAL that was there" } else { "" };
    format!("{}  {at}  {state}{prepared}, {}{partial}", lost.xid, bytes(lost.bytes))
}

fn parts(lost: &LostTransaction) -> Vec<String> {
    let mut parts: Vec<String> = lost.tables.iter().map(in_words).collect();
    if lost.catalogue_rows > 0 {
        parts.push(format!("{} of the system catalogues", count(lost.catalogue_rows, "row")));
    }
    parts.extend(lost.sequences.iter().map(|sequence| format!("sequence {sequence}")));
    parts
}

fn in_words(table: &LostTable) -> String {
    let numbers = [(table.inserted, "inserted"), (table.updated, "updated"), (table.deleted, "deleted")];
    let mut words: Vec<String> = numbers
        .iter()
        .filter(|(rows, _)| *rows > 0)
        .map(|(rows, verb)| format!("{} {verb}", thousands(*rows)))
        .collect();
    if table.emptied {
        words.push("emptied, dropped or rewritten".into());
    }
    let database = table.database.as_ref().map_or(String::new(), |name| format!(" in {name}"));
    format!("{}{database}: {}", table.table, words.join(", "))
}

fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S%.3f UTC").to_string()
}
