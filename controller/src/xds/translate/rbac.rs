//! The rules of one port of a workload in the words that Envoy and gRPC have for them. Denials and allowances are two sets, for a set has one action.

use std::collections::BTreeMap;

use xds_api::envoy::config::rbac::v3::rbac::Action as RbacAction;
use xds_api::envoy::config::rbac::v3::{
    Permission, Policy, Principal, Rbac, permission, principal,
};
use xds_api::envoy::config::route::v3::HeaderMatcher;
use xds_api::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use xds_api::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use xds_api::envoy::r#type::matcher::v3::{PathMatcher, StringMatcher, path_matcher};
use xds_api::maille::v1::AuthorizationRule;
use xds_api::maille::v1::authorization_rule::Action;

use super::rules::Rules;
use crate::model::Mesh;
use crate::xds::names::Authorization;

/// Half of the rules of a port; `None`: this half lets everybody through.
pub(in crate::xds) fn half(mesh: &Mesh, half: &Authorization) -> Option<Rbac> {
    let workload = &half.workload;
    let rules = Rules::of(mesh, workload, &mesh.merged_labels(workload));
    let mut applied = rules.for_port(half.port);
    let (wanted, action) = match half.denies {
        true => (Action::Deny, RbacAction::Deny),
        false => (Action::Allow, RbacAction::Allow),
    };
    applied.retain(|rule| rule.action() == wanted);
    let must_match = !half.denies && (rules.denies_by_default(half.port) || !applied.is_empty());
    let policies = applied.iter().enumerate().filter_map(|(number, rule)| {
        let policy = policy(mesh.trust_domain(), rule, half)?;
        Some((format!("{}#{number:04}", rule.policy), policy))
    });
    let policies: BTreeMap<String, Policy> = policies.collect();
    let in_force = must_match || !policies.is_empty();
    in_force.then_some(Rbac {
        action: action as i32,
        policies,
    })
}

/// Lets nobody through.
pub(in crate::xds) fn nobody() -> Rbac {
    Rbac {
        action: RbacAction::Allow as i32,
        policies: BTreeMap::new(),
    }
}

/// On an opaque connection nobody can tell the method or the path: a denial of some denies all, and an allowance of some allows none (`None`).
fn policy(trust_domain: &str, rule: &AuthorizationRule, half: &Authorization) -> Option<Policy> {
    let permission = match half.is_http {
        true => requests(rule),
        false if about_requests(rule) && !half.denies => return None,
        false => any_permission(),
    };
    Some(Policy {
        permissions: vec![permission],
        principals: vec![peers(trust_domain, rule)],
    })
}

/// Whether a rule is about some requests and not about others.
pub(in crate::xds) fn about_requests(rule: &AuthorizationRule) -> bool {
    !rule.methods.is_empty() || !rule.paths.is_empty()
}

fn requests(rule: &AuthorizationRule) -> Permission {
    let method = |method: &String| {
        permission::Rule::Header(HeaderMatcher {
            name: ":method".to_owned(),
            header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(text(
                MatchPattern::Exact(method.clone()),
            ))),
        })
    };
    let path = |path: &String| {
        permission::Rule::UrlPath(PathMatcher {
            rule: Some(path_matcher::Rule::Path(text(pattern(path, "/")))),
        })
    };
    let all: Vec<Permission> = [
        rule.methods.iter().map(method).collect::<Vec<_>>(),
        rule.paths.iter().map(path).collect(),
    ]
    .into_iter()
    .filter(|one_of| !one_of.is_empty())
    .map(|one_of| Permission {
        rule: Some(permission::Rule::OrRules(permission::Set {
            rules: one_of
                .into_iter()
                .map(|rule| Permission { rule: Some(rule) })
                .collect(),
        })),
    })
    .collect();
    if all.is_empty() {
        return any_permission();
    }
    Permission {
        rule: Some(permission::Rule::AndRules(permission::Set { rules: all })),
    }
}

fn any_permission() -> Permission {
    Permission {
        rule: Some(permission::Rule::Any(true)),
    }
}

/// A peer without a verified certificate has no name, and so matches no rule that names anybody.
fn peers(trust_domain: &str, rule: &AuthorizationRule) -> Principal {
    let named = |pattern| Principal {
        identifier: Some(principal::Identifier::Authenticated(
            principal::Authenticated {
                principal_name: Some(text(pattern)),
            },
        )),
    };
    let all: Vec<Principal> = sources(trust_domain, rule)
        .into_iter()
        .map(|one_of| Principal {
            identifier: Some(principal::Identifier::OrIds(principal::Set {
                ids: one_of.into_iter().map(named).collect(),
            })),
        })
        .collect();
    let identifier = match all.is_empty() {
        true => principal::Identifier::Any(true),
        false => principal::Identifier::AndIds(principal::Set { ids: all }),
    };
    Principal {
        identifier: Some(identifier),
    }
}

/// Whom a rule is about: a peer whose name matches something in each of these lists. Without a list it is about anybody, with a name or without.
pub(in crate::xds) fn sources(
    trust_domain: &str,
    rule: &AuthorizationRule,
) -> Vec<Vec<MatchPattern>> {
    let identity = |one: &String| pattern(one, "spiffe://");
    let namespace =
        |name: &String| MatchPattern::Prefix(format!("spiffe://{trust_domain}/ns/{name}/"));
    let lists = [
        rule.identities.iter().map(identity).collect::<Vec<_>>(),
        rule.namespaces.iter().map(namespace).collect(),
    ];
    lists.into_iter().filter(|list| !list.is_empty()).collect()
}

/// Exact, or what stands before a `*` at the end; `least` is what every text of the kind begins with, since Envoy knows no empty prefix.
fn pattern(written: &str, least: &str) -> MatchPattern {
    match written.strip_suffix('*') {
        Some("") => MatchPattern::Prefix(least.to_owned()),
        Some(prefix) => MatchPattern::Prefix(prefix.to_owned()),
        None => MatchPattern::Exact(written.to_owned()),
    }
}

fn text(pattern: MatchPattern) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(pattern),
        ..StringMatcher::default()
    }
}
