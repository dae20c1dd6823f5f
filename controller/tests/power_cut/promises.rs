//! What the writer said, and whether a store keeps it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use maille_controller::store::log::LogEngine;
use maille_controller::store::table::Table;

use crate::content;
use crate::writer::Store;

/// Of what is broken, what is shown.
const EXAMPLES: usize = 3;

/// One line of the writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Acknowledged: this entry.
    Entry { term: u64, index: u64 },
    /// Acknowledged: the vote of this term.
    Voted(u64),
    /// Begun: entries from here on may be gone, of terms before this one.
    TakingBack { from: u64, term: u64 },
    /// Acknowledged: they are.
    TookBack(u64),
    /// Begun: entries up to here may be gone.
    Purging(u64),
    /// Acknowledged: they are.
    Purged(u64),
    /// Acknowledged: the snapshot at this entry.
    Snapshot(u64),
    /// Acknowledged: this row.
    Row(u64),
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entry { term, index } => write!(f, "entry {term} {index}"),
            Self::Voted(term) => write!(f, "voted {term}"),
            Self::TakingBack { from, term } => write!(f, "taking-back {from} {term}"),
            Self::TookBack(from) => write!(f, "took-back {from}"),
            Self::Purging(upto) => write!(f, "purging {upto}"),
            Self::Purged(upto) => write!(f, "purged {upto}"),
            Self::Snapshot(index) => write!(f, "snapshot {index}"),
            Self::Row(number) => write!(f, "row {number}"),
        }
    }
}

impl FromStr for Line {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        Ok(match words.as_slice() {
            ["entry", term, index] => Self::Entry {
                term: term.parse()?,
                index: index.parse()?,
            },
            ["voted", term] => Self::Voted(term.parse()?),
            ["taking-back", from, term] => Self::TakingBack {
                from: from.parse()?,
                term: term.parse()?,
            },
            ["took-back", from] => Self::TookBack(from.parse()?),
            ["purging", upto] => Self::Purging(upto.parse()?),
            ["purged", upto] => Self::Purged(upto.parse()?),
            ["snapshot", index] => Self::Snapshot(index.parse()?),
            ["row", number] => Self::Row(number.parse()?),
            _ => anyhow::bail!("no line of the writer's: {text}"),
        })
    }
}

/// All that a store owes.
#[derive(Debug, Default)]
pub struct Promises {
    /// Index and term of entries that must be there.
    entries: BTreeMap<u64, u64>,
    /// The last truncation: from which index, before which term.
    taking_back: (u64, u64),
    vote: u64,
    purged: u64,
    snapshot: u64,
    /// Rows below this number must be there.
    rows: u64,
    /// Acknowledgements, all in all.
    pub made: usize,
}

impl Promises {
    /// Takes down one line.
    pub fn note(&mut self, line: Line) {
        self.made += usize::from(!matches!(line, Line::TakingBack { .. } | Line::Purging(_)));
        match line {
            // Acknowledged on its way out: it may be gone by now.
            Line::Entry { term, index }
                if index >= self.taking_back.0 && term < self.taking_back.1 => {}
            Line::Entry { term, index } => drop(self.entries.insert(index, term)),
            Line::Voted(term) => self.vote = self.vote.max(term),
            Line::TakingBack { from, term } => {
                self.taking_back = (from, term);
                drop(self.entries.split_off(&from));
            }
            Line::Purging(upto) => self.entries = self.entries.split_off(&(upto + 1)),
            Line::TookBack(_) => {}
            Line::Purged(upto) => self.purged = self.purged.max(upto),
            Line::Snapshot(index) => self.snapshot = self.snapshot.max(index),
            Line::Row(number) => self.rows = self.rows.max(number + 1),
        }
    }

    /// Everything that a store does not keep.
    pub fn broken_by(&self, store: &Store) -> anyhow::Result<Vec<String>> {
        let mut findings = Vec::new();
        let found = store.log.read(0..u64::MAX, usize::MAX)?;
        let there: BTreeMap<u64, _> = found
            .iter()
            .map(|entry| (entry.position.index, entry))
            .collect();
        let lost: Vec<_> = self
            .entries
            .iter()
            .filter(|(index, term)| {
                there
                    .get(*index)
                    .is_none_or(|entry| **entry != content::entry(**term, **index))
            })
            .collect();
        if !lost.is_empty() {
            let examples = &lost[..lost.len().min(EXAMPLES)];
            findings.push(format!(
                "{} entries are lost or changed, among them (index, term) {examples:?}",
                lost.len()
            ));
        }
        let state = store.log.state();
        let at_least = |findings: &mut Vec<String>, what: &str, found: u64, owed: u64| {
            if found < owed {
                findings.push(format!("{what} is {found}, and {owed} was acknowledged"));
            }
        };
        at_least(
            &mut findings,
            "the vote",
            state.vote.map_or(0, |vote| vote.term),
            self.vote,
        );
        at_least(
            &mut findings,
            "the purge",
            state.purged.map_or(0, |purged| purged.index),
            self.purged,
        );
        let snapshot = store.snapshots.current();
        let index = snapshot
            .as_ref()
            .and_then(|one| one.header().position)
            .map_or(0, |position| position.index);
        at_least(&mut findings, "the snapshot", index, self.snapshot);
        if let Some(snapshot) = snapshot
            && snapshot.chunks()?.concat() != content::snapshot(index)
        {
            findings.push(format!("the snapshot at {index} has another content"));
        }
        let rows = store.tables.scan(Table::Issuance, &[], usize::MAX)?;
        let good = (0u64..).zip(&rows).take_while(|(number, (key, value))| {
            **key == number.to_be_bytes() && *value == content::row(*number)
        });
        at_least(
            &mut findings,
            "the number of good rows",
            good.count() as u64,
            self.rows,
        );
        Ok(findings)
    }
}
