//! The authorization policies of one workload as the dialect's rules, port by port.

use std::collections::{BTreeMap, BTreeSet};

use xds_api::maille::v1;
use xds_api::maille::v1::authorization_rule::Action as RuleAction;

use crate::model::kinds::authorization_policy::{
    Action, AuthorizationPolicySpec, AuthorizationRule, Operation, Source, TargetRef,
};
use crate::model::kinds::metadata::selects;
use crate::model::kinds::{PortRef, ServicePort};
use crate::model::{Mesh, Name};

/// The ports that a policy is about.
#[derive(Debug)]
enum Scope {
    All,
    Ports(BTreeSet<u16>),
}

/// A policy that selects the workload.
#[derive(Debug)]
struct Applied<'a> {
    name: String,
    spec: &'a AuthorizationPolicySpec,
    scope: Scope,
}

/// What a workload's policies say.
#[derive(Debug)]
pub(in crate::xds) struct Rules<'a> {
    /// The denials first, then by name.
    policies: Vec<Applied<'a>>,
}

impl<'a> Rules<'a> {
    /// Collects the policies that select a workload.
    pub(in crate::xds) fn of(
        mesh: &'a Mesh,
        workload: &Name,
        labels: &BTreeMap<String, String>,
    ) -> Self {
        let namespace = workload.namespace.as_str();
        let all = mesh
            .authorization_policies()
            .range(Name::new(namespace, "")..);
        let here = all.take_while(|(name, _)| name.namespace == namespace);
        let applied = here.filter_map(|(name, entry)| {
            let spec = &entry.object.spec;
            let scope = scope(mesh, workload, labels, spec)?;
            Some(Applied {
                name: name.to_string(),
                spec,
                scope,
            })
        });
        let mut policies: Vec<Applied<'a>> = applied.collect();
        policies.sort_by_key(|policy| policy.spec.action != Action::Deny);
        Self { policies }
    }

    /// Every port that a policy names.
    pub(in crate::xds) fn named_ports(&self) -> impl Iterator<Item = u16> + '_ {
        self.policies.iter().flat_map(|policy| {
            let targeted = match &policy.scope {
                Scope::All => BTreeSet::new(),
                Scope::Ports(ports) => ports.clone(),
            };
            let operations = policy.spec.rules.iter().flat_map(|rule| &rule.to);
            let named = operations.flat_map(|operation| operation.ports.iter().copied());
            targeted.into_iter().chain(named)
        })
    }

    /// The rules of a named port.
    pub(in crate::xds) fn for_port(&self, port: u16) -> Vec<v1::AuthorizationRule> {
        let about = |policy: &&Applied| match &policy.scope {
            Scope::All => true,
            Scope::Ports(ports) => ports.contains(&port),
        };
        let fits =
            |operation: &Operation| operation.ports.is_empty() || operation.ports.contains(&port);
        self.policies
            .iter()
            .filter(about)
            .flat_map(|policy| policy.rules(&fits))
            .collect()
    }

    /// The rules of all ports that are not named.
    pub(in crate::xds) fn elsewhere(&self) -> Vec<v1::AuthorizationRule> {
        let about = |policy: &&Applied| matches!(policy.scope, Scope::All);
        let fits = |operation: &Operation| operation.ports.is_empty();
        self.policies
            .iter()
            .filter(about)
            .flat_map(|policy| policy.rules(&fits))
            .collect()
    }

    /// Whether a named port needs a match.
    pub(in crate::xds) fn denies_by_default(&self, port: u16) -> bool {
        self.policies.iter().any(|policy| {
            policy.spec.action == Action::Allow
                && match &policy.scope {
                    Scope::All => true,
                    Scope::Ports(ports) => ports.contains(&port),
                }
        })
    }

    /// Whether a port that is not named needs a match.
    pub(in crate::xds) fn denies_elsewhere(&self) -> bool {
        self.policies
            .iter()
            .any(|policy| policy.spec.action == Action::Allow && matches!(policy.scope, Scope::All))
    }
}

impl Applied<'_> {
    /// Every source with every operation that fits.
    fn rules(&self, fits: &impl Fn(&Operation) -> bool) -> Vec<v1::AuthorizationRule> {
        self.spec
            .rules
            .iter()
            .flat_map(|rule| self.expand(rule, fits))
            .collect()
    }

    fn expand(
        &self,
        rule: &AuthorizationRule,
        fits: &impl Fn(&Operation) -> bool,
    ) -> Vec<v1::AuthorizationRule> {
        let anybody = [Source::default()];
        let anything = [Operation::default()];
        let from = if rule.from.is_empty() {
            &anybody[..]
        } else {
            &rule.from
        };
        let to = if rule.to.is_empty() {
            &anything[..]
        } else {
            &rule.to
        };
        let pairs = to
            .iter()
            .filter(|operation| fits(operation))
            .flat_map(|operation| from.iter().map(move |source| (source, operation)));
        pairs
            .map(|(source, operation)| v1::AuthorizationRule {
                action: match self.spec.action {
                    Action::Allow => RuleAction::Allow,
                    Action::Deny => RuleAction::Deny,
                } as i32,
                policy: self.name.clone(),
                identities: source.identities.clone(),
                namespaces: source.namespaces.clone(),
                methods: operation.methods.clone(),
                paths: operation.paths.clone(),
            })
            .collect()
    }
}

/// The ports of the workload that a policy is about; `None` where it does not select the workload.
fn scope(
    mesh: &Mesh,
    workload: &Name,
    labels: &BTreeMap<String, String>,
    spec: &AuthorizationPolicySpec,
) -> Option<Scope> {
    if let Some(selector) = &spec.selector
        && !selects(&selector.match_labels, labels)
    {
        return None;
    }
    match &spec.target_ref {
        None => Some(Scope::All),
        Some(target) => targeted(mesh, workload, labels, target).map(Scope::Ports),
    }
}

/// The workload's ports behind a service; `None` where the service does not select it.
fn targeted(
    mesh: &Mesh,
    workload: &Name,
    labels: &BTreeMap<String, String>,
    target: &TargetRef,
) -> Option<BTreeSet<u16>> {
    let service = Name::new(workload.namespace.as_str(), target.name.as_str());
    let spec = &mesh.services().get(&service)?.object.spec;
    if !selects(&spec.selector, labels) {
        return None;
    }
    let meant = |port: &&ServicePort| target.port.is_none_or(|number| number == port.port);
    let ports = spec
        .ports
        .iter()
        .filter(meant)
        .filter_map(|port| match port.target() {
            PortRef::Number(number) => Some(number),
            PortRef::Name(name) => named_port(mesh, workload, &name),
        });
    Some(ports.collect())
}

fn named_port(mesh: &Mesh, workload: &Name, name: &str) -> Option<u16> {
    let instance = mesh.instances().get(workload).and_then(|entry| {
        let port = entry.instance.ports.iter().find(|port| port.name == name)?;
        u16::try_from(port.port).ok()
    });
    instance.or_else(|| {
        let workload = mesh.workloads().get(workload)?;
        let port = workload
            .object
            .spec
            .ports
            .iter()
            .find(|port| port.name == name)?;
        Some(port.port)
    })
}
