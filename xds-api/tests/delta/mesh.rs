//! A mesh of resources that are short texts, as one client sees it.

use std::collections::BTreeMap;
use std::sync::Arc;

use xds_api::delta::View;
use xds_api::resource::Resource;
use xds_api::type_url::TypeUrl;

#[derive(Debug, Default)]
pub(crate) struct Mesh {
    resources: BTreeMap<(TypeUrl, Arc<str>), Arc<Resource>>,
    /// Until this type was asked for, nothing of the types before it in the list of [`Mesh::hold`] is answered.
    pub(crate) held_back: Vec<TypeUrl>,
    /// Types of which a missing resource is replaced by an empty one.
    pub(crate) filled: Vec<TypeUrl>,
}

impl Mesh {
    /// Sets a resource's text. A cluster gets endpoints of its own name where its text ends with `@`.
    pub(crate) fn set(&mut self, kind: TypeUrl, name: &str, text: &str) {
        let name: Arc<str> = name.into();
        let resource = Resource::from_bytes(kind, name.clone(), text.as_bytes());
        let resource = match text.ends_with('@') {
            true => resource.with_endpoints(name.clone()),
            false => resource,
        };
        self.resources.insert((kind, name), resource.into());
    }

    pub(crate) fn remove(&mut self, kind: TypeUrl, name: &str) {
        self.resources.remove(&(kind, name.into()));
    }
}

impl View for Mesh {
    fn get(&self, kind: TypeUrl, name: &str) -> Option<Arc<Resource>> {
        self.resources.get(&(kind, name.into())).cloned()
    }

    fn covers(&self, _: TypeUrl, _: &str, wildcard: bool) -> bool {
        wildcard
    }

    fn wildcard(&self, kind: TypeUrl) -> Vec<Arc<str>> {
        let of_kind = self.resources.keys().filter(|(one, _)| *one == kind);
        of_kind.map(|(_, name)| name.clone()).collect()
    }

    fn ready(&self, kind: TypeUrl) -> bool {
        !self.held_back.contains(&kind)
    }

    fn placeholder(&self, kind: TypeUrl, name: &str) -> Option<Arc<Resource>> {
        let empty = || Resource::from_bytes(kind, name.into(), b"").into();
        self.filled.contains(&kind).then(empty)
    }
}
