//! The bootstrap of an Envoy: everything comes through the agent's socket. Pure.

use serde_json::{Value, json};

use crate::agent::settings::Settings;

/// The cluster that is the agent. It is the `:authority` of its calls too, so it must be a host's name.
const AGENT: &str = "agent";
/// Between attempts at a stream. Envoy's own pauses grow to 30 s: an agent that is a moment late would keep it waiting for long.
const RETRY: (&str, &str) = ("0.1s", "1s");
/// The largest program of an expression. Expressions tell who is kept out of an opaque port, and Envoy's own limit of 100 is less than a long name needs.
const PROGRAM: u32 = 512;

/// What `envoy --config-path` reads.
pub fn bootstrap(settings: &Settings, service_account: &str, admin_port: u16) -> Value {
    let by_ads = json!({"ads": {}, "resource_api_version": "V3"});
    json!({
        "node": node(settings, service_account),
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [agent_service()],
            },
            "lds_config": by_ads,
            "cds_config": by_ads,
        },
        "cluster_manager": {
            "load_stats_config": {
                "api_type": "GRPC",
                "transport_api_version": "V3",
                "grpc_services": [agent_service()],
            },
        },
        "static_resources": {"clusters": [agent_cluster(settings)]},
        "layered_runtime": {"layers": [{
            "name": "maille",
            "static_layer": {"re2.max_program_size.error_level": PROGRAM},
        }]},
        "admin": {
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": admin_port}},
        },
    })
}

/// That this is Envoy's dialect stands in it, too.
fn node(settings: &Settings, service_account: &str) -> Value {
    let mut node = settings.node(service_account);
    node["metadata"] = json!({"maille": "envoy"});
    node
}

fn agent_service() -> Value {
    let (base, longest) = RETRY;
    json!({
        "envoy_grpc": {
            "cluster_name": AGENT,
            "retry_policy": {
                "retry_back_off": {"base_interval": base, "max_interval": longest},
            },
        },
    })
}

fn agent_cluster(settings: &Settings) -> Value {
    const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let address = json!({"pipe": {"path": settings.agent.socket}});
    json!({
        "name": AGENT,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            OPTIONS: {
                "@type": format!("type.googleapis.com/{OPTIONS}"),
                "explicit_http_config": {"http2_protocol_options": {}},
            },
        },
        "load_assignment": {
            "cluster_name": AGENT,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::settings::tests::settings;

    #[test]
    fn everything_comes_through_the_agent() {
        insta::assert_json_snapshot!(bootstrap(&settings(), "web", 4792));
    }

    #[test]
    fn a_workload_without_a_locality_has_none() {
        let mut settings = settings();
        settings.workload.locality.clear();
        assert_eq!(node(&settings, "web").get("locality"), None);
        settings.workload.locality = "eu".into();
        let expected = json!({"region": "eu", "zone": ""});
        assert_eq!(node(&settings, "web")["locality"], expected);
    }
}
