//! Who may open an opaque connection, as an Envoy is told.

use xds_api::envoy::config::core::v3::transport_socket;
use xds_api::envoy::config::listener::v3::filter::ConfigType;
use xds_api::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use xds_api::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use xds_api::envoy::extensions::transport_sockets::tls::v3::DownstreamTlsContext;
use xds_api::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;

use super::*;
use crate::model::Kind;

const CALLERS: &str = "callers/shop/web-4:8080";

/// An Envoy `web-4` whose port is opaque; plain text is permitted.
fn opaque() -> Log {
    let mut log = mesh();
    let permissive = "apiVersion: maille.dev/v1alpha1\nkind: MeshSettings\nmetadata: {name: default, namespace: maille-system}\nspec: {}\n";
    log.run(puts(permissive)).accepted().unwrap();
    let mut opaque = envoy("web-4");
    opaque.generation = 2;
    opaque.ports[0].protocol = crate::model::Protocol::Tcp as i32;
    log.run(Command::Register(opaque)).accepted().unwrap();
    // The sample's own rules are about other things.
    let names: Vec<_> = log
        .state
        .mesh()
        .authorization_policies()
        .keys()
        .cloned()
        .collect();
    for name in names {
        log.delete(Kind::AuthorizationPolicy, &name.namespace, &name.name)
            .accepted()
            .unwrap();
    }
    log
}

fn write(log: &mut Log, spec: &str) {
    let policy = format!(
        "apiVersion: maille.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: zz, namespace: shop}}\nspec: {spec}\n"
    );
    log.run(puts(&policy)).accepted().unwrap();
}

fn names(log: &Log) -> Vec<String> {
    let secret: Secret = read(log, TypeUrl::Secret, CALLERS);
    let Some(secret::Type::ValidationContext(context)) = secret.r#type else {
        panic!("{secret:?}")
    };
    assert!(context.trusted_ca.is_some());
    let names = context.match_typed_subject_alt_names.into_iter();
    names
        .map(|one| format!("{:?}", one.matcher.unwrap().match_pattern.unwrap()))
        .collect()
}

#[test]
fn an_opaque_port_takes_whom_its_rules_let_in() {
    let mut text = String::new();
    let mut check = |spec: &str| {
        let mut log = opaque();
        if !spec.is_empty() {
            write(&mut log, spec);
        }
        writeln!(text, "{spec}").unwrap();
        let names = names(&log);
        assert!(!names.is_empty(), "that would be anybody");
        for name in names {
            writeln!(text, "  {name}").unwrap();
        }
    };
    check("");
    check("{action: Allow}");
    check("{action: Allow, rules: [{from: [{namespaces: [shop]}]}]}");
    check(
        "{action: Allow, rules: [{from: [{identities: ['spiffe://test.mesh/ns/shop/sa/a', 'spiffe://test.mesh/ns/else/sa/b'], namespaces: [shop]}]}]}",
    );
    check("{action: Allow, rules: [{from: [{identities: ['spiffe://other.mesh/*']}]}]}");
    check("{action: Allow, rules: [{from: [{namespaces: [shop]}], to: [{methods: [GET]}]}]}");
    check("{action: Deny, rules: [{from: [{identities: ['*']}]}]}");
    check("{action: Deny, rules: [{from: [{namespaces: [shop]}], to: [{methods: [GET]}]}]}");
    check("{action: Deny, rules: [{from: [{namespaces: [shop]}], to: [{ports: [9]}]}]}");
    insta::assert_snapshot!("callers", text);
}

/// The filters and the trust of a chain of `web-4`'s inbound listener.
fn chain(log: &Log, name: &str) -> (DownstreamTlsContext, String) {
    let listener: Listener = read(log, TypeUrl::Listener, "in/shop/web-4");
    let mut chains = listener.filter_chains.into_iter();
    let mut chain = chains.find(|chain| chain.name == name).unwrap();
    let Some(ConfigType::TypedConfig(last)) = chain.filters.pop().unwrap().config_type else {
        panic!("{name} ends in a filter of ECDS")
    };
    let proxy = TcpProxy::decode(last.value).unwrap();
    let Some(ClusterSpecifier::Cluster(cluster)) = proxy.cluster_specifier else {
        panic!("{proxy:?}")
    };
    let socket = chain.transport_socket.and_then(|socket| socket.config_type);
    let context = socket.map(|transport_socket::ConfigType::TypedConfig(any)| any.value);
    let context = DownstreamTlsContext::decode(context.unwrap_or_default()).unwrap();
    (context, cluster)
}

#[test]
fn the_handshake_asks_and_a_rule_changes_no_listener() {
    let mut log = opaque();
    let (context, cluster) = chain(&log, "mesh tcp 8080");
    let trusted = context.common_tls_context.unwrap().validation_context_type;
    let Some(ValidationContextType::ValidationContextSdsSecretConfig(secret)) = trusted else {
        panic!("{trusted:?}")
    };
    assert_eq!(secret.name, CALLERS);
    assert_eq!(cluster, "app/shop/web-4:8080");
    let listener = |log: &Log| {
        let name = "in/shop/web-4".into();
        let found = translate(log.state.mesh(), TypeUrl::Listener, &name).unwrap();
        let link = (TypeUrl::Secret, CALLERS.into());
        assert!(found.links.contains(&link));
        found.resource.version().to_string()
    };
    let before = listener(&log);
    write(
        &mut log,
        "{action: Deny, rules: [{from: [{namespaces: [else]}]}]}",
    );
    assert_eq!(listener(&log), before);
}

#[test]
fn who_comes_in_clear_has_no_name() {
    let check = |spec: &str, expected: &str| {
        let mut log = opaque();
        write(&mut log, spec);
        assert_eq!(chain(&log, "clear tcp 8080").1, expected, "{spec}");
    };
    let (served, denied) = ("app/shop/web-4:8080", NOWHERE);
    check(
        "{action: Deny, rules: [{from: [{namespaces: [shop]}]}]}",
        served,
    );
    check("{action: Deny, rules: [{}]}", denied);
    check("{action: Deny, rules: [{to: [{methods: [GET]}]}]}", denied);
    check(
        "{action: Allow, rules: [{from: [{namespaces: [shop]}]}]}",
        denied,
    );
    check("{action: Allow, rules: [{to: [{methods: [GET]}]}]}", denied);
    check("{action: Allow, rules: [{}]}", served);
    check("{action: Allow, rules: [{to: [{ports: [8080]}]}]}", served);
}
