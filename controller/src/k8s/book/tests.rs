#![allow(clippy::unwrap_used)]

use super::*;
use crate::model::tests::Log;
use crate::model::{Applied, Command, Health};

fn source(uid: &str, version: u64) -> Source {
    Source {
        uid: uid.to_owned(),
        version,
    }
}

fn pod(name: &str, version: u64) -> Seen {
    Seen::Pod(Box::new(Instance {
        name: Name::new("shop", name),
        addresses: vec!["10.0.0.7".to_owned()],
        other_ports: Some(Health::Healthy as i32),
        source: Some(source(name, version)),
        ..Instance::default()
    }))
}

fn shop() -> Seen {
    Seen::Namespace("shop".to_owned())
}

fn key(name: &str) -> Key {
    Key::Pod(Name::new("shop", name))
}

/// Proposes until there is nothing left to say; answers how often.
fn agree(book: &mut Book, log: &mut Log) -> usize {
    for round in 0.. {
        let observe = book.observation(1, &log.state);
        if observe.is_empty() {
            return round;
        }
        let applied: Applied = log.run(Command::Observe(observe.clone()));
        assert_eq!((applied.refusal, applied.skipped), (None, 0));
        book.agreed(&observe);
    }
    0
}

fn pods(log: &Log) -> Vec<String> {
    let names = log.state.mesh().instances().keys();
    names.map(|name| name.name.clone()).collect()
}

/// A shop of so many pods, agreed on.
fn of(count: usize) -> (Book, Log) {
    let (mut book, mut log) = (Book::default(), Log::new());
    book.list(Watched::Namespaces, vec![shop()], &log.state);
    let all = (0..count).map(|number| pod(&format!("pod-{number:03}"), 1));
    book.list(Watched::Pods, all.collect(), &log.state);
    agree(&mut book, &mut log);
    assert_eq!(pods(&log).len(), count);
    (book, log)
}

#[test]
fn what_comes_before_its_namespace_waits_for_it() {
    let (mut book, mut log) = (Book::default(), Log::new());
    book.saw(pod("web-1", 1));
    assert_eq!(agree(&mut book, &mut log), 0);
    book.saw(shop());
    assert_eq!(agree(&mut book, &mut log), 2);
    assert_eq!(pods(&log), ["web-1"]);
}

#[test]
fn what_makes_no_difference_is_not_said() {
    let (mut book, mut log) = of(2);
    book.saw(pod("pod-000", 9));
    assert_eq!(agree(&mut book, &mut log), 0);
    book.lost(key("nobody"));
    assert_eq!(agree(&mut book, &mut log), 0);
    // The same name and the same addresses, made anew: it is another pod.
    let Seen::Pod(mut again) = pod("pod-000", 10) else {
        unreachable!()
    };
    again.source = Some(source("another", 10));
    book.saw(Seen::Pod(again));
    assert_eq!(agree(&mut book, &mut log), 1);
}

#[test]
fn what_a_list_lacks_is_gone() {
    let (mut book, mut log) = of(3);
    let rest = vec![pod("pod-001", 1)];
    assert_eq!(book.list(Watched::Pods, rest, &log.state), Listed::Taken);
    agree(&mut book, &mut log);
    assert_eq!(pods(&log), ["pod-001"]);
}

#[test]
fn a_list_that_lacks_too_many_needs_a_second_one() {
    let (mut book, mut log) = of(40);
    let some = |from: usize| {
        let all = (from..40).map(|number| pod(&format!("pod-{number:03}"), 1));
        all.collect::<Vec<_>>()
    };
    let doubted = Listed::Doubted {
        missing: 20,
        of: 40,
    };
    assert_eq!(book.list(Watched::Pods, some(20), &log.state), doubted);
    agree(&mut book, &mut log);
    assert_eq!(pods(&log).len(), 40);
    // One that lacks others is doubted in its turn.
    let others = (0..20).map(|number| pod(&format!("pod-{number:03}"), 1));
    let listed = book.list(Watched::Pods, others.collect(), &log.state);
    assert_eq!(listed, doubted);
    // One that lacks no more than the last is believed; what has come back stays.
    let last = (0..22).map(|number| pod(&format!("pod-{number:03}"), 1));
    let listed = book.list(Watched::Pods, last.collect(), &log.state);
    assert_eq!(listed, Listed::Taken);
    agree(&mut book, &mut log);
    assert_eq!(pods(&log).len(), 22);
    // A few are believed at once.
    let listed = book.list(Watched::Pods, vec![pod("pod-000", 1)], &log.state);
    assert_ne!(listed, Listed::Taken);
}

#[test]
fn an_observation_holds_so_much_and_the_rest_follows() {
    let (mut book, mut log) = (Book::default(), Log::new());
    book.saw(shop());
    for number in 0..PARTS + 10 {
        book.saw(pod(&format!("pod-{number:04}"), 1));
    }
    assert_eq!(agree(&mut book, &mut log), 3);
    assert_eq!(pods(&log).len(), PARTS + 10);
}

#[test]
fn what_changes_while_it_is_proposed_is_proposed_again() {
    let (mut book, mut log) = of(1);
    book.lost(key("pod-000"));
    let observe = book.observation(1, &log.state);
    book.saw(pod("pod-000", 5));
    log.run(Command::Observe(observe.clone()));
    book.agreed(&observe);
    assert_eq!(pods(&log), Vec::<String>::new());
    assert_eq!(agree(&mut book, &mut log), 1);
    assert_eq!(pods(&log), ["pod-000"]);
}
