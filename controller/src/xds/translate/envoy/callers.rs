//! SDS: who may open an opaque connection to a port, `callers/<namespace>/<workload>:<port>`: the roots and the identities that its rules let in,
//! together. Envoy asks its filters about an opaque connection only when the client has said something, and by then the application has been connected
//! to and may have greeted. So these rules are kept in the handshake, by the names that a certificate may have; a set of names has no denials, so what
//! is denied is cut out of what is allowed (`names`).

mod names;

use std::sync::Arc;

use xds_api::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use xds_api::maille::v1::AuthorizationRule;
use xds_api::maille::v1::authorization_rule::Action;

use self::names::Names;
use super::super::dial::nobody;
use super::super::rules::Rules;
use super::super::{Translated, rbac};
use super::tls::uri;
use super::{registered, secret};
use crate::model::{Mesh, Name};
use crate::xds::names::Callers;

pub(super) fn translate(mesh: &Mesh, name: Arc<str>, callers: &Callers) -> Option<Translated> {
    registered(mesh, &callers.workload)?.port(callers.port)?;
    let rules = Opaque::of(mesh, &callers.workload, callers.port);
    let mut patterns = names::patterns(&rules.allowed(), &rules.denied());
    if patterns.is_empty() {
        // No pattern would mean anybody.
        patterns.push(MatchPattern::Exact(nobody(mesh)));
    }
    secret::context(mesh, name, patterns.into_iter().map(uri).collect())
}

/// Whether a port's rules let in opaque connections in clear: who comes so has no name.
pub(super) fn nameless_may(mesh: &Mesh, workload: &Name, port: u16) -> bool {
    Opaque::of(mesh, workload, port).lets_in_nameless()
}

/// A port's rules as they hold for opaque connections.
struct Opaque<'a> {
    domain: &'a str,
    /// Nobody can tell what a connection is about: a denial of some requests denies all of it,
    denials: Vec<AuthorizationRule>,
    /// and an allowance of some allows none; `None`: nobody must be allowed.
    allowances: Option<Vec<AuthorizationRule>>,
}

impl<'a> Opaque<'a> {
    fn of(mesh: &'a Mesh, workload: &Name, port: u16) -> Self {
        let labels = mesh.merged_labels(workload);
        let rules = Rules::of(mesh, workload, &labels);
        let by_action = |rule: &AuthorizationRule| rule.action() == Action::Deny;
        let (denials, mut allowances): (Vec<_>, Vec<_>) =
            rules.for_port(port).into_iter().partition(by_action);
        allowances.retain(|rule| !rbac::about_requests(rule));
        Self {
            domain: mesh.trust_domain(),
            denials,
            allowances: rules.denies_by_default(port).then_some(allowances),
        }
    }

    fn allowed(&self) -> Vec<Names> {
        match &self.allowances {
            Some(rules) => rules.iter().flat_map(|rule| self.named(rule)).collect(),
            None => vec![self.ours()],
        }
    }

    fn denied(&self) -> Vec<Names> {
        let denials = self.denials.iter();
        denials.flat_map(|rule| self.named(rule)).collect()
    }

    fn lets_in_nameless(&self) -> bool {
        let is_about = |rule: &AuthorizationRule| rbac::sources(self.domain, rule).is_empty();
        let is_allowed = |rules: &Vec<AuthorizationRule>| rules.iter().any(is_about);
        !self.denials.iter().any(is_about) && self.allowances.as_ref().is_none_or(is_allowed)
    }

    fn ours(&self) -> Names {
        Names::Beginning(format!("spiffe://{}/", self.domain))
    }

    /// Those of ours whom a rule is about: who is in each of its lists.
    fn named(&self, rule: &AuthorizationRule) -> Vec<Names> {
        let lists = rbac::sources(self.domain, rule).into_iter();
        lists.fold(vec![self.ours()], |found, list| {
            let list: Vec<Names> = list.into_iter().filter_map(Names::of).collect();
            let both = |one: &Names| list.iter().filter_map(|other| one.and(other)).collect();
            found
                .iter()
                .flat_map(|one| -> Vec<Names> { both(one) })
                .collect()
        })
    }
}
