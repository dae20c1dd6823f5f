//! From the list of all names to what was added to it and taken from it.

use std::collections::BTreeSet;

use crate::conversation::{Server, WILDCARD, is_plain};
use crate::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use crate::type_url::TypeUrl;

impl Server {
    /// What a request says beyond the ones before it, as [`Server::request`] takes it.
    ///
    /// Its `version_info` says nothing that counts: the nonce tells which response it answers, and `error_detail` alone
    /// whether that was refused. Names count whatever the nonce says, for the client may not repeat them.
    pub fn differences(&self, request: DiscoveryRequest) -> DeltaDiscoveryRequest {
        let (subscribe, unsubscribe) = match TypeUrl::parse(&request.type_url) {
            Some(kind) => self.compare(kind, &request),
            None => Default::default(),
        };
        DeltaDiscoveryRequest {
            node: request.node,
            type_url: request.type_url,
            resource_names_subscribe: subscribe,
            resource_names_unsubscribe: unsubscribe,
            response_nonce: request.response_nonce,
            error_detail: request.error_detail,
            ..Default::default()
        }
    }

    fn compare(&self, kind: TypeUrl, request: &DiscoveryRequest) -> (Vec<String>, Vec<String>) {
        let locators = request.resource_locators.iter();
        let plain = locators.filter(|one| is_plain(one)).map(|one| &one.name);
        let listed: BTreeSet<&str> = request
            .resource_names
            .iter()
            .chain(plain)
            .map(String::as_str)
            .collect();
        if listed.is_empty() && self.is_unnamed(kind) {
            return Default::default();
        }
        let known = |name: &str| match name {
            // By its name at last: from here on no names mean nothing.
            WILDCARD => self.is_wildcard(kind) && !self.is_unnamed(kind),
            name => self.names(kind).contains(name),
        };
        let new = listed.iter().filter(|name| !known(name));
        let subscribe = new.map(|name| (*name).to_owned()).collect();
        let wildcard = self.is_wildcard(kind).then_some(WILDCARD);
        let before = self.names(kind).iter().map(|name| &**name).chain(wildcard);
        let gone = before.filter(|name| !listed.contains(name));
        (subscribe, gone.map(str::to_owned).collect())
    }
}
