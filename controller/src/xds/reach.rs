//! What a stream's subscriptions lead to: a graph from the names that were asked for to all that they need, counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use xds_api::type_url::TypeUrl;

use super::cache::with_prefix;
use super::changes::{Names, Unit};
use super::scope::Dialect;
use super::translate::Link;

/// One name that is reached.
#[derive(Debug, Default, Clone)]
struct Node {
    /// Subscriptions and other nodes that lead here.
    count: usize,
    links: Arc<[Link]>,
}

/// What is reached. Names that do not exist are in it too: they may come to be.
#[derive(Debug, Default, Clone)]
pub(crate) struct Reach {
    nodes: [BTreeMap<Arc<str>, Node>; TypeUrl::ALL.len()],
}

/// Where links are looked up: what a resource refers to at present.
pub(crate) trait Links {
    fn links(&self, kind: TypeUrl, name: &Arc<str>) -> Arc<[Link]>;
}

impl Reach {
    pub(crate) fn contains(&self, kind: TypeUrl, name: &str) -> bool {
        self.nodes[kind.index()].contains_key(name)
    }

    pub(crate) fn names(&self, kind: TypeUrl) -> impl Iterator<Item = &Arc<str>> {
        self.nodes[kind.index()].keys()
    }

    /// Adds a way to a name. `moved` gets every name that is reached now and was not.
    pub(crate) fn add(&mut self, link: &Link, links: &impl Links, moved: &mut Vec<Link>) {
        let (kind, name) = link;
        let node = self.nodes[kind.index()].entry(name.clone()).or_default();
        node.count += 1;
        if node.count > 1 {
            return;
        }
        let found = links.links(*kind, name);
        node.links = found.clone();
        moved.push(link.clone());
        found.iter().for_each(|next| self.add(next, links, moved));
    }

    /// Takes a way to a name back. `moved` gets every name that is not reached any more.
    pub(crate) fn drop(&mut self, link: &Link, moved: &mut Vec<Link>) {
        let (kind, name) = link;
        let table = &mut self.nodes[kind.index()];
        let Some(node) = table.get_mut(name) else {
            return;
        };
        node.count -= 1;
        if node.count > 0 {
            return;
        }
        let links = table
            .remove(name)
            .map(|node| node.links)
            .unwrap_or_default();
        moved.push(link.clone());
        links.iter().for_each(|next| self.drop(next, moved));
    }

    /// Looks a name's links up again. `moved` gets every name that is newly or no longer reached.
    pub(crate) fn refresh(&mut self, link: &Link, links: &impl Links, moved: &mut Vec<Link>) {
        let (kind, name) = link;
        let Some(node) = self.nodes[kind.index()].get_mut(name) else {
            return;
        };
        let new = links.links(*kind, name);
        if new == node.links {
            return;
        }
        let old = std::mem::replace(&mut node.links, new.clone());
        // The new ones first: what stays reached must not go and come back.
        new.iter().for_each(|next| self.add(next, links, moved));
        old.iter().for_each(|next| self.drop(next, moved));
    }

    /// The reached names of a unit.
    pub(crate) fn of_unit(&self, dialect: Dialect, unit: &Unit) -> Vec<Link> {
        let mut found = Vec::new();
        for (kind, names) in unit.names(dialect) {
            let nodes = &self.nodes[kind.index()];
            match names {
                Names::One(name) => {
                    let one = nodes.get_key_value(name.as_str());
                    found.extend(one.map(|(name, _)| (kind, name.clone())));
                }
                Names::Prefix(prefix) => {
                    found.extend(with_prefix(nodes, &prefix).map(|(name, _)| (kind, name.clone())));
                }
            }
        }
        found
    }

    /// Everything that is reached.
    pub(crate) fn all(&self) -> Vec<Link> {
        let of = |kind: TypeUrl| self.names(kind).map(move |name| (kind, name.clone()));
        TypeUrl::ALL.into_iter().flat_map(of).collect()
    }
}
