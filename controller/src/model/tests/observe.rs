//! What was observed in Kubernetes: by term and version, and beside what people write.

use super::{Log, instance, puts, service};
use crate::model::{
    Applied, Command, Health, Instance, Kind, Name, ObjectKey, Observe, ObservedObject,
    RefusalCode, Source, State,
    command::{EndInstances, InstanceEnd},
};

pub(super) fn source(uid: &str, version: u64) -> Source {
    Source {
        uid: uid.to_owned(),
        version,
    }
}

/// A service as it was observed, with an address of Kubernetes'.
pub(super) fn observed(name: &str, address: &str, source: Source) -> ObservedObject {
    let json = format!(
        r#"{{"apiVersion":"v1","kind":"Service","metadata":{{"name":"{name}","namespace":"shop"}},"spec":{{"selector":{{"app":"web"}},"ports":[{{"port":80,"targetPort":8080}}],"clusterIPs":["{address}"]}}}}"#
    );
    ObservedObject {
        key: key(name),
        json,
        source,
    }
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(Kind::Service, Name::new("shop", name))
}

pub(super) fn pod(name: &str, source: Source) -> Instance {
    Instance {
        name: Name::new("shop", name),
        ports: Vec::new(),
        generation: 0,
        other_ports: Some(Health::Healthy as i32),
        source: Some(source),
        ..instance(name, 0)
    }
}

/// An observation of a whole little shop.
pub(super) fn shop(term: u64) -> Observe {
    Observe {
        term,
        namespaces: vec!["shop".to_owned()],
        objects: vec![observed("web", "10.96.0.7", source("s1", 5))],
        pods: vec![pod("web-1", source("p1", 6))],
        ..Observe::default()
    }
}

fn observe(log: &mut Log, observe: Observe) -> Applied {
    log.run(Command::Observe(observe))
}

fn refusal(applied: &Applied) -> Option<RefusalCode> {
    applied.refusal.as_ref().map(|refusal| refusal.code())
}

#[test]
fn a_pod_is_an_endpoint_of_every_port_of_the_services_that_select_it() {
    let mut log = Log::new();
    assert_eq!(observe(&mut log, shop(1)).skipped, 0);
    let mesh = log.state.mesh();
    let web = Name::new("shop", "web");
    let endpoints = mesh.endpoints(&web, 80);
    assert_eq!(endpoints.len(), 1);
    assert_eq!(
        (endpoints[0].port, endpoints[0].health),
        (8080, Health::Healthy)
    );
    let address = "10.96.0.7".parse().unwrap();
    assert_eq!(mesh.vip_owner(&address), Some(&web));
    assert!(mesh.addresses_of(&web).contains(&address));
    assert_eq!(mesh.addresses_of(&web).len(), 3);
}

#[test]
fn what_is_not_ready_gets_traffic_where_the_service_says_so() {
    let mut log = Log::new();
    let mut all = shop(1);
    all.pods[0].other_ports = Some(Health::Unhealthy as i32);
    observe(&mut log, all.clone());
    let health = |log: &Log| log.state.mesh().endpoints(&Name::new("shop", "web"), 80)[0].health;
    assert_eq!(health(&log), Health::Unhealthy);
    let json = &mut all.objects[0].json;
    *json = json.replace(
        r#""clusterIPs""#,
        r#""publishNotReadyAddresses":true,"clusterIPs""#,
    );
    observe(&mut log, all);
    assert_eq!(health(&log), Health::Healthy);
}

#[test]
fn a_deposed_observer_does_not_write_last() {
    let mut log = Log::new();
    observe(&mut log, shop(4));
    let mut late = shop(3);
    late.objects[0] = observed("web", "10.96.0.8", source("s1", 9));
    let before = log.state.clone();
    let applied = observe(&mut log, late);
    assert_eq!(refusal(&applied), Some(RefusalCode::Superseded));
    assert_eq!(log.state.mesh(), before.mesh());
    assert_eq!(log.state.observed_term(), 4);
}

#[test]
fn an_older_version_is_skipped_and_an_object_made_anew_is_not() {
    let mut log = Log::new();
    observe(&mut log, shop(1));
    let again = |uid, version| Observe {
        objects: vec![observed("web", "10.96.0.8", source(uid, version))],
        pods: vec![Instance {
            addresses: vec!["10.0.0.8".to_owned()],
            ..pod("web-1", source(uid, version))
        }],
        ..Observe {
            term: 1,
            ..Observe::default()
        }
    };
    let web = Name::new("shop", "web");
    let mut older = again("s1", 4);
    older.pods[0].source = Some(source("p1", 4));
    assert_eq!(observe(&mut log, older).skipped, 2);
    assert!(
        log.state
            .mesh()
            .vip_owner(&"10.96.0.7".parse().unwrap())
            .is_some()
    );
    assert_eq!(observe(&mut log, again("new", 3)).skipped, 0);
    let mesh = log.state.mesh();
    assert_eq!(mesh.vip_owner(&"10.96.0.7".parse().unwrap()), None);
    assert_eq!(mesh.vip_owner(&"10.96.0.8".parse().unwrap()), Some(&web));
    let pod = &mesh.instances()[&Name::new("shop", "web-1")].instance;
    assert_eq!(pod.addresses, ["10.0.0.8"]);
}

#[test]
fn only_kubernetes_writes_in_its_namespaces() {
    let mut log = Log::new();
    observe(&mut log, shop(1));
    let yaml = service("web").replace("name: web}", "name: web, namespace: shop}");
    let applied = log.run(puts(&yaml));
    assert_eq!(refusal(&applied), Some(RefusalCode::Conflict));
    let text = &applied.refusal.unwrap().message;
    assert!(text.contains("kubectl"), "{text}");
    assert_eq!(
        refusal(&log.delete(Kind::Service, "shop", "web")),
        Some(RefusalCode::Conflict)
    );
    // A route of the mesh's own language is nobody's yet.
    let own = log.put(&service("own"));
    assert_eq!(own.refusal, None);
}

#[test]
fn a_namespace_in_which_people_wrote_stays_theirs() {
    let mut log = Log::new();
    let yaml = service("web").replace("name: web}", "name: web, namespace: shop}");
    log.put(&yaml);
    let applied = observe(&mut log, shop(1));
    assert_eq!(applied.skipped, 3);
    assert!(!log.state.mesh().is_of_kubernetes("shop"));
    assert!(log.state.mesh().instances().is_empty());
}

#[test]
fn a_pod_is_not_ended_nor_taken_over_by_a_host() {
    let mut log = Log::new();
    observe(&mut log, shop(1));
    let name = Name::new("shop", "web-1");
    let end = InstanceEnd {
        name: name.clone(),
        generation: 0,
    };
    let applied = log.run(Command::EndInstances(EndInstances { ends: vec![end] }));
    assert_eq!(applied.skipped, 1);
    let host = Instance {
        name: name.clone(),
        ..instance("web-1", 7)
    };
    let applied = log.run(Command::Register(host));
    assert_eq!(refusal(&applied), Some(RefusalCode::Conflict));
    assert!(
        log.state.mesh().instances()[&name]
            .instance
            .source
            .is_some()
    );
}

#[test]
fn a_host_that_was_there_first_keeps_its_name() {
    let mut log = Log::new();
    let host = Instance {
        name: Name::new("shop", "web-1"),
        ..instance("web-1", 7)
    };
    log.run(Command::Register(host));
    assert_eq!(observe(&mut log, shop(1)).skipped, 1);
    let known = &log.state.mesh().instances()[&Name::new("shop", "web-1")];
    assert_eq!(known.instance.generation, 7);
    // A Kubernetes service that selects the host gets it as an endpoint.
    assert_eq!(
        log.state
            .mesh()
            .endpoints(&Name::new("shop", "web"), 80)
            .len(),
        1
    );
}

#[test]
fn a_namespace_that_is_gone_takes_all_with_it() {
    let mut log = Log::new();
    let empty = log.state.mesh().clone();
    observe(&mut log, shop(1));
    let gone = Observe {
        term: 1,
        gone_namespaces: vec!["shop".to_owned()],
        ..Observe::default()
    };
    observe(&mut log, gone);
    let mesh = log.state.mesh();
    assert!(!mesh.is_of_kubernetes("shop"));
    assert_eq!(
        (mesh.services(), mesh.instances()),
        (empty.services(), empty.instances())
    );
    assert!(log.state.observed().is_empty());
    assert_eq!(mesh.vip_owner(&"10.96.0.7".parse().unwrap()), None);
}

#[test]
fn a_snapshot_holds_what_was_observed() {
    let mut log = Log::new();
    observe(&mut log, shop(3));
    let bytes: Vec<u8> = log.state.encode().flatten().collect();
    assert_eq!(State::decode(&bytes[..]).unwrap(), log.state);
    // In another cluster the terms begin anew.
    assert_eq!(log.state.restored("c2", 9).observed_term(), 0);
}
