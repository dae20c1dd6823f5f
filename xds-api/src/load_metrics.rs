//! What LRS leaves to agreement.

/// The metric of a locality's requests that tells how long their answers took to begin, in seconds.
pub const ANSWER_SECONDS: &str = "maille.answer_seconds";

/// The feature of a client's node that says: asked for all of its clusters, it reports all, without their names having been listed.
pub const SENDS_ALL: &str = "envoy.lrs.supports_send_all_clusters";
