//! The parents of a route of any kind.

use std::collections::BTreeMap;

use super::Subject;
use crate::model::kinds::http_route::ParentRef;

/// Reports parents that stand twice: wholly, or a port beside the whole service.
pub(super) fn check(parents: &[ParentRef], namespace: &str, subject: &mut Subject<'_>) {
    let service = |parent: &ParentRef| {
        let namespace = parent.namespace.as_deref().unwrap_or(namespace);
        (namespace.to_owned(), parent.name.clone())
    };
    let numbered = || parents.iter().enumerate();
    subject.no_twice(
        numbered().map(|(index, parent)| {
            let named = (service(parent), parent.port);
            (format!("spec.parentRefs[{index}]"), named)
        }),
        "parent",
    );
    let whole: BTreeMap<_, usize> = numbered()
        .filter(|(_, parent)| parent.port.is_none())
        .map(|(index, parent)| (service(parent), index))
        .collect();
    for (index, parent) in numbered().filter(|(_, parent)| parent.port.is_some()) {
        if let Some(other) = whole.get(&service(parent)) {
            let message = format!(
                "spec.parentRefs[{other}] names all ports of Service {}; leave one of the two out",
                parent.name
            );
            subject.error(format!("spec.parentRefs[{index}]"), message);
        }
    }
}
