//! An Envoy pair by static configuration, one worker each: mutual TLS between them, HTTP/1 and gRPC on listeners of their own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use maille_tests::ports;

use crate::pair::Pair;

/// Starts the pair in front of `backend`.
pub(crate) fn start(envoy: &Path, directory: &Path, backend: SocketAddr) -> anyhow::Result<Pair> {
    let (http1, grpc) = (ports::free(), ports::free());
    let (mesh_http1, mesh_grpc) = (ports::free(), ports::free());
    let client = bootstrap(
        vec![listener("http1", http1, None), listener("grpc", grpc, None)],
        vec![
            cluster("http1", mesh_http1, Some(directory), false),
            cluster("grpc", mesh_grpc, Some(directory), true),
        ],
    );
    let server = bootstrap(
        vec![
            listener("http1", mesh_http1, Some(directory)),
            listener("grpc", mesh_grpc, Some(directory)),
        ],
        vec![
            cluster("http1", backend, None, false),
            cluster("grpc", backend, None, true),
        ],
    );
    let mut pair = Pair::new("envoy", http1, grpc);
    for (id, (name, bootstrap)) in [("server", server), ("client", client)].iter().enumerate() {
        let file: PathBuf = directory.join(format!("envoy-{name}.json"));
        std::fs::write(&file, serde_json::to_vec_pretty(bootstrap)?)?;
        let base_id = (std::process::id() % 10_000 * 10 + id as u32).to_string();
        let file = file.to_string_lossy().into_owned();
        pair.spawn(
            envoy,
            &[
                "-c",
                &file,
                "--concurrency",
                "1",
                "--base-id",
                &base_id,
                "-l",
                "error",
            ],
        )?;
    }
    Ok(pair)
}

fn bootstrap(listeners: Vec<Value>, clusters: Vec<Value>) -> Value {
    json!({ "static_resources": { "listeners": listeners, "clusters": clusters } })
}

fn address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

fn tls_context(directory: &Path) -> Value {
    let file = |name: &str| json!({ "filename": directory.join(name).to_string_lossy() });
    json!({
        "tls_certificates": [{ "certificate_chain": file("cert.pem"), "private_key": file("key.pem") }],
        "validation_context": { "trusted_ca": file("ca.pem") },
        "alpn_protocols": ["h2", "http/1.1"],
    })
}

fn listener(name: &str, listen: SocketAddr, tls: Option<&Path>) -> Value {
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "codec_type": "AUTO",
        "route_config": { "virtual_hosts": [{
            "name": name, "domains": ["*"],
            "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": name, "timeout": "10s" } }],
        }]},
        "http_filters": [{ "name": "router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } }],
    });
    let mut chain = json!({ "filters": [{ "name": "hcm", "typed_config": manager }] });
    if let Some(directory) = tls {
        chain["transport_socket"] = json!({ "name": "tls", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": true,
            "common_tls_context": tls_context(directory),
        }});
    }
    json!({ "name": name, "address": address(listen), "filter_chains": [chain] })
}

fn cluster(name: &str, upstream: SocketAddr, tls: Option<&Path>, http2: bool) -> Value {
    let protocol = if http2 {
        json!({ "http2_protocol_options": {} })
    } else {
        json!({ "http_protocol_options": {} })
    };
    let mut cluster = json!({
        "name": name, "type": "STATIC", "connect_timeout": "2s",
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [
            { "endpoint": { "address": address(upstream) } } ] }] },
        "circuit_breakers": { "thresholds": [{ "max_connections": 4096, "max_pending_requests": 4096, "max_requests": 4096 }] },
        "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": protocol } },
    });
    if let Some(directory) = tls {
        let mut context = tls_context(directory);
        context["alpn_protocols"] = json!([if http2 { "h2" } else { "http/1.1" }]);
        cluster["transport_socket"] = json!({ "name": "tls", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": "bench.maille",
            "common_tls_context": context,
        }});
    }
    cluster
}
