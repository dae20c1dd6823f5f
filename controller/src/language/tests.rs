//! What is refused, with which words, and what passes.
#![allow(clippy::unwrap_used)]

mod agreement;

use super::{Reading, read, reference};

/// One line for every problem and warning.
fn shown(text: &str) -> String {
    let reading = read([("mesh.yaml", text)]);
    lines(&reading)
}

fn lines(reading: &Reading) -> String {
    let problems = reading
        .problems
        .iter()
        .map(|problem| format!("error {problem}"));
    let warnings = reading
        .warnings
        .iter()
        .map(|warning| format!("warning {warning}"));
    let objects = reading
        .objects
        .iter()
        .map(|written| format!("object {}", written.key));
    problems
        .chain(warnings)
        .chain(objects)
        .collect::<Vec<_>>()
        .join("\n")
}

fn route(rest: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r}}\nspec:\n  parentRefs: [{{kind: Service, name: web}}]\n  rules:\n{rest}"
    )
}

fn ours(kind: &str, spec: &str) -> String {
    format!("apiVersion: maille.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: p}}\nspec: {spec}\n")
}

fn service(spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {spec}\n")
}

#[test]
fn documents_are_told_apart_by_version_and_kind() {
    let told = [
            "just text",
            "kind: Service\nmetadata: {name: a}",
            "apiVersion: v1\nkind: Servise\nmetadata: {name: a}\nspec: {}",
            "apiVersion: v1\nkind: svc\nmetadata: {name: a}\nspec: {}",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {}",
            "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: HTTPRoute\nmetadata: {name: a}\nspec: {}",
            "apiVersion: v1\nkind: 7\nmetadata: {name: a}",
            "apiVersion: v1\nkind: Service",
            "apiVersion: v1\nkind: Service\nmetadata: {name: Web_1, uid: x, labels: {'-a': b, c: 'x y', d: 1}, anotations: {}}\nspec: {ports: [{port: 1}], selector: {a: b}}\nmore: 1",
            "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: 1}], selector: {a: b}}\nstatus: {anything: 1}",
        ]
        .map(shown)
        .join("\n---\n");
    insta::assert_snapshot!(told);
}

#[test]
fn every_document_and_file_is_read_before_the_first_mistake_is_told() {
    let first = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: []}\n---\n# nothing\n---\napiVersion: v1\nkind: Service\nmetadata:\n  name: b\nspec:\n  selectors: {app: b}\n  ports:\n  - port: 70000\n  - prot: 80\n";
    let second = "apiVersion: v1\nkind: Service\nmetadata: {name: c}\nspec: {selector: {app: c}, ports: [{port: 80}]}\n---\n{ this: is [ not yaml\n";
    let third = "{\"apiVersion\": \"v1\", \"kind\": \"Service\", \"metadata\": {\"name\": \"c\"},\n \"spec\": {\"selector\": {\"app\": \"c\"}, \"ports\": [{\"port\": 80}]}}";
    let told = lines(&read([
        ("a.yaml", first),
        ("b.yaml", second),
        ("c.json", third),
    ]));
    insta::assert_snapshot!(told);
}

#[test]
fn services_are_checked() {
    let told = [
            "{selector: {app: a}}",
            "{selector: {app: a}, ports: []}",
            "{ports: [{port: 80}]}",
            "{selector: {app: a}, ports: [{port: 80, name: a}, {port: 80, name: b}]}",
            "{selector: {app: a}, ports: [{port: 80, name: a}, {port: 81, name: a}, {port: 82}]}",
            "{selector: {app: a}, ports: [{port: 80, protocol: UDP, appProtocol: htpp, targetPort: 0}]}",
            "{selector: {app: a}, ports: [{port: '80', targetPort: Http_Port}]}",
            "{selector: {app: a}, ports: {port: 80}, type: LoadBalancer, clusterIP: None}",
            "{selector: [app], ports: }",
            "{selector: {app: a, app: b}, ports: [{port: 80, port: 81}]}",
        ]
        .map(|spec| shown(&service(spec)))
        .join("\n---\n");
    insta::assert_snapshot!(told);
}

#[test]
fn routes_are_checked() {
    let told = [
            "  - backendRefs: [{name: a, port: 80, weight: 0}, {name: b, port: 80, weight: 0}]\n",
            "  - backendRefs: [{name: a, port: 80}, {name: a, port: 80}]\n    timeouts: {request: 1s, backendRequest: 2s}\n",
            "  - backendRefs: [{name: a}]\n    timeouts: {request: 10, backendRequest: 1.5s}\n",
            "  - matches:\n    - path: {type: RegularExpression, value: '/a(b'}\n      headers: [{name: 'x y', value: z}, {name: A, value: b}, {name: a, value: b}]\n      method: get\n    backendRefs: [{name: a, port: 80}]\n",
            "  - matches: [{path: {type: Prefix, value: /a}}, {path: {value: a}}, {path: {type: Exact, value: '/a/../b'}}, {queryParams: [{name: q, type: RegularExpression, value: '*'}]}]\n    backendRefs: [{name: a, port: 80}]\n",
            "  - filters: [{type: RequestRedirect, requestRedirect: {statusCode: 304}}]\n    backendRefs: [{name: a, port: 80}]\n",
            "  - filters:\n    - {type: URLRewrite, requestRedirect: {port: 80}}\n    - {type: RequestMirror}\n    backendRefs: [{name: a, port: 80}]\n",
            "  - matches: [{path: {type: Exact, value: /a}}]\n    filters:\n    - {type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /b}}}\n    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: Host, value: a}], add: [{name: x-a, value: b}], remove: [X-A]}}\n    - {type: ResponseHeaderModifier, responseHeaderModifier: {}}\n    - {type: ResponseHeaderModifier, responseHeaderModifier: {remove: [a]}}\n    backendRefs: [{name: a, port: 80, filters: [{type: URLRewrite, urlRewrite: {hostname: b}}]}]\n",
            "  - {}\n",
        ]
        .map(|rules| shown(&route(rules)))
        .join("\n---\n");
    insta::assert_snapshot!(told);
    let told = shown(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: r, namespace: shop}\nspec: {parentRefs: [{kind: Gateway, name: g}, {kind: Service, name: a, namespace: other}], hostnames: [a], rules: [{backendRefs: [{name: a, port: 1}]}]}",
    );
    insta::assert_snapshot!("parents", told);
}

#[test]
fn grpc_routes_are_checked() {
    let check = |parents: &str, rules: &str, expected: &[&str]| {
        let told = shown(&format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {{name: r, namespace: shop}}\nspec:\n  parentRefs: [{parents}]\n  rules:\n{rules}"
        ));
        for text in expected {
            assert!(told.contains(text), "{text}\n{told}");
        }
    };
    let web = "{kind: Service, name: web}";
    let backend = "  - backendRefs: [{name: a, port: 80}]\n";
    check(web, backend, &["object GRPCRoute shop/r"]);
    check(
        web,
        "  - matches: [{method: {}}, {method: {service: shop/Cart, method: a.b}}, {method: {type: RegularExpression, service: '('}}]\n    backendRefs: [{name: a, port: 80}]\n",
        &[
            "error mesh.yaml:7:",
            "spec.rules[0].matches[0].method: this matches nothing",
            "`shop/Cart` is not the name of a gRPC service",
            "`a.b` is not the name of a gRPC method",
            "`(` is not a regular expression",
        ],
    );
    check(
        web,
        "  - matches: [{path: {value: /a}}]\n    filters: [{type: URLRewrite}]\n    timeouts: {request: 1s}\n",
        &[
            "there is no field `path`",
            "`URLRewrite` is not known here",
            "there is no field `timeouts`",
        ],
    );
    check(web, "  - {}\n", &["its calls end with UNAVAILABLE"]);
    check(
        "{kind: Service, name: web, namespace: desk}, {kind: Service, name: web}, {kind: Service, name: web, port: 80}, {kind: Service, name: web, namespace: shop}",
        backend,
        &[
            "spec.parentRefs[3]: this parent stands twice",
            "names all ports of Service web",
        ],
    );
}

#[test]
fn our_own_kinds_are_checked() {
    let told = [
            ours("Workload", "{addresses: [10.0.0.300, 0.0.0.0], ports: [{port: 80}, {port: 80}], locality: 'eu//a', upstreams: [{listen: '9000', service: {name: a, port: 1}}]}"),
            ours("Workload", "{upstreams: [{listen: '0.0.0.0:9000', service: {name: a, port: 1}}, {listen: '0.0.0.0:9000', service: {name: b}}]}"),
            ours("Workload", "{upstreams: [{listen: '0.0.0.0:9000', service: {name: a, port: 1}}, {listen: '0.0.0.0:9000', service: {name: b, port: 2}}]}"),
            ours("AuthorizationPolicy", "{action: Deny}"),
            ours("AuthorizationPolicy", "{action: allow, rules: []}"),
            ours("AuthorizationPolicy", "{selector: {matchLabels: {}}, targetRef: {name: web}, rules: [{from: [{}], to: [{}]}]}"),
            ours("AuthorizationPolicy", "{rules: [{from: [{identities: ['web', 'spiffe://*/sa/a', 'spiffe://test/ns/a/sa/*', 'spiffe://test/ns/a/sa/b']}], to: [{methods: [get], paths: ['a', '/a/*', '*'], ports: [0]}]}]}"),
            ours("TrafficPolicy", "{targetRef: {name: web}}"),
            ours("TrafficPolicy", "{targetRef: {name: web}, balancer: {type: peakEwma, hashHeader: x-user}, timeout: 1s, retries: {attempts: 11, on: [5xx, 503, 200, 6xx, gatewayerror], perTryTimeout: 2s}}"),
            ours("TrafficPolicy", "{targetRef: {name: web}, timeout: 1s, retries: {attempts: 2, on: [5xx, 503, 5xx], perTryTimeout: 2s, backoff: {base: 0s}, budget: {percent: 0, minConcurrency: 0}}, ejection: {consecutiveErrors: 5, interval: 0s, baseTime: 10s, maxTime: 1s, maxPercent: 0}}"),
            ours("MeshSettings", "{}"),
            "apiVersion: maille.dev/v1alpha1\nkind: MeshSettings\nmetadata: {name: default}\nspec: {mtls: {mode: strict, overrides: [{namespace: a, mode: Strict}, {namespace: a, mode: Permissive}]}, vipRange: {v4: 10.0.0.0/33, v6: 'fd00::/120'}, identity: {leafLifetime: 1s}, dns: {ttl: 2h}}".to_owned(),
            "apiVersion: maille.dev/v1alpha1\nkind: MeshSettings\nmetadata: {name: default}\nspec: {mtls: {overrides: [{namespace: a, mode: Strict}, {namespace: a, mode: Permissive}]}, vipRange: {v4: 10.0.0.0/28, v6: 'fd00::/120'}, identity: {leafLifetime: 1s}, dns: {ttl: 2h}}".to_owned(),
        ]
        .map(|text| shown(&text))
        .join("\n---\n");
    insta::assert_snapshot!(told);
}

#[test]
fn the_quickstart_reads_without_a_warning_and_fits_together() {
    let text = include_str!("../../../docs/quickstart/mesh.yaml");
    let told = shown(text);
    assert!(
        told.lines().all(|line| line.starts_with("object ")),
        "{told}"
    );
    crate::model::tests::Log::new()
        .put(text)
        .accepted()
        .unwrap();
}

#[test]
fn what_is_stored_is_canonical() {
    let check = |text: &str, expected: &str| {
        let reading = read([("mesh.yaml", text)]);
        assert_eq!(
            lines(&Reading {
                objects: vec![],
                ..Reading::default()
            }),
            "",
            "{text}"
        );
        assert!(reading.problems.is_empty(), "{}", lines(&reading));
        assert_eq!(reading.objects[0].object.to_json(), expected);
    };
    check(
        "kind: Service\napiVersion: v1\nspec: {type: ClusterIP, ports: [{protocol: TCP, port: 80}], selector: {b: c, a: d}}\nmetadata: {labels: {}, name: web}\n",
        r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"default"},"spec":{"selector":{"a":"d","b":"c"},"ports":[{"port":80}]}}"#,
    );
    check(
        &route(
            "  - {backendRefs: [{group: core, kind: Service, name: a, port: 80, weight: 1}], timeouts: {request: 1500ms}}\n",
        ),
        r#"{"apiVersion":"gateway.networking.k8s.io/v1","kind":"HTTPRoute","metadata":{"name":"r","namespace":"default"},"spec":{"parentRefs":[{"kind":"Service","name":"web"}],"rules":[{"backendRefs":[{"name":"a","port":80}],"timeouts":{"request":"1s500ms"}}]}}"#,
    );
    check(
        "apiVersion: maille.dev/v1alpha1\nkind: MeshSettings\nmetadata: {name: default}\nspec: {}\n",
        r#"{"apiVersion":"maille.dev/v1alpha1","kind":"MeshSettings","metadata":{"name":"default","namespace":"maille-system"},"spec":{}}"#,
    );
}

#[test]
fn no_text_makes_reading_panic() {
    use proptest::prelude::*;
    let text = prop_oneof![
        "\\PC{0,200}",
        "(apiVersion: v1\nkind: Service\nmetadata: \\{name: a\\}\nspec: )[\\[\\]{}:, a-z0-9\n&*!|>'\"-]{0,80}",
    ];
    proptest!(ProptestConfig { cases: 400, ..ProptestConfig::default() }, |(text in text)| {
        read([("mesh.yaml", text.as_str())]);
    });
}

#[test]
fn the_configuration_reference_is_in_step() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let made = reference::markdown();
    if std::env::var("MAILLE_REFERENCE").is_ok_and(|value| value == "write") {
        std::fs::write(&path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        made == kept,
        "docs/configuration.md is out of step; MAILLE_REFERENCE=write cargo test reference makes it anew"
    );
}
