//! Everything of a type, in the one dialect in which `*` means that: an Envoy's. Listeners and clusters, with all types on one stream and on
//! a stream of their own; with the state of the world every response is whole.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use xds_api::node::{Claim, ENVOY_AGENT};

use super::*;
use crate::model::Name;
use crate::xds::names::ListenerName;
use crate::xds::server::tests::stage::claim;

/// What a service has of a type: its cluster, or a listener at each of its addresses.
fn of_service(stage: &Stage, kind: TypeUrl, name: char) -> BTreeSet<String> {
    if kind == CDS {
        return BTreeSet::from([resource(CDS, name)]);
    }
    let vips = stage.log.state.mesh().vips();
    let vip = vips.get(&Name::new("shop", name.to_string())).unwrap();
    let listeners = vip.addresses().to_vec().into_iter().map(|address| {
        let listener = ListenerName::Address(SocketAddr::new(address, 80));
        listener.resource().to_string()
    });
    listeners.collect()
}

/// The names of a response.
fn names(heard: &Heard) -> BTreeSet<String> {
    heard.resources.keys().cloned().collect()
}

/// An Envoy that asks for everything of a type.
async fn start(aggregated: bool, kind: TypeUrl) -> Case {
    let mut stage = Stage::start(Some(WEB)).await;
    stage.put(&format!("{}{}", service('a', "http"), service('b', "http")));
    let of = if aggregated { None } else { Some(kind) };
    let method = Service::ALL.into_iter().find(|one| one.kind == of).unwrap();
    let envoy = Claim {
        agent: ENVOY_AGENT.into(),
        ..claim()
    };
    let form = Form::StateOfTheWorld;
    let talk = Talk::open_as(&envoy, &stage, &method, form, kind, &[])
        .await
        .unwrap();
    Case {
        label: format!("{} {}", kind.short(), method.name),
        stage,
        talk,
        form,
        kind,
    }
}

#[tokio::test]
async fn an_envoys_wildcard_brings_all_and_every_change_brings_all_again() {
    for (kind, aggregated) in [(CDS, true), (CDS, false), (LDS, true), (LDS, false)] {
        let mut case = start(aggregated, kind).await;
        let first = case.talk.take().await;
        for one in ['a', 'b'] {
            let own = of_service(&case.stage, kind, one);
            assert!(own.is_subset(&names(&first)), "{}: {first:?}", case.label);
        }

        case.stage.put(&match kind {
            CDS => change(CDS, 'b'),
            _ => service('b', "tcp"),
        });
        let second = case.talk.take().await;
        assert_eq!(names(&second), names(&first), "{}", case.label);
        assert_ne!(second.version, first.version, "{}", case.label);
        let changed = |name: &&String| second.resources[*name] != first.resources[*name];
        let changed: BTreeSet<String> = first.resources.keys().filter(changed).cloned().collect();
        assert_eq!(
            changed,
            of_service(&case.stage, kind, 'b'),
            "{}",
            case.label
        );

        case.stage.put(&service('c', "http"));
        let third = case.talk.take().await;
        let new: BTreeSet<String> = names(&third).difference(&names(&first)).cloned().collect();
        assert_eq!(new, of_service(&case.stage, kind, 'c'), "{}", case.label);
        assert!(names(&first).is_subset(&names(&third)), "{}", case.label);
        case.quiet().await;
        case.stage.supervisor.stop().await;
    }
}
