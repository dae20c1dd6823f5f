//! Sets of names, as patterns that Envoy has: a name, the beginning of names, or, where something is cut out of those, regular expressions.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use xds_api::envoy::r#type::matcher::v3::RegexMatcher;
use xds_api::envoy::r#type::matcher::v3::string_matcher::MatchPattern;

/// The largest program of an expression that a stock Envoy takes (`re2.max_program_size.error_level`). Only a name that is nearly as long itself needs
/// more than that, which the bootstrap of `maille envoy` allows.
const PROGRAM: usize = 100;
/// What a program has beside its texts and classes, at most (measured on Envoy 1.40).
const FRAME: usize = 8;
/// What each way to go on has, too.
const WAY: usize = 6;

/// What SPIFFE ids consist of, and some more: one range is a smaller program than the exact characters.
const FIRST: u8 = b'!';
const LAST: u8 = b'~';

/// A name, or all that begin so. Of one text the beginning stands first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Names {
    Beginning(String),
    One(String),
}

impl Names {
    /// What a pattern of a rule means.
    pub(super) fn of(pattern: MatchPattern) -> Option<Self> {
        match pattern {
            MatchPattern::Exact(text) => Some(Self::One(text)),
            MatchPattern::Prefix(text) => Some(Self::Beginning(text)),
            _ => None,
        }
    }

    /// Those that are in both.
    pub(super) fn and(&self, other: &Self) -> Option<Self> {
        if self.holds(other) {
            return Some(other.clone());
        }
        other.holds(self).then(|| self.clone())
    }

    fn holds(&self, other: &Self) -> bool {
        match self {
            Self::One(_) => self == other,
            Self::Beginning(text) => other.text().starts_with(text.as_str()),
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Beginning(text) | Self::One(text) => text,
        }
    }
}

/// Patterns that hold for a name of ours exactly where it is allowed and not denied.
pub(super) fn patterns(allowed: &[Names], denied: &[Names]) -> Vec<MatchPattern> {
    let denied = fewest(denied);
    let mut patterns = Vec::new();
    for names in fewest(allowed) {
        if denied.iter().any(|other| other.holds(names)) {
            continue;
        }
        let holes: Vec<&Names> = denied
            .iter()
            .copied()
            .filter(|other| names.holds(other))
            .collect();
        match names {
            Names::One(name) => patterns.push(MatchPattern::Exact(name.clone())),
            Names::Beginning(text) if holes.is_empty() => {
                patterns.push(MatchPattern::Prefix(text.clone()));
            }
            Names::Beginning(text) => {
                let mut branches = Vec::new();
                branch(text, &holes, &mut branches);
                patterns.extend(expressions(&branches));
            }
        }
    }
    patterns
}

/// The same without those that others hold, in order; what no name consists of holds nobody.
fn fewest(all: &[Names]) -> Vec<&Names> {
    let is_name = |names: &&Names| {
        names
            .text()
            .bytes()
            .all(|byte| (FIRST..=LAST).contains(&byte))
    };
    let mut sorted: Vec<&Names> = all.iter().filter(is_name).collect();
    sorted.sort_by_key(|names| (names.text(), matches!(names, Names::One(_))));
    let mut kept: Vec<&Names> = Vec::new();
    for names in sorted {
        // Whatever begins with a text follows it at once, so the last one that was kept is the only one that may hold the next.
        if kept.last().is_none_or(|last| !last.holds(names)) {
            kept.push(names);
        }
    }
    kept
}

/// Names that are allowed: those that begin with a text after which what is denied parts from them.
#[derive(Debug)]
struct Branch {
    text: String,
    /// Whether the text itself is one.
    ends: bool,
    /// With what none of them goes on.
    taken: BTreeSet<u8>,
}

/// What begins with `text` but for the holes, all of which do.
fn branch(text: &str, holes: &[&Names], branches: &mut Vec<Branch>) {
    let here = |names: &&&Names| names.text().len() == text.len();
    let mut ends = true;
    for names in holes.iter().filter(here) {
        match names {
            Names::Beginning(_) => return,
            Names::One(_) => ends = false,
        }
    }
    let mut further: BTreeMap<u8, Vec<&Names>> = BTreeMap::new();
    for names in holes.iter().filter(|names| !here(names)) {
        let next = names.text().as_bytes()[text.len()];
        further.entry(next).or_default().push(names);
    }
    branches.push(Branch {
        text: text.to_owned(),
        ends,
        taken: further.keys().copied().collect(),
    });
    for (next, holes) in further {
        branch(&format!("{text}{}", char::from(next)), &holes, branches);
    }
}

/// As few expressions as Envoy's limit allows.
fn expressions(branches: &[Branch]) -> Vec<MatchPattern> {
    let groups = groups(branches).into_iter();
    let expression = |group: &[Branch]| RegexMatcher {
        regex: expression(group),
    };
    groups
        .map(|group| MatchPattern::SafeRegex(expression(group)))
        .collect()
}

fn groups(mut branches: &[Branch]) -> Vec<&[Branch]> {
    let mut groups = Vec::new();
    while !branches.is_empty() {
        let fit = (2..=branches.len()).take_while(|count| size(&branches[..*count]) <= PROGRAM);
        let (group, rest) = branches.split_at(fit.last().unwrap_or(1));
        groups.push(group);
        branches = rest;
    }
    groups
}

/// At least the size of the program of an expression.
fn size(group: &[Branch]) -> usize {
    let common = common(group).len();
    let ways = group
        .iter()
        .map(|one| one.text.len() - common + 2 * (one.taken.len() + 1) + WAY);
    FRAME + common + ways.sum::<usize>()
}

/// What all of their texts begin with.
fn common(group: &[Branch]) -> &str {
    let Some((first, others)) = group.split_first() else {
        return "";
    };
    others.iter().fold(first.text.as_str(), |common, one| {
        let same = common.bytes().zip(one.text.bytes());
        &common[..same.take_while(|(one, other)| one == other).count()]
    })
}

fn expression(group: &[Branch]) -> String {
    let common = common(group);
    let way = |one: &Branch| {
        let text = regex::escape(&one.text[common.len()..]);
        let more = format!(
            "{}[{}-{}]*",
            others(&one.taken),
            char::from(FIRST),
            char::from(LAST)
        );
        match one.ends {
            true => format!("{text}(?:{more})?"),
            false => format!("{text}{more}"),
        }
    };
    let ways: Vec<String> = group.iter().map(way).collect();
    format!("{}(?:{})", regex::escape(common), ways.join("|"))
}

/// The class of all characters but these.
fn others(taken: &BTreeSet<u8>) -> String {
    let mut class = "[".to_owned();
    let mut range = |first: u8, last: u8| {
        if first <= last {
            write!(class, "{}-{}", literal(first), literal(last))
                .expect("writing to a String does not fail");
        }
    };
    let mut next = FIRST;
    for &byte in taken {
        range(next, byte - 1);
        next = byte + 1;
    }
    range(next, LAST);
    class + "]"
}

fn literal(byte: u8) -> String {
    regex::escape(&char::from(byte).to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    /// As Envoy asks them: of the whole text.
    fn matches(patterns: &[MatchPattern], name: &str) -> bool {
        patterns.iter().any(|pattern| match pattern {
            MatchPattern::Exact(text) => name == text,
            MatchPattern::Prefix(text) => name.starts_with(text.as_str()),
            MatchPattern::SafeRegex(RegexMatcher { regex }) => {
                regex::Regex::new(&format!("^(?:{regex})$"))
                    .unwrap()
                    .is_match(name)
            }
            MatchPattern::Suffix(_) => panic!("{pattern:?}"),
        })
    }

    fn names() -> impl Strategy<Value = Names> {
        ("[ab._/-]{0,5}", any::<bool>()).prop_map(|(text, is_one)| match is_one {
            true => Names::One(text),
            false => Names::Beginning(text),
        })
    }

    proptest! {
        #[test]
        fn a_name_matches_where_it_is_allowed_and_not_denied(
            allowed in prop::collection::vec(names(), 0..4),
            denied in prop::collection::vec(names(), 0..5),
            asked in prop::collection::vec("[abc._/-]{0,7}", 20),
        ) {
            let patterns = patterns(&allowed, &denied);
            let of = |sets: &[Names], name: &str| {
                let name = Names::One(name.to_owned());
                sets.iter().any(|names| names.holds(&name))
            };
            let known = allowed.iter().chain(&denied).map(|names| names.text().to_owned());
            for name in known.chain(asked.iter().cloned()) {
                let expected = of(&allowed, &name) && !of(&denied, &name);
                prop_assert_eq!(matches(&patterns, &name), expected, "{} in {:?}", name, patterns);
            }
        }
    }

    fn written(allowed: &[&str], denied: &[&str]) -> String {
        let read = |texts: &[&str]| -> Vec<Names> {
            let read = |text: &&str| match text.strip_suffix('*') {
                Some(text) => Names::Beginning(text.to_owned()),
                None => Names::One((*text).to_owned()),
            };
            texts.iter().map(read).collect()
        };
        let patterns = patterns(&read(allowed), &read(denied));
        let lines = patterns.iter().map(|pattern| format!("{pattern:?}\n"));
        lines.collect()
    }

    #[test]
    fn what_needs_no_expression_has_none() {
        let check = |allowed: &[&str], denied: &[&str], expected: &str| {
            assert_eq!(written(allowed, denied), expected, "{allowed:?} {denied:?}");
        };
        check(&["s://m/*"], &[], "Prefix(\"s://m/\")\n");
        check(
            &["s://m/a", "s://m/b"],
            &["s://m/b"],
            "Exact(\"s://m/a\")\n",
        );
        check(
            &["s://m/a", "s://m/*"],
            &["s://n/*"],
            "Prefix(\"s://m/\")\n",
        );
        check(&["s://m/*"], &["s://*"], "");
        check(&[], &["s://m/b"], "");
    }

    /// The program's size is Envoy's to find: it is asked in the workspace's tests. Here is the reckoning.
    #[test]
    fn no_expression_is_larger_than_a_stock_envoy_takes() {
        let denied: Vec<String> = (0..40)
            .map(|at| format!("spiffe://cluster.local/ns/shop-{}/sa/guest-{at}", at % 3))
            .collect();
        let denied: Vec<Names> = denied.into_iter().map(Names::One).collect();
        let holes: Vec<&Names> = fewest(&denied);
        let mut branches = Vec::new();
        branch("spiffe://cluster.local/", &holes, &mut branches);
        let groups = groups(&branches);
        assert!(groups.len() < branches.len() / 2, "{}", groups.len());
        for group in groups {
            assert!(size(group) <= PROGRAM, "{}", expression(group));
        }
    }
}
