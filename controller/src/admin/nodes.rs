//! Which clients somebody asks for: the node matchers of CSDS, compiled.

use regex::{Regex, RegexBuilder};
use tonic::Status;
use xds_api::envoy::r#type::matcher::v3::NodeMatcher;
use xds_api::envoy::r#type::matcher::v3::string_matcher::MatchPattern;

/// Matchers of one request. Far more than anybody writes.
const MATCHERS: usize = 256;
/// A compiled pattern's size.
const PATTERN_BYTES: usize = 64 << 10;

#[derive(Debug)]
enum Pattern {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Regex(Regex),
}

/// Some clients, or all of them.
#[derive(Debug)]
pub(super) struct NodeChoice(Vec<Pattern>);

impl NodeChoice {
    /// Reads a request's matchers: a client is meant if one of them takes its id; without any, everybody is.
    ///
    /// # Errors
    /// One cannot be honoured: by metadata, without case, without a pattern that is known, or with one that is none.
    pub(super) fn of(matchers: &[NodeMatcher]) -> Result<Self, Status> {
        if matchers.len() > MATCHERS {
            return Err(refused(&format!("at most {MATCHERS} are taken")));
        }
        matchers
            .iter()
            .map(pattern)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether a client is meant.
    pub(super) fn takes(&self, node: &str) -> bool {
        let takes = |pattern: &Pattern| match pattern {
            Pattern::Exact(text) => node == text,
            Pattern::Prefix(text) => node.starts_with(text.as_str()),
            Pattern::Suffix(text) => node.ends_with(text.as_str()),
            Pattern::Regex(regex) => regex.is_match(node),
        };
        self.0.is_empty() || self.0.iter().any(takes)
    }
}

fn pattern(matcher: &NodeMatcher) -> Result<Pattern, Status> {
    if !matcher.node_metadatas.is_empty() {
        return Err(refused(
            "metadata is what a client says of itself; match by node_id",
        ));
    }
    let id = matcher.node_id.clone().unwrap_or_default();
    if id.ignore_case {
        return Err(refused(
            "names are compared with case: leave ignore_case out",
        ));
    }
    match id.match_pattern {
        Some(MatchPattern::Exact(text)) => Ok(Pattern::Exact(text)),
        Some(MatchPattern::Prefix(text)) => Ok(Pattern::Prefix(text)),
        Some(MatchPattern::Suffix(text)) => Ok(Pattern::Suffix(text)),
        Some(MatchPattern::SafeRegex(regex)) => {
            RegexBuilder::new(&format!("^(?:{})$", regex.regex))
                .size_limit(PATTERN_BYTES)
                .build()
                .map(Pattern::Regex)
                .map_err(|error| refused(&error.to_string()))
        }
        None => Err(refused("node_id wants exact, prefix, suffix or safe_regex")),
    }
}

fn refused(why: &str) -> Status {
    Status::invalid_argument(format!("node_matchers: {why}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tonic::Code;
    use xds_api::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher, StructMatcher};

    use super::*;

    fn matcher(pattern: Option<MatchPattern>) -> NodeMatcher {
        NodeMatcher {
            node_id: Some(StringMatcher {
                match_pattern: pattern,
                ..StringMatcher::default()
            }),
            node_metadatas: Vec::new(),
        }
    }

    fn regex(text: &str) -> NodeMatcher {
        matcher(Some(MatchPattern::SafeRegex(RegexMatcher {
            regex: text.to_owned(),
        })))
    }

    fn check(matchers: &[NodeMatcher], expected: &[&str]) {
        let choice = NodeChoice::of(matchers).unwrap();
        let mut all = vec!["pay/db-1", "shop/web-1", "shop/web-2"];
        all.retain(|node| choice.takes(node));
        assert_eq!(all, expected, "{matchers:?}");
    }

    #[test]
    fn one_of_the_matchers_is_enough_and_none_means_everybody() {
        let exact = matcher(Some(MatchPattern::Exact("shop/web-1".into())));
        let prefix = matcher(Some(MatchPattern::Prefix("shop/".into())));
        let suffix = matcher(Some(MatchPattern::Suffix("-1".into())));
        check(&[], &["pay/db-1", "shop/web-1", "shop/web-2"]);
        check(std::slice::from_ref(&exact), &["shop/web-1"]);
        check(&[prefix], &["shop/web-1", "shop/web-2"]);
        check(&[suffix], &["pay/db-1", "shop/web-1"]);
        check(&[regex("web-."), exact], &["shop/web-1"]);
        check(&[regex("shop/web-.|a")], &["shop/web-1", "shop/web-2"]);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        let mut metadata = matcher(Some(MatchPattern::Exact("shop/web-1".into())));
        metadata.node_metadatas.push(StructMatcher {});
        let mut caseless = matcher(Some(MatchPattern::Exact("SHOP/web-1".into())));
        caseless.node_id.as_mut().unwrap().ignore_case = true;
        let many = vec![regex("a"); MATCHERS + 1];
        for wrong in [
            vec![matcher(None)],
            vec![NodeMatcher::default()],
            vec![regex("(")],
            vec![regex("(?:a{100}){100}")],
            vec![metadata],
            vec![caseless],
            many,
        ] {
            let status = NodeChoice::of(&wrong).unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{wrong:?}");
        }
    }
}
