//! `maille routes`: the rules of HTTPRoutes and GRPCRoutes, one a line.

use serde::Serialize;
use serde_json::Value;
use xds_api::generated::maille::v1 as api;

use crate::args::objects::Routes;
use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::printer::{Printer, Rows};

/// The kinds that are routes.
const KINDS: [&str; 2] = ["HTTPRoute", "GRPCRoute"];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    kind: String,
    namespace: String,
    route: String,
    rule: usize,
    services: Vec<String>,
    matches: Vec<String>,
    backends: Vec<String>,
    filters: Vec<String>,
    timeout: String,
}

pub(super) async fn run(args: &Routes, cluster: &Cluster, printer: Printer) -> Outcome {
    let mut rules = Vec::new();
    for kind in KINDS {
        for object in objects(kind, args, cluster).await? {
            let route = serde_json::from_str(&object.json).map_err(|error| {
                Failure::failed(format!("read route {}", object.name)).caused_by(error)
            })?;
            rules.extend(rules_of(&object, &route));
        }
    }
    rules.retain(|rule| {
        args.service.as_ref().is_none_or(|service| {
            rule.services.iter().any(|parent| {
                let parent = parent.split(':').next().unwrap_or_default();
                parent == service || parent.rsplit('/').next() == Some(service)
            })
        })
    });
    printer.result(&rules, || table(&rules))
}

async fn objects(kind: &str, args: &Routes, cluster: &Cluster) -> Outcome<Vec<api::Object>> {
    let request = api::GetRequest {
        kind: kind.into(),
        namespace: args.scope.namespace.clone(),
        all_namespaces: args.scope.all_namespaces,
        name: String::new(),
        consistency: api::Consistency::Default.into(),
    };
    let answer = cluster
        .call(async |mut client| Ok(client.get(request.clone()).await?.into_inner()))
        .await;
    let answer = answer.map_err(|status| Failure::from_status("list the routes", &status, &[]))?;
    Ok(answer.objects)
}

fn rules_of(object: &api::Object, route: &Value) -> Vec<Rule> {
    let spec = &route["spec"];
    let services = list(&spec["parentRefs"]).map(reference).collect::<Vec<_>>();
    list(&spec["rules"])
        .enumerate()
        .map(|(index, rule)| Rule {
            kind: object.kind.clone(),
            namespace: object.namespace.clone(),
            route: object.name.clone(),
            rule: index + 1,
            services: services.clone(),
            matches: list(&rule["matches"]).map(describe_match).collect(),
            backends: list(&rule["backendRefs"]).map(backend_of).collect(),
            filters: list(&rule["filters"])
                .filter_map(|filter| filter["type"].as_str().map(String::from))
                .collect(),
            timeout: text(&rule["timeouts"]["request"]),
        })
        .collect()
}

fn table(rules: &[Rule]) -> Rows {
    let mut rows = Rows::new([
        "namespace",
        "route",
        "rule",
        "service",
        "matches",
        "backends",
        "timeout",
    ])
    .wide(["filters", "kind"]);
    let joined = |texts: &[String], separator: &str, none: &str| {
        if texts.is_empty() {
            none.to_string()
        } else {
            texts.join(separator)
        }
    };
    for rule in rules {
        rows.push([
            rule.namespace.clone(),
            rule.route.clone(),
            rule.rule.to_string(),
            joined(&rule.services, ",", "-"),
            joined(&rule.matches, " | ", "everything"),
            joined(&rule.backends, " ", "-"),
            crate::printer::or_dash(&rule.timeout),
            joined(&rule.filters, ",", "-"),
            rule.kind.clone(),
        ]);
    }
    rows
}

fn describe_match(value: &Value) -> String {
    let mut parts = Vec::new();
    if let Some(method) = value["method"].as_str() {
        parts.push(method.to_string());
    }
    if let Some(path) = value["path"]["value"].as_str() {
        let form = if value["path"]["type"] == "Exact" {
            "="
        } else if value["path"]["type"] == "RegularExpression" {
            "~"
        } else {
            ""
        };
        parts.push(format!("{form}{path}"));
    }
    if value["method"].is_object() {
        parts.push(describe_call(&value["method"]));
    }
    parts.extend(
        list(&value["headers"])
            .map(|header| format!("{}: {}", text(&header["name"]), text(&header["value"]))),
    );
    parts.extend(
        list(&value["queryParams"])
            .map(|query| format!("?{}={}", text(&query["name"]), text(&query["value"]))),
    );
    if parts.is_empty() {
        "everything".to_string()
    } else {
        parts.join(" ")
    }
}

/// `shop.Cart/Add`, with `*` for what is not asked about.
fn describe_call(method: &Value) -> String {
    let form = match method["type"] == "RegularExpression" {
        true => "~",
        false => "",
    };
    let part = |name: &str| method[name].as_str().unwrap_or("*");
    format!("{form}{}/{}", part("service"), part("method"))
}

fn backend_of(value: &Value) -> String {
    let weight = value["weight"]
        .as_u64()
        .map(|weight| format!("={weight}"))
        .unwrap_or_default();
    format!("{}{weight}", reference(value))
}

fn reference(value: &Value) -> String {
    let port = value["port"]
        .as_u64()
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    let namespace = value["namespace"].as_str().map(|name| format!("{name}/"));
    let namespace = namespace.unwrap_or_default();
    format!("{namespace}{}{port}", text(&value["name"]))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_rule_is_a_line() {
        let route = json!({"spec": {
            "parentRefs": [{"kind": "Service", "name": "api", "port": 8080}],
            "rules": [
                {"matches": [{"method": "GET", "path": {"type": "Exact", "value": "/a"}, "headers": [{"name": "x", "value": "1"}]}],
                 "backendRefs": [{"name": "api-v1", "port": 8080, "weight": 90}, {"name": "api-v2", "port": 8080, "weight": 10}],
                 "timeouts": {"request": "2s"}},
                {"backendRefs": [{"name": "api-v1", "port": 8080}]}
            ]
        }});
        let lines = lines("HTTPRoute", &route);
        assert_eq!(
            lines[1],
            "demo api 1 api:8080 GET =/a x: 1 api-v1:8080=90 api-v2:8080=10 2s"
        );
        assert_eq!(lines[2], "demo api 2 api:8080 everything api-v1:8080 -");
    }

    #[test]
    fn a_call_is_shown_as_service_and_method() {
        let route = json!({"spec": {
            "parentRefs": [{"kind": "Service", "name": "api", "namespace": "shop"}],
            "rules": [{
                "matches": [
                    {"method": {"service": "shop.Cart", "method": "Add"}},
                    {"method": {"type": "RegularExpression", "service": "shop.*"}, "headers": [{"name": "x", "value": "1"}]},
                ],
                "backendRefs": [{"name": "api", "namespace": "shop", "port": 80}],
            }],
        }});
        let lines = lines("GRPCRoute", &route);
        assert_eq!(
            lines[1],
            "demo api 1 shop/api shop.Cart/Add | ~shop.*/* x: 1 shop/api:80 -"
        );
    }

    fn lines(kind: &str, route: &Value) -> Vec<String> {
        let object = api::Object {
            kind: kind.to_owned(),
            namespace: "demo".to_owned(),
            name: "api".to_owned(),
            ..Default::default()
        };
        let text = table(&rules_of(&object, route)).render(false);
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.lines().map(words).collect()
    }
}
