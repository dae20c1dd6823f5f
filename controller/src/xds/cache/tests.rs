//! What is kept must be what would be made anew.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::model::command::{
    DeleteObject, EndInstances, HealthChange, InstanceEnd, MoveRollout, PutObject, ReportHealth,
    SetTrust, StageObjects,
};
use crate::model::tests::{Log, instance, puts};
use crate::model::{Command, EnvoyListeners, Kind, Name, Root};
use crate::xds::hashes::{all_names, grpc_names};
use crate::xds::scope::{Client, Dialect, Scope};
use crate::xds::translate::native::tests::{sample, sample_text};

/// Every resource that is or could be, through the cache.
fn all(cache: &Cache, published: &Published) -> Vec<(TypeUrl, Arc<str>, Option<String>)> {
    let mut found = Vec::new();
    let mesh = &published.mesh;
    for kind in TypeUrl::ALL {
        let native = all_names(mesh, kind).into_iter();
        let native = native.map(|name| (Dialect::Native, name));
        let grpc = grpc_names(mesh, kind).into_iter();
        let grpc = grpc.map(|name| (Dialect::Grpc, name));
        let envoy = envoy_names(mesh, kind).into_iter();
        let envoy = envoy.map(|name| (Dialect::Envoy, name));
        for (dialect, name) in native.chain(grpc).chain(envoy) {
            for ahead in [false, true] {
                let scope = Scope { dialect, ahead };
                let resource = cache.get(scope, published, kind, &name);
                let version = resource.map(|one| one.resource.version().to_string());
                found.push((kind, name.clone(), version));
                let client = Client {
                    namespace: "desk",
                    locality: "eu/a",
                };
                let own = cache.get_for(client, scope, published, kind, &name);
                let version = own.map(|one| one.resource.version().to_string());
                found.push((kind, format!("{name} for desk in eu/a").into(), version));
            }
        }
    }
    found
}

/// What is an Envoy's own, and what depends on where it is.
fn envoy_names(mesh: &Mesh, kind: TypeUrl) -> Vec<Arc<str>> {
    match kind {
        TypeUrl::Endpoints => all_names(mesh, kind).into_iter().collect(),
        TypeUrl::Secret => vec!["callers/shop/web-2:8080".into()],
        _ => Vec::new(),
    }
}

#[derive(Debug, Clone)]
enum Step {
    Register {
        workload: u8,
        app: u8,
        generation: u64,
    },
    Health {
        workload: u8,
        generation: u64,
        health: i32,
    },
    End {
        workload: u8,
        generation: u64,
    },
    Put(usize),
    Delete(usize),
    Relabel {
        workload: u8,
        app: u8,
    },
    Trust(u8),
    Stage(usize),
    Roll(i32),
}

fn step() -> impl Strategy<Value = Step> {
    let workload = || 0..4u8;
    prop_oneof![
        3 => (workload(), 0..3u8, 1..3u64)
            .prop_map(|(workload, app, generation)| Step::Register { workload, app, generation }),
        2 => (workload(), 1..3u64, 0..3i32)
            .prop_map(|(workload, generation, health)| Step::Health { workload, generation, health }),
        1 => (workload(), 1..3u64).prop_map(|(workload, generation)| Step::End { workload, generation }),
        3 => (0..14usize).prop_map(Step::Put),
        2 => (0..14usize).prop_map(Step::Delete),
        2 => (workload(), 0..3u8).prop_map(|(workload, app)| Step::Relabel { workload, app }),
        1 => (0..3u8).prop_map(Step::Trust),
        2 => (0..14usize).prop_map(Step::Stage),
        1 => (0..3i32).prop_map(Step::Roll),
    ]
}

const APPS: [&str; 3] = ["web", "api", "db"];

/// Routes of another namespace: for its own clients.
const CONSUMED: [&str; 2] = [
    "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: web, namespace: desk}\nspec: {parentRefs: [{kind: Service, name: web, namespace: shop}, {kind: Service, name: api, namespace: shop, port: 80}], rules: [{backendRefs: [{name: web-v2, namespace: shop, port: 80}]}]}\n",
    "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: web, namespace: desk}\nspec: {parentRefs: [{kind: Service, name: web, namespace: shop, port: 81}], rules: [{backendRefs: [{name: web, namespace: shop, port: 80}]}]}\n",
];

fn documents() -> Vec<String> {
    let sample = sample_text();
    let all = sample.split("---\n").chain(CONSUMED);
    all.map(str::to_owned).collect()
}

fn key(document: &str) -> Option<(Kind, Name)> {
    let Command::WriteObjects(write) = puts(document) else {
        return None;
    };
    let key = &write.puts.first()?.key;
    Some((key.kind(), key.name.clone()))
}

/// Refusals are part of the game: a route whose service is gone is not written.
fn play(log: &mut Log, step: &Step) {
    let name = |workload: &u8| Name::new("shop", format!("web-{workload}"));
    match step {
        Step::Register {
            workload,
            app,
            generation,
        } => {
            let mut one = instance("x", *generation);
            one.name = name(workload);
            one.labels
                .insert("app".into(), APPS[usize::from(*app)].into());
            one.identity = format!("spiffe://test.mesh/ns/shop/sa/{}", APPS[usize::from(*app)]);
            // One is a gRPC program, one an Envoy; and they are not all in one place.
            one.mesh = [1, 1, 2, 3][usize::from(*workload)];
            one.envoy = (*workload == 2).then(EnvoyListeners::default);
            one.locality = ["eu/a", "eu/b", ""][usize::from(*app)].into();
            log.run(Command::Register(one));
        }
        Step::Health {
            workload,
            generation,
            health,
        } => {
            let change = HealthChange {
                name: name(workload),
                generation: *generation,
                port: 8080,
                health: *health,
            };
            log.run(Command::ReportHealth(ReportHealth {
                changes: vec![change],
            }));
        }
        Step::End {
            workload,
            generation,
        } => {
            let end = InstanceEnd {
                name: name(workload),
                generation: *generation,
            };
            log.run(Command::EndInstances(EndInstances { ends: vec![end] }));
        }
        Step::Put(number) => {
            let documents = documents();
            log.put(&documents[number % documents.len()]);
        }
        Step::Delete(number) => {
            let documents = documents();
            if let Some((kind, name)) = key(&documents[number % documents.len()]) {
                log.delete(kind, &name.namespace, &name.name);
            }
        }
        Step::Relabel { workload, app } => {
            let app = APPS[usize::from(*app)];
            log.put(&format!(
                "apiVersion: maille.dev/v1alpha1\nkind: Workload\nmetadata: {{name: web-{workload}, namespace: shop, labels: {{app: {app}}}}}\nspec: {{addresses: [192.0.2.{workload}]}}\n"
            ));
        }
        Step::Stage(number) => {
            let documents = documents();
            let Command::WriteObjects(mut write) = puts(&documents[number % documents.len()])
            else {
                return;
            };
            if number % 2 == 1 {
                let delete = |put: PutObject| DeleteObject {
                    key: put.key,
                    expected: None,
                };
                write.deletes = write.puts.drain(..).map(delete).collect();
            }
            log.run(Command::StageObjects(StageObjects {
                write,
                salt: 1,
                through: 1 << 31,
                share: 50,
            }));
        }
        Step::Roll(step) => {
            let id = log.state.mesh().rollout().map_or(0, |one| one.id());
            log.run(Command::MoveRollout(MoveRollout {
                id,
                step: *step,
                through: u32::MAX,
                share: 90,
            }));
        }
        Step::Trust(byte) => {
            let root = Root {
                certificate: vec![*byte; 40].into(),
                phase: 0,
            };
            let expected_revision = log.state.trust_revision();
            log.run(Command::SetTrust(SetTrust {
                roots: vec![root],
                expected_revision,
                ..Default::default()
            }));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn what_is_kept_is_what_would_be_made_anew(steps in prop::collection::vec(step(), 1..40)) {
        let mut log = sample();
        let cache = Cache::new(&log.state);
        for step in &steps {
            // Fill it first, so that everything stale would be seen.
            all(&cache, &cache.published());
            play(&mut log, step);
            cache.publish(&log.state);
            let published = cache.published();
            let fresh = Cache::new(&log.state);
            prop_assert_eq!(all(&cache, &published), all(&fresh, &fresh.published()), "after {:?}", step);
        }
    }
}

#[test]
fn a_health_change_touches_endpoints_only() {
    let mut log = sample();
    let before = log.state.mesh().clone();
    play(
        &mut log,
        &Step::Health {
            workload: 1,
            generation: 1,
            health: 2,
        },
    );
    let web = Name::new("shop", "web");
    let expected = [
        Unit::Endpoints(web),
        Unit::Workload(Name::new("shop", "web-1")),
    ];
    assert_eq!(
        touched(&before, log.state.mesh()),
        Touched::Units(expected.into())
    );
}

#[test]
fn a_reader_of_an_old_state_does_not_spoil_the_cache() {
    let mut log = sample();
    let cache = Cache::new(&log.state);
    let old = cache.published();
    play(
        &mut log,
        &Step::Health {
            workload: 1,
            generation: 1,
            health: 2,
        },
    );
    cache.publish(&log.state);
    let name: Arc<str> = "shop/web:80".into();
    let before = cache
        .get(
            Scope::settled(Dialect::Native),
            &old,
            TypeUrl::Endpoints,
            &name,
        )
        .unwrap()
        .resource
        .version();
    let after = cache
        .get(
            Scope::settled(Dialect::Native),
            &cache.published(),
            TypeUrl::Endpoints,
            &name,
        )
        .unwrap()
        .resource
        .version();
    assert_ne!(before, after);
}

#[test]
fn names_that_do_not_exist_are_not_kept() {
    let log = sample();
    let cache = Cache::new(&log.state);
    for number in 0..100 {
        assert!(
            cache
                .get(
                    Scope::settled(Dialect::Native),
                    &cache.published(),
                    TypeUrl::Cluster,
                    &format!("a/b:{number}").into()
                )
                .is_none()
        );
    }
    let inner = cache.read();
    let empty = |tables: &Tables| {
        let variants = [&tables.consumers, &tables.near];
        tables.shared.iter().all(BTreeMap::is_empty)
            && variants.iter().all(|variants| variants.is_empty())
    };
    assert!(inner.scopes.iter().all(empty));
}

#[test]
fn a_stream_too_far_behind_is_told_so() {
    let mut log = sample();
    let cache = Cache::new(&log.state);
    let mut health = 1;
    for _ in 0..RECENT + 10 {
        health = 3 - health;
        play(
            &mut log,
            &Step::Health {
                workload: 2,
                generation: 1,
                health,
            },
        );
        cache.publish(&log.state);
    }
    let published = cache.published();
    let sequence = published.sequence;
    assert_eq!(published.since(sequence).unwrap().count(), 0);
    assert_eq!(published.since(sequence - 3).unwrap().count(), 3);
    assert_eq!(
        published.since(sequence - RECENT as u64).unwrap().count(),
        RECENT
    );
    assert!(published.since(sequence - RECENT as u64 - 1).is_none());
}
