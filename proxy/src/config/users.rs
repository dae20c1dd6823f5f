//! Whose connections are a workload's: users of the host, by number, range of numbers or name.

use super::fields::Fields;
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Where the host keeps its users.
const PASSWD: &str = "/etc/passwd";
/// The kernel's -1: nobody has it.
const INVALID: u32 = u32::MAX;
/// A workload runs as a few users; what goes further is a range.
const LIMIT: usize = 256;

/// Users of the host. Ranges do not meet each other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Users(Vec<RangeInclusive<u32>>);

/// One entry: a number, a range, or a name that stands for a number.
struct User(RangeInclusive<u32>);

impl Users {
    pub(super) fn read(fields: &mut Fields<'_>) -> Self {
        let users: Vec<User> = fields.words("users").unwrap_or_default();
        if users.len() > LIMIT {
            fields.problem("users", format!("at most {LIMIT} may be named"));
        }
        let mut ranges: Vec<_> = users.into_iter().map(|user| user.0).collect();
        ranges.sort_by_key(|range| *range.start());
        for pair in ranges.windows(2) {
            if pair[0].end() >= pair[1].start() {
                let (first, second) = (shown(&pair[0]), shown(&pair[1]));
                fields.problem("users", format!("{first} and {second} overlap"));
            }
        }
        Self(ranges)
    }

    /// Whether nobody is named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges, the lowest first.
    pub fn ranges(&self) -> &[RangeInclusive<u32>] {
        &self.0
    }

    /// Users that both name.
    pub(super) fn common(&self, other: &Self) -> Option<Shown> {
        let pairs = self
            .0
            .iter()
            .flat_map(|one| other.0.iter().map(move |two| (one, two)));
        let overlap = |(one, two): (&RangeInclusive<u32>, &RangeInclusive<u32>)| {
            let (first, last) = (one.start().max(two.start()), one.end().min(two.end()));
            (first <= last).then_some(Shown(*first..=*last))
        };
        pairs.into_iter().find_map(overlap)
    }
}

/// A range as people write it.
pub(super) struct Shown(RangeInclusive<u32>);

impl fmt::Display for Shown {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&shown(&self.0))
    }
}

fn shown(range: &RangeInclusive<u32>) -> String {
    match range.start() == range.end() {
        true => range.start().to_string(),
        false => format!("{}-{}", range.start(), range.end()),
    }
}

impl Serialize for Users {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for range in &self.0 {
            list.serialize_element(&shown(range))?;
        }
        list.end()
    }
}

impl FromStr for User {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.starts_with(|first: char| first.is_ascii_digit()) {
            return named(text, &passwd()?);
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| text.parse().ok().filter(|uid| *uid != INVALID);
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self(first..=last)),
            (Some(_), Some(_)) => Err("must be a range from a lower to a higher number".to_owned()),
            _ => Err(format!(
                "must be a user's number up to {}, a range such as 2000-2999, or a user's name",
                INVALID - 1
            )),
        }
    }
}

fn passwd() -> Result<String, String> {
    std::fs::read_to_string(PASSWD).map_err(|error| format!("cannot read {PASSWD}: {error}"))
}

/// The number of a name, as `passwd(5)` has it.
fn named(name: &str, passwd: &str) -> Result<User, String> {
    let numbers = passwd.lines().filter_map(|line| {
        let mut parts = line.split(':');
        let (found, _password, uid) = (parts.next()?, parts.next()?, parts.next()?);
        (found == name).then(|| uid.parse::<u32>().ok())?
    });
    let mut numbers = numbers;
    numbers.next().map(|uid| User(uid..=uid)).ok_or_else(|| {
        format!("no such user in {PASSWD}; give the user's number where it is kept elsewhere")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HOST: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:1001:100::/:/bin/false\n";

    #[test]
    fn users_are_numbers_ranges_and_names() {
        let check = |text: &str, expected: RangeInclusive<u32>| {
            assert_eq!(text.parse::<User>().map(|user| user.0), Ok(expected));
        };
        check("0", 0..=0);
        check("1001", 1001..=1001);
        check("2000-2999", 2000..=2999);
        check("4294967294", 4_294_967_294..=4_294_967_294);
        // Every host has it.
        check("root", 0..=0);
        assert_eq!(named("web", HOST).map(|user| user.0), Ok(1001..=1001));
    }

    #[test]
    fn what_is_no_user_is_refused() {
        let check = |text: &str, expected: &str| {
            let refused = text.parse::<User>().map(|user| user.0).unwrap_err();
            assert!(refused.contains(expected), "{text}: {refused}");
        };
        check("4294967295", "up to 4294967294");
        check("1x", "up to 4294967294");
        check("5-", "up to 4294967294");
        check("9-5", "from a lower to a higher");
        check("no such user", "give the user's number");
        assert!(named("we", HOST).is_err());
    }
}
