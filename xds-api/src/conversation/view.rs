//! What the conversation asks of the mesh.

use std::sync::Arc;

use crate::resource::Resource;
use crate::type_url::TypeUrl;

/// The mesh as one client may see it now.
pub trait View {
    /// The resource of this name; `None`: it does not exist, or not for this client.
    fn get(&self, kind: TypeUrl, name: &str) -> Option<Arc<Resource>>;
    /// Whether the client is to have this name though it did not ask for it: because of `*`, where `wildcard` says that
    /// it asked for that, or because something that it did ask for implies it.
    fn covers(&self, kind: TypeUrl, name: &str, wildcard: bool) -> bool;
    /// All names that `*` stands for.
    fn wildcard(&self, kind: TypeUrl) -> Vec<Arc<str>>;
    /// Whether this type may be answered yet.
    fn ready(&self, kind: TypeUrl) -> bool;
    /// What is sent in the place of a resource that was asked for by name and does not exist, where a client would wait
    /// for it or stop for want of it. `None`: the client is told that there is none.
    fn placeholder(&self, _kind: TypeUrl, _name: &str) -> Option<Arc<Resource>> {
        None
    }
}
