//! The two forms that a stream may speak in. The method that opened it decides, so a stream never changes its form.

use crate::type_url::TypeUrl;

/// How requests name what they want, and what a response holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// Only differences, both ways.
    #[default]
    Delta,
    /// A request names all that is wanted, each time.
    StateOfTheWorld,
}

impl Form {
    /// Whether a response must hold all that the client is to have: what it omits the client deletes. Of the other types
    /// it holds what is new, and omits whatever it likes.
    pub(super) fn is_whole(self, kind: TypeUrl) -> bool {
        self == Self::StateOfTheWorld && matches!(kind, TypeUrl::Cluster | TypeUrl::Listener)
    }
}
