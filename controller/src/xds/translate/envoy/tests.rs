//! Versions of everything that an Envoy is served, which pin its bytes, and what a person must be able to rely on in it. That Envoy takes it and does
//! what it says is shown with a real one, in the workspace's tests.
#![allow(clippy::unwrap_used)]

mod callers;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use prost::{Message, Name as MessageName};
use xds_api::envoy::config::cluster::v3::Cluster;
use xds_api::envoy::config::endpoint::v3::ClusterLoadAssignment;
use xds_api::envoy::config::listener::v3::Listener;
use xds_api::envoy::config::rbac::v3::Rbac;
use xds_api::envoy::extensions::filters::http::rbac::v3::Rbac as HttpRbac;
use xds_api::envoy::extensions::filters::network::rbac::v3::Rbac as NetworkRbac;
use xds_api::envoy::extensions::transport_sockets::tls::v3::{Secret, secret};

use super::*;
use crate::model::tests::{Log, instance, puts};
use crate::model::{Command, EnvoyListeners};
use crate::xds::translate::native::tests::sample;

/// The native dialect's sample with roots, and an Envoy `web-4` beside a workload.
fn mesh() -> Log {
    let mut log = sample();
    let trust = crate::model::command::SetTrust {
        roots: vec![crate::model::Root {
            certificate: vec![7; 100].into(),
            phase: 0,
        }],
        ..Default::default()
    };
    log.run(Command::SetTrust(trust)).accepted().unwrap();
    log.run(Command::Register(envoy("web-4")))
        .accepted()
        .unwrap();
    log
}

fn envoy(name: &str) -> Instance {
    let mut one = instance(name, 1);
    one.name = Name::new("shop", name);
    one.addresses = vec!["10.0.0.4".to_owned()];
    one.identity = "spiffe://test.mesh/ns/shop/sa/envoy".to_owned();
    one.mesh = 2;
    one.envoy = Some(EnvoyListeners {
        mesh: vec!["0.0.0.0:4743".to_owned(), "[::]:4743".to_owned()],
        outbound: vec!["127.0.0.1:4740".to_owned()],
    });
    one
}

fn read<M: Message + Default>(log: &Log, kind: TypeUrl, name: &str) -> M {
    let found = translate(log.state.mesh(), kind, &name.into()).unwrap();
    M::decode(found.resource.body().clone()).unwrap()
}

/// Everything that is reached from what one workload's Envoy begins with.
fn reached(log: &Log, own: &str) -> BTreeMap<(TypeUrl, Arc<str>), Option<Translated>> {
    let mesh = log.state.mesh();
    let mut open = roots(mesh, &Name::new("shop", own));
    let mut found = BTreeMap::new();
    while let Some((kind, name)) = open.pop() {
        if !found.contains_key(&(kind, name.clone())) {
            let made = translate(mesh, kind, &name);
            open.extend(made.iter().flat_map(|made| made.links.iter().cloned()));
            found.insert((kind, name), made);
        }
    }
    found
}

/// Level 1's bytes: a change of any of them re-sends that resource to every Envoy in the middle of an upgrade.
#[test]
fn the_bytes_of_level_1_do_not_change() {
    let mut text = String::new();
    for ((kind, name), made) in reached(&mesh(), "web-4") {
        let version = made.map_or("(missing)".to_owned(), |made| {
            made.resource.version().to_string()
        });
        writeln!(text, "{} {name} {version}", kind.short()).unwrap();
    }
    insta::assert_snapshot!("level_1", text);
}

#[test]
fn everything_that_is_referred_to_is_there() {
    let missing: Vec<_> = reached(&mesh(), "web-4")
        .into_iter()
        .filter(|(_, made)| made.is_none())
        .map(|(link, _)| link)
        .collect();
    assert_eq!(missing, []);
}

#[test]
fn a_workload_without_an_envoy_has_no_listeners_of_its_own() {
    let own: Vec<_> = reached(&mesh(), "web-1")
        .into_iter()
        .filter(|((kind, name), made)| {
            made.is_some() && crate::xds::names::owner(*kind, name).is_some()
        })
        .map(|(link, _)| link)
        .collect();
    assert_eq!(own, []);
}

#[test]
fn chains_of_the_mesh_port_are_told_apart_by_sni_and_alpn_and_clear_ones_are_for_permissive_ports()
{
    let mut log = mesh();
    let chains = |log: &Log| {
        let listener: Listener = read(log, TypeUrl::Listener, "in/shop/web-4");
        let names = listener
            .filter_chains
            .iter()
            .map(|chain| chain.name.clone());
        names.collect::<Vec<_>>()
    };
    assert_eq!(chains(&log), ["mesh http 8080"]);
    let permissive = "apiVersion: maille.dev/v1alpha1\nkind: MeshSettings\nmetadata: {name: default, namespace: maille-system}\nspec: {}\n";
    log.run(puts(permissive)).accepted().unwrap();
    assert_eq!(chains(&log), ["mesh http 8080", "clear http 8080"]);
    let mut detected = envoy("web-4");
    detected.generation = 2;
    detected.ports[0].protocol = 0;
    log.run(Command::Register(detected)).accepted().unwrap();
    let expected = [
        "mesh http 8080",
        "mesh tcp 8080",
        "clear http 8080",
        "clear tcp 8080",
    ];
    assert_eq!(chains(&log), expected);
}

#[test]
fn an_endpoint_is_called_at_its_mesh_port_and_named_after_its_target_port() {
    let log = mesh();
    let assignment: ClusterLoadAssignment = read(&log, TypeUrl::Endpoints, "shop/web:80");
    let text = format!("{assignment:?}");
    assert!(
        text.contains("8080.maille") && text.contains("4743"),
        "{text}"
    );
    let unmeshed: ClusterLoadAssignment = read(&log, TypeUrl::Endpoints, "shop/db:5432");
    let text = format!("{unmeshed:?}");
    assert!(!text.contains("maille") && text.contains("5432"), "{text}");
}

#[test]
fn a_service_is_taken_only_from_the_identities_behind_it() {
    let mut log = mesh();
    let names = |log: &Log, service: &str| {
        let secret: Secret = read(log, TypeUrl::Secret, &format!("peers/shop/{service}"));
        let Some(secret::Type::ValidationContext(context)) = secret.r#type else {
            panic!("{secret:?}")
        };
        let names = context.match_typed_subject_alt_names.into_iter();
        names
            .map(|one| format!("{:?}", one.matcher.unwrap().match_pattern.unwrap()))
            .collect::<BTreeSet<_>>()
    };
    let both = ["envoy", "web"]
        .map(|account| format!("Exact(\"spiffe://test.mesh/ns/shop/sa/{account}\")"));
    assert_eq!(names(&log, "web"), both.into());
    // Never an empty list: that would be anybody.
    assert_eq!(
        names(&log, "db"),
        ["Exact(\"spiffe://test.mesh/nobody\")".to_owned()].into()
    );
    let end = crate::model::command::EndInstances {
        ends: vec![crate::model::command::InstanceEnd {
            name: Name::new("shop", "web-4"),
            generation: 1,
        }],
    };
    log.run(Command::EndInstances(end)).accepted().unwrap();
    assert_eq!(names(&log, "web").len(), 1);
}

#[test]
fn opaque_connections_have_a_cluster_of_their_own_with_the_same_endpoints() {
    let log = mesh();
    let http: Cluster = read(&log, TypeUrl::Cluster, "shop/web:81");
    let opaque: Cluster = read(&log, TypeUrl::Cluster, "shop/web:81/tcp");
    let endpoints = |cluster: &Cluster| cluster.eds_cluster_config.clone().unwrap().service_name;
    assert_eq!(endpoints(&http), endpoints(&opaque));
    assert!(
        translate(
            log.state.mesh(),
            TypeUrl::Cluster,
            &"shop/web:80/tcp".into()
        )
        .is_none()
    );
}

/// What a policy becomes at `shop/web-4:8080`; `None`: anybody may.
fn rules(policy: &str, form: &str) -> Option<Rbac> {
    let mut log = mesh();
    log.run(puts(policy)).accepted().unwrap();
    let name: Arc<str> = format!("authz/shop/web-4:8080/{form}").into();
    let found = translate(log.state.mesh(), TypeUrl::Extension, &name).unwrap();
    let extension = TypedExtensionConfig::decode(found.resource.body().clone()).unwrap();
    let any = extension.typed_config.unwrap();
    if any.type_url == HttpRbac::type_url() {
        return HttpRbac::decode(any.value).unwrap().rules;
    }
    assert_eq!(any.type_url, NetworkRbac::type_url());
    NetworkRbac::decode(any.value).unwrap().rules
}

#[test]
fn rules_become_filters() {
    let policy = |spec: &str| {
        format!(
            "apiVersion: maille.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: zz, namespace: shop}}\nspec: {spec}\n"
        )
    };
    let mut text = String::new();
    let mut check = |spec: &str| {
        for form in ["http/deny", "http/allow", "tcp/deny", "tcp/allow"] {
            let rules = rules(&policy(spec), form);
            let ours = rules.map(|mut rules| {
                rules.policies.retain(|name, _| name.starts_with("shop/zz"));
                rules
            });
            writeln!(text, "{spec}\n  {form}: {ours:?}").unwrap();
        }
    };
    check(
        "{action: Deny, rules: [{from: [{identities: ['spiffe://test.mesh/ns/shop/sa/guest']}], to: [{paths: ['/private*']}]}]}",
    );
    check("{action: Allow, rules: [{from: [{namespaces: [shop]}]}]}");
    check("{action: Allow, rules: [{to: [{methods: [GET, HEAD], paths: [/ok]}]}]}");
    check("{action: Allow}");
    insta::assert_snapshot!("rules", text);
}
