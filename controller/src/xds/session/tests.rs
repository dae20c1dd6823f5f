//! Streams by hand: what a subscription brings, and what a change of the mesh does.
#![allow(clippy::unwrap_used)]

mod nearness;

use xds_api::envoy::config::core::v3::Node;
use xds_api::google::rpc::Status;

use super::*;
use crate::model::command::{HealthChange, MoveRollout, ReportHealth, RolloutStep, StageObjects};
use crate::model::rollout::place;
use crate::model::tests::{Log, puts};
use crate::model::{Command, Kind, Name};
use crate::xds::translate::native::tests::sample;

struct Stage {
    log: Log,
    cache: Cache,
    session: Session,
}

impl Stage {
    fn new() -> Self {
        Self::of("web-1", "spiffe://test.mesh/ns/shop/sa/web")
    }

    fn of(workload: &str, identity: &str) -> Self {
        let log = sample();
        let cache = Cache::new(&log.state);
        let own = Own {
            workload: Name::new("shop", workload),
            identity: identity.into(),
            dialect: Dialect::Native,
        };
        let session = Session::new(own, &cache, cache.published());
        Self {
            log,
            cache,
            session,
        }
    }

    fn request(&mut self, kind: TypeUrl, subscribe: &[&str]) {
        self.send(DeltaDiscoveryRequest {
            resource_names_subscribe: subscribe.iter().map(ToString::to_string).collect(),
            ..request(kind)
        });
    }

    fn send(&mut self, request: DeltaDiscoveryRequest) -> Option<Verdict> {
        self.session.request(&self.cache, request).unwrap()
    }

    /// All that goes out until nothing does, each acknowledged: `CDS +name -name`, sorted within a response.
    fn answers(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(response) = self.session.next(&self.cache) {
            let mut line = response.kind.short().to_owned();
            response
                .resources
                .iter()
                .for_each(|one| line += &format!(" +{}", one.name()));
            response
                .removed
                .iter()
                .for_each(|name| line += &format!(" -{name}"));
            lines.push(line);
            let nonce = response.nonce.to_string();
            self.send(DeltaDiscoveryRequest {
                response_nonce: nonce,
                ..request(response.kind)
            });
        }
        lines
    }

    fn publish(&mut self) {
        let published = self.cache.publish(&self.log.state).unwrap();
        self.session.advance(&self.cache, published);
    }

    fn subscribe_like_a_proxy(&mut self, listeners: &[&str]) {
        self.request(TypeUrl::Listener, listeners);
        for kind in [TypeUrl::Cluster, TypeUrl::Endpoints, TypeUrl::Route] {
            self.request(kind, &[]);
        }
    }

    fn set_health(&mut self, workload: &str, health: i32) {
        let change = HealthChange {
            name: Name::new("shop", workload),
            generation: 1,
            port: 8080,
            health,
        };
        self.log
            .run(Command::ReportHealth(ReportHealth {
                changes: vec![change],
            }))
            .accepted()
            .unwrap();
        self.publish();
    }

    fn vip(&self, service: &str) -> String {
        self.log
            .state
            .mesh()
            .vips()
            .get(&Name::new("shop", service))
            .unwrap()
            .v4
            .to_string()
    }
}

fn request(kind: TypeUrl) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(Node::default()),
        type_url: kind.to_string(),
        ..Default::default()
    }
}

#[test]
fn a_listener_brings_its_whole_closure() {
    let mut stage = Stage::new();
    stage.subscribe_like_a_proxy(&["out/web.shop:80"]);
    assert_eq!(
        stage.answers(),
        [
            "CDS +shop/api:80 +shop/web-v2:80 +shop/web:80",
            "EDS +shop/api:80 +shop/web-v2:80 +shop/web:80",
            "LDS +out/web.shop:80",
            "RDS +shop/web:80",
        ]
    );
    assert_eq!(
        stage.session.clean_through(),
        stage.log.state.mesh().index()
    );
}

#[test]
fn a_host_brings_the_listeners_of_all_its_addresses() {
    let mut stage = Stage::new();
    stage.subscribe_like_a_proxy(&["host/db.shop"]);
    let vip = stage
        .log
        .state
        .mesh()
        .vips()
        .get(&Name::new("shop", "db"))
        .copied()
        .unwrap();
    assert_eq!(
        stage.answers(),
        [
            "CDS +shop/db:5432".to_owned(),
            "EDS +shop/db:5432".to_owned(),
            format!(
                "LDS +host/db.shop +out/{}:5432 +out/[{}]:5432",
                vip.v4, vip.v6
            ),
            "RDS".to_owned(),
        ]
    );
}

#[test]
fn nothing_is_answered_by_wildcard_before_the_listeners_are_known() {
    let mut stage = Stage::new();
    let mut cds = request(TypeUrl::Cluster);
    let known = stage.cache.get(
        Scope::settled(Dialect::Native),
        &stage.cache.published(),
        TypeUrl::Cluster,
        &"shop/db:5432".into(),
    );
    let version = known.unwrap().resource.version().to_string();
    cds.initial_resource_versions
        .insert("shop/db:5432".into(), version);
    stage.send(cds);
    assert!(stage.answers().is_empty());
    stage.request(TypeUrl::Listener, &["out/db.shop:5432"]);
    assert_eq!(stage.answers(), ["CDS", "LDS +out/db.shop:5432"]);
}

#[test]
fn only_what_changed_is_sent() {
    let mut stage = Stage::new();
    stage.subscribe_like_a_proxy(&["out/web.shop:80", "in/shop/web-1"]);
    stage.answers();
    stage.set_health("web-1", 2);
    assert_eq!(stage.answers(), ["EDS +shop/web:80"]);
    stage.set_health("web-1", 1);
    stage.set_health("web-1", 2);
    assert!(stage.answers().is_empty());
    assert_eq!(
        stage.session.clean_through(),
        stage.log.state.mesh().index()
    );
}

#[test]
fn a_route_that_moves_brings_the_new_cluster_first_and_drops_the_old_one_last() {
    let mut stage = Stage::new();
    stage.log.put(
        &crate::model::tests::route("api", "api", "web-v2", 80)
            .replace("metadata: {", "metadata: {namespace: shop, "),
    );
    stage.publish();
    stage.subscribe_like_a_proxy(&["out/api.shop:80"]);
    stage.answers();
    stage.log.put(
        &crate::model::tests::route("api", "api", "web", 80)
            .replace("metadata: {", "metadata: {namespace: shop, "),
    );
    stage.publish();
    assert_eq!(
        stage.answers(),
        [
            "CDS +shop/web:80",
            "EDS +shop/web:80",
            "RDS +shop/api:80",
            "CDS -shop/web-v2:80",
            "EDS -shop/web-v2:80",
        ]
    );
}

#[test]
fn a_route_of_the_clients_namespace_is_sent_to_its_clients_alone() {
    let (mut shop, mut desk) = (Stage::new(), Stage::new());
    let own = Own {
        workload: Name::new("desk", "desk-1"),
        identity: "spiffe://test.mesh/ns/desk/sa/desk".into(),
        dialect: Dialect::Native,
    };
    desk.session = Session::new(own, &desk.cache, desk.cache.published());
    let consumer = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: web, namespace: desk}\nspec: {parentRefs: [{kind: Service, name: web, namespace: shop}], rules: [{backendRefs: [{name: db, namespace: shop, port: 5432}]}]}\n";
    for stage in [&mut shop, &mut desk] {
        stage.subscribe_like_a_proxy(&["out/web.shop:80"]);
        stage.answers();
        stage.log.put(consumer).accepted().unwrap();
        stage.publish();
    }
    assert_eq!(shop.answers(), [""; 0]);
    let sent = desk.answers();
    assert!(sent.contains(&"RDS +shop/web:80".to_owned()), "{sent:?}");
    // It goes, and what holds for everybody holds again.
    desk.log
        .delete(Kind::HttpRoute, "desk", "web")
        .accepted()
        .unwrap();
    desk.publish();
    let sent = desk.answers();
    assert!(sent.contains(&"RDS +shop/web:80".to_owned()), "{sent:?}");
}

#[test]
fn a_service_that_goes_and_comes_back_is_followed() {
    let mut stage = Stage::new();
    let address = format!("out/{}:5432", stage.vip("db"));
    stage.subscribe_like_a_proxy(&[&address, "out/db.shop:5432", "host/late.shop"]);
    assert_eq!(
        stage.answers(),
        [
            "CDS +shop/db:5432".to_owned(),
            "EDS +shop/db:5432".to_owned(),
            format!("LDS +{address} +out/db.shop:5432 -host/late.shop"),
            "RDS".to_owned(),
        ]
    );
    stage
        .log
        .delete(Kind::Service, "shop", "db")
        .accepted()
        .unwrap();
    stage.publish();
    assert_eq!(
        stage.answers(),
        [
            format!("LDS -{address} -out/db.shop:5432"),
            "CDS -shop/db:5432".to_owned(),
            "EDS -shop/db:5432".to_owned()
        ]
    );
    let late =
        crate::model::tests::service("late").replace("name: late}", "name: late, namespace: shop}");
    stage.log.put(&late).accepted().unwrap();
    stage.publish();
    let lines = stage.answers();
    assert_eq!(lines[..2], ["CDS +shop/late:80", "EDS +shop/late:80"]);
    assert!(
        lines[2].starts_with("LDS +host/late.shop +out/"),
        "{lines:?}"
    );
}

#[test]
fn an_inbound_policy_is_for_its_own_workload_alone() {
    let check = |workload, identity, name, expected: &str| {
        let mut stage = Stage::of(workload, identity);
        stage.request(TypeUrl::Listener, &[name]);
        assert_eq!(stage.answers(), [expected], "{workload} as {identity}");
    };
    let web = "spiffe://test.mesh/ns/shop/sa/web";
    check("web-1", web, "in/shop/web-1", "LDS +in/shop/web-1");
    check("web-1", web, "in/shop/web-2", "LDS -in/shop/web-2");
    check(
        "web-1",
        "spiffe://test.mesh/ns/shop/sa/api",
        "in/shop/web-1",
        "LDS -in/shop/web-1",
    );
    check("legacy", web, "in/shop/legacy", "LDS -in/shop/legacy");
    check(
        "legacy",
        "spiffe://test.mesh/ns/shop/sa/database",
        "in/shop/legacy",
        "LDS +in/shop/legacy",
    );
}

#[test]
fn a_rejection_keeps_the_stream_unclean_until_something_newer_is_taken() {
    let mut stage = Stage::new();
    stage.request(TypeUrl::Listener, &["host/web.shop"]);
    let nonce = stage.session.next(&stage.cache).unwrap().nonce.to_string();
    let nack = Status {
        message: "no".into(),
        ..Default::default()
    };
    stage.send(DeltaDiscoveryRequest {
        response_nonce: nonce,
        error_detail: Some(nack),
        ..request(TypeUrl::Listener)
    });
    assert!(stage.session.next(&stage.cache).is_none());
    assert_eq!(stage.session.clean_through(), 0);
    let beat = stage.session.beat().unwrap();
    assert!(beat.resources.is_empty() && stage.session.beat().is_none());
    let ack = DeltaDiscoveryRequest {
        response_nonce: beat.nonce.to_string(),
        ..request(TypeUrl::Listener)
    };
    stage.send(ack);
    assert!(
        stage.session.nack().unwrap().contains("no"),
        "an empty response settles nothing"
    );
    stage.log.put("apiVersion: maille.dev/v1alpha1\nkind: MeshSettings\nmetadata: {name: default, namespace: maille-system}\nspec: {dns: {ttl: 9s}}\n").accepted().unwrap();
    stage.publish();
    assert_eq!(stage.answers().len(), 1);
    assert_eq!(stage.session.nack(), None);
    assert_eq!(
        stage.session.clean_through(),
        stage.log.state.mesh().index()
    );
}

#[test]
fn a_client_that_returns_is_sent_nothing_that_it_holds() {
    let mut stage = Stage::new();
    let listeners = ["out/web.shop:80", "host/db.shop", "in/shop/web-1"];
    stage.subscribe_like_a_proxy(&listeners);
    let mut held: Vec<(TypeUrl, String, String)> = Vec::new();
    while let Some(response) = stage.session.next(&stage.cache) {
        held.extend(response.resources.iter().map(|one| {
            (
                response.kind,
                one.name().to_string(),
                one.version().to_string(),
            )
        }));
        let nonce = response.nonce.to_string();
        stage.send(DeltaDiscoveryRequest {
            response_nonce: nonce,
            ..request(response.kind)
        });
    }
    // Another controller, made from the same log.
    let mut other = Stage::new();
    for kind in [
        TypeUrl::Listener,
        TypeUrl::Cluster,
        TypeUrl::Endpoints,
        TypeUrl::Route,
    ] {
        let mut first = request(kind);
        if kind == TypeUrl::Listener {
            first.resource_names_subscribe = listeners.iter().map(ToString::to_string).collect();
        }
        let own = held.iter().filter(|(one, ..)| *one == kind);
        first.initial_resource_versions = own
            .map(|(_, name, version)| (name.clone(), version.clone()))
            .collect();
        other.send(first);
    }
    assert_eq!(other.answers(), ["CDS", "EDS", "RDS"]);
}

/// What a preview says, as `CDS +name -name`, sorted.
fn previewed(stage: &Stage, command: &Command) -> Vec<String> {
    let mut next = Log {
        state: stage.log.state.clone(),
        ..stage.log
    };
    next.run(command.clone()).accepted().unwrap();
    let now = stage.cache.published();
    let next = Arc::new(now.followed_by(next.state.mesh()).unwrap());
    let next_cache = Cache::at(next.clone());
    let sent = stage.session.preview(
        Moment {
            cache: &stage.cache,
            published: &now,
        },
        Moment {
            cache: &next_cache,
            published: &next,
        },
        false,
    );
    let line = |one: Sent| {
        let sign = if one.after.is_some() { '+' } else { '-' };
        format!("{} {sign}{}", one.kind.short(), one.name)
    };
    let mut lines: Vec<String> = sent.into_iter().map(line).collect();
    lines.sort();
    lines
}

/// The same of what goes out.
fn really_sent(stage: &mut Stage) -> Vec<String> {
    let mut lines = Vec::new();
    for answer in stage.answers() {
        let mut words = answer.split(' ');
        let kind = words.next().unwrap().to_owned();
        lines.extend(words.map(|word| format!("{kind} {word}")));
    }
    lines.sort();
    lines
}

const MOVED: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: moved, namespace: shop}\nspec: {parentRefs: [{kind: Service, name: web}], rules: [{backendRefs: [{name: db, port: 5432}]}]}\n";

#[test]
fn a_preview_is_what_is_sent_afterwards_and_changes_nothing() {
    let mut stage = Stage::new();
    stage.subscribe_like_a_proxy(&["out/web.shop:80"]);
    stage.answers();
    let command = puts(MOVED);
    let expected = previewed(&stage, &command);
    assert!(stage.answers().is_empty());
    stage.log.run(command).accepted().unwrap();
    stage.publish();
    let sent = really_sent(&mut stage);
    assert_eq!(sent, expected);
    assert!(sent.contains(&"CDS +shop/db:5432".to_owned()), "{sent:?}");
}

#[test]
fn a_rollout_reaches_a_client_stays_and_goes_without_sending_anything_twice() {
    let Command::WriteObjects(write) = puts(MOVED) else {
        panic!("it puts an object");
    };
    let mut stage = Stage::new();
    stage.subscribe_like_a_proxy(&["out/web.shop:80"]);
    stage.answers();
    let own = place(0, &Name::new("shop", "web-1"));
    let begin = |through| {
        Command::StageObjects(StageObjects {
            write: write.clone(),
            salt: 0,
            through,
            share: 50,
        })
    };
    let mut id = 0;
    let mut run = |command: &dyn Fn(u64) -> Command| {
        let applied = stage.log.run(command(id)).accepted().unwrap();
        if id == 0 {
            id = applied.index;
        }
        stage.publish();
        really_sent(&mut stage)
    };
    assert!(run(&|_| begin(own - 1)).is_empty());
    let move_to = |step: RolloutStep, through| {
        move |id| {
            Command::MoveRollout(MoveRollout {
                id,
                step: step as i32,
                through,
                share: 60,
            })
        }
    };
    let reached = run(&move_to(RolloutStep::Widen, own));
    assert!(
        reached.contains(&"CDS +shop/db:5432".to_owned()),
        "{reached:?}"
    );
    assert!(run(&move_to(RolloutStep::Widen, u32::MAX)).is_empty());
    assert!(run(&move_to(RolloutStep::Finish, 0)).is_empty());
}
