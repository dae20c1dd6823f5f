//! What a document says as a whole: fields that contradict each other, and what is legal and probably not meant.

mod grpc_route;
mod http_route;
mod others;
mod parents;
mod traffic;

use super::{node::Node, problem::Findings};
use crate::model::AnyObject;

/// One object, as it is being looked at.
struct Subject<'a> {
    node: &'a Node,
    findings: &'a mut Findings,
}

impl Subject<'_> {
    fn error(&mut self, path: impl AsRef<str>, message: impl Into<String>) {
        let path = path.as_ref();
        self.findings.error(self.node.nearest(path), path, message);
    }

    fn warning(&mut self, path: impl AsRef<str>, message: impl Into<String>) {
        let path = path.as_ref();
        self.findings
            .warning(self.node.nearest(path), path, message);
    }

    /// Everything after the first of its kind.
    fn no_twice<T: Ord>(&mut self, items: impl IntoIterator<Item = (String, T)>, what: &str) {
        let mut seen = std::collections::BTreeSet::new();
        for (path, item) in items {
            if !seen.insert(item) {
                self.error(path, format!("this {what} stands twice; leave one out"));
            }
        }
    }
}

/// Reports what contradicts itself in one object.
pub(super) fn object(object: &AnyObject, node: &Node, findings: &mut Findings) {
    let mut subject = Subject { node, findings };
    match object {
        AnyObject::Service(object) => others::service(&object.spec, &mut subject),
        AnyObject::HttpRoute(object) => {
            http_route::check(&object.spec, &object.metadata.namespace, &mut subject)
        }
        AnyObject::GrpcRoute(object) => {
            grpc_route::check(&object.spec, &object.metadata.namespace, &mut subject)
        }
        AnyObject::Workload(object) => others::workload(&object.spec, &mut subject),
        AnyObject::AuthorizationPolicy(object) => {
            others::authorization_policy(&object.spec, &mut subject)
        }
        AnyObject::TrafficPolicy(object) => traffic::policy(&object.spec, &mut subject),
        AnyObject::MeshSettings(object) => others::mesh_settings(&object.spec, &mut subject),
    }
}
