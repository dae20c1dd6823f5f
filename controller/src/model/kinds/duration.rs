//! A length of time as Gateway API writes it (GEP-2257): `10s`, `1h30m`, `250ms`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Up to four numbers of one to five digits, each with `h`, `m`, `s` or `ms`. Written in its shortest form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(std::time::Duration);

/// The text is not a duration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "`{0}` is not a duration; write it as `250ms`, `10s`, `5m` or `1h30m` (up to four whole numbers, each with h, m, s or ms)"
)]
pub struct DurationError(String);

impl Duration {
    /// A duration of so many milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(std::time::Duration::from_millis(millis))
    }

    /// A duration of so many seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self(std::time::Duration::from_secs(secs))
    }

    /// As the standard library has it.
    pub const fn get(self) -> std::time::Duration {
        self.0
    }

    /// In milliseconds; the parts are bounded, so this never overflows.
    pub fn as_millis(self) -> u64 {
        u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether it is no time at all, which disables most timeouts.
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text)
            .map(Self::from_millis)
            .ok_or_else(|| DurationError(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut millis = 0u64;
    let mut parts = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if !(1..=5).contains(&digits) || parts == 4 {
            return None;
        }
        let number: u64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        millis += number * unit_millis(&rest[..letters])?;
        rest = &rest[letters..];
        parts += 1;
    }
    (parts > 0).then_some(millis)
}

fn unit_millis(unit: &str) -> Option<u64> {
    match unit {
        "h" => Some(3_600_000),
        "m" => Some(60_000),
        "s" => Some(1_000),
        "ms" => Some(1),
        _ => None,
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.as_millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (unit, millis) in [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
            if rest >= millis {
                write!(f, "{}{unit}", rest / millis)?;
                rest %= millis;
            }
        }
        Ok(())
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn durations_are_read_and_written_in_their_shortest_form() {
        let check = |text: &str, expected: Option<(u64, &str)>| {
            let parsed = text.parse::<Duration>().ok();
            assert_eq!(
                parsed.map(Duration::as_millis),
                expected.map(|(millis, _)| millis),
                "{text:?}"
            );
            assert_eq!(
                parsed.map(|d| d.to_string()),
                expected.map(|(_, canonical)| canonical.to_owned()),
                "{text:?}"
            );
        };
        check("10s", Some((10_000, "10s")));
        check("0s", Some((0, "0s")));
        check("0h", Some((0, "0s")));
        check("1500ms", Some((1_500, "1s500ms")));
        check("1h30m", Some((5_400_000, "1h30m")));
        check("90m", Some((5_400_000, "1h30m")));
        check("99999h", Some((359_996_400_000, "99999h")));
        for wrong in [
            "",
            "10",
            "s",
            "-1s",
            "1.5s",
            "1d",
            "100000s",
            "1h1m1s1ms1ms",
            "10 s",
            "١s",
            "1sm",
        ] {
            check(wrong, None);
        }
    }
}
