//! What the demo's servers answer, in JSON and in protobuf: who they are, whom they saw, and what they were sent.

use serde::{Deserialize, Serialize};

/// The header by which a verified client is named to the application.
pub(super) const XFCC: &str = "x-forwarded-client-cert";

/// A server's answer.
#[derive(Clone, PartialEq, prost::Message, Serialize, Deserialize)]
pub(super) struct Reply {
    #[prost(string, tag = "1")]
    pub(super) server: String,
    /// The XFCC header as it arrived; empty where there was none.
    #[prost(string, tag = "2")]
    pub(super) xfcc: String,
    /// The request's body.
    #[prost(string, tag = "3")]
    pub(super) echo: String,
}

/// A gRPC request.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Hello {
    #[prost(string, tag = "1")]
    pub(super) body: String,
}

/// The identity that an XFCC header names last: the nearest client's `URI`. `-` where there is none.
pub(super) fn identity(xfcc: &str) -> String {
    let nearest = xfcc.rsplit(',').next().unwrap_or_default();
    let uri = nearest
        .split(';')
        .find_map(|part| part.trim().strip_prefix("URI="));
    uri.map_or_else(|| "-".to_string(), |uri| uri.trim_matches('"').to_string())
}

#[cfg(test)]
mod tests {
    use super::identity;

    #[test]
    fn the_nearest_client_is_named() {
        let check =
            |header: &str, expected: &str| assert_eq!(identity(header), expected, "{header}");
        check("", "-");
        check(
            "By=spiffe://d/ns/demo/sa/api;Hash=ab;URI=spiffe://d/ns/demo/sa/web",
            "spiffe://d/ns/demo/sa/web",
        );
        check(
            "URI=spiffe://d/far,Hash=1;URI=spiffe://d/near",
            "spiffe://d/near",
        );
        check("Hash=ab", "-");
    }
}
