//! What the controllers say of a change becomes one answer. Pure.

use std::collections::BTreeMap;

use tonic::Status;
use tracing::warn;
use xds_api::maille::v1::{Preview, PreviewedResource};

/// Messages in one answer, as in each controller's own: the CLI takes no more than a few megabytes.
const BYTES: usize = 2 << 20;

type Key = (String, String, String, String, String);

/// Several controllers' answers.
#[derive(Debug)]
pub(super) struct Merged {
    preview: Preview,
    known: BTreeMap<Key, u32>,
    bytes: usize,
}

impl Merged {
    pub(super) fn new(first: Preview) -> Self {
        let mut merged = Self {
            preview: Preview::default(),
            known: BTreeMap::new(),
            bytes: 0,
        };
        merged.add(first);
        merged
    }

    pub(super) fn add(&mut self, other: Preview) {
        let resources = other.resources.into_iter();
        let places: Vec<u32> = resources.map(|resource| self.place(resource)).collect();
        for mut client in other.clients {
            let here = |place: &u32| places.get(*place as usize).copied();
            client.resources = client.resources.iter().filter_map(here).collect();
            client.resources.sort_unstable();
            self.preview.clients.push(client);
        }
        self.preview.silent_streams += other.silent_streams;
    }

    pub(super) fn silent(&mut self, controller: String, why: &Status) {
        warn!(controller, %why, "does not say what a change would send to its clients");
        self.preview.silent_controllers.push(controller);
    }

    pub(super) fn finish(mut self) -> Preview {
        self.preview
            .clients
            .sort_by(|one, other| one.node.cmp(&other.node));
        self.preview
    }

    fn place(&mut self, mut resource: PreviewedResource) -> u32 {
        let key = (
            resource.dialect.clone(),
            resource.type_url.clone(),
            resource.name.clone(),
            resource.before_version.clone(),
            resource.after_version.clone(),
        );
        if let Some(place) = self.known.get(&key) {
            return *place;
        }
        self.bytes += resource.before.len() + resource.after.len();
        if self.bytes > BYTES {
            resource.left_out = true;
            (resource.before, resource.after) = Default::default();
        }
        let place = u32::try_from(self.preview.resources.len()).unwrap_or(u32::MAX);
        self.preview.resources.push(resource);
        self.known.insert(key, place);
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xds_api::maille::v1::PreviewedClient;

    fn preview(node: &str, names: &[&str]) -> Preview {
        let resource = |name: &&str| PreviewedResource {
            name: (*name).to_owned(),
            ..Default::default()
        };
        Preview {
            clients: vec![PreviewedClient {
                node: node.to_owned(),
                resources: (0..).take(names.len()).collect(),
                ..Default::default()
            }],
            resources: names.iter().map(resource).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn a_resource_stands_once_however_many_controllers_name_it() {
        let mut merged = Merged::new(preview("b", &["x", "y"]));
        merged.add(preview("a", &["z", "y", "x"]));
        merged.silent("c3".to_owned(), &Status::unavailable("gone"));
        let all = merged.finish();
        let of = |place: usize| {
            let client = &all.clients[place];
            let name = |one: &u32| all.resources[*one as usize].name.as_str();
            (
                client.node.as_str(),
                client.resources.iter().map(name).collect::<Vec<_>>(),
            )
        };
        assert_eq!(of(0), ("a", vec!["x", "y", "z"]));
        assert_eq!(of(1), ("b", vec!["x", "y"]));
        assert_eq!(all.resources.len(), 3);
        assert_eq!(all.silent_controllers, ["c3"]);
    }
}
