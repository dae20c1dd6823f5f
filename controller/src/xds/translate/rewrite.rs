//! Changes of a request's path by prefix, with Gateway API's care for slashes.
//!
//! Envoy replaces prefixes by bytes. Where bytes alone would double or lose a slash, the condition or the change is put
//! in other words.

use xds_api::envoy::config::route::v3::redirect_action::PathRewriteSpecifier;
use xds_api::envoy::config::route::v3::route_match::PathSpecifier;
use xds_api::envoy::r#type::matcher::v3::{RegexMatchAndSubstitute, RegexMatcher};

use super::matching::prefix;
use crate::model::kinds::http_route::{Match, PathMatchType, PathModifier};

/// What becomes of the path of a request that is sent on.
#[derive(Debug, PartialEq)]
pub(in crate::xds) enum Rewrite {
    Prefix(String),
    Regex(RegexMatchAndSubstitute),
}

/// The change in Envoy's terms, for requests that fit `one`.
pub(in crate::xds) fn rewrite(one: &Match, modifier: &PathModifier) -> Rewrite {
    match modifier {
        PathModifier::ReplaceFullPath { replace_full_path } => {
            whole("^.*$".to_owned(), escape_substitution(replace_full_path))
        }
        PathModifier::ReplacePrefixMatch {
            replace_prefix_match,
        } => {
            let replacement = replace_prefix_match.trim_end_matches('/');
            match (matched(one), replacement) {
                ("", replacement) => Rewrite::Prefix(format!("{replacement}/")),
                (matched, "") => {
                    let matched = regex::escape(matched);
                    whole(format!("^{matched}/*(.*)$"), r"/\1".to_owned())
                }
                (_, replacement) => Rewrite::Prefix(replacement.to_owned()),
            }
        }
    }
}

/// The conditions and paths of a redirect: one, or two where the matched prefix goes and a slash must stay.
pub(in crate::xds) fn redirects(
    one: &Match,
    modifier: &PathModifier,
) -> Vec<(Option<PathSpecifier>, PathRewriteSpecifier)> {
    match modifier {
        PathModifier::ReplaceFullPath { replace_full_path } => {
            vec![(
                None,
                PathRewriteSpecifier::PathRedirect(replace_full_path.clone()),
            )]
        }
        PathModifier::ReplacePrefixMatch {
            replace_prefix_match,
        } => {
            let to = |text: &str| PathRewriteSpecifier::PrefixRewrite(text.to_owned());
            match (matched(one), replace_prefix_match.trim_end_matches('/')) {
                ("", replacement) => vec![(None, to(&format!("{replacement}/")))],
                (matched, "") => vec![
                    (
                        Some(PathSpecifier::Path(matched.to_owned())),
                        PathRewriteSpecifier::PathRedirect("/".to_owned()),
                    ),
                    (Some(PathSpecifier::Prefix(format!("{matched}/"))), to("/")),
                ],
                (_, replacement) => vec![(None, to(replacement))],
            }
        }
    }
}

fn whole(regex: String, substitution: String) -> Rewrite {
    let pattern = Some(RegexMatcher { regex });
    Rewrite::Regex(RegexMatchAndSubstitute {
        pattern,
        substitution,
    })
}

/// The prefix that the condition matches, without the slash at its end. Other conditions have no prefix to replace;
/// `apply` refuses such a change.
fn matched(one: &Match) -> &str {
    match &one.path {
        Some(path) if path.match_type == PathMatchType::PathPrefix => prefix(path),
        _ => "",
    }
}

fn escape_substitution(text: &str) -> String {
    text.replace('\\', r"\\")
}
