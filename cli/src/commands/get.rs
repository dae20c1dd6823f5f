//! `maille get`: shows objects as they are stored, as they could be applied again.

use serde::Serialize;
use serde_json::Value;
use xds_api::generated::maille::v1 as api;

use crate::args::objects::Get;
use crate::cluster::Cluster;
use crate::failure::{Exit, Failure, Outcome};
use crate::printer::{Format, Printer, Rows, data, or_dash, say};

/// Names in a cell.
const NAMED: usize = 3;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    index: u64,
    items: Vec<Value>,
}

pub(super) async fn run(args: &Get, cluster: &Cluster, printer: Printer) -> Outcome {
    let request = api::GetRequest {
        kind: args.kind.clone(),
        namespace: args.scope.namespace.clone(),
        all_namespaces: args.scope.all_namespaces,
        name: args.name.clone(),
        consistency: args.consistency.to_wire().into(),
    };
    let answer = cluster
        .call(async |mut client| Ok(client.get(request.clone()).await?.into_inner()))
        .await;
    let answer = answer.map_err(|status| Failure::from_status("get", &status, &[]))?;
    let state = answer.state.unwrap_or_default();
    if state.age_millis > 0 {
        say(&format!(
            "as {} knew it; it last heard from a leader {} ms ago",
            state.controller, state.age_millis
        ));
    }
    if !args.name.is_empty() && answer.objects.is_empty() {
        let message = format!(
            "there is no {} {} in {}",
            args.kind, args.name, args.scope.namespace
        );
        return Err(Failure::new(Exit::NotFound, message).next(format!(
            "`maille get {} -A` lists those of every namespace",
            args.kind
        )));
    }
    if printer.format() == Format::Yaml {
        return yaml(&answer.objects);
    }
    let items = answer
        .objects
        .iter()
        .map(parse)
        .collect::<Outcome<Vec<_>>>()?;
    let live = live(&answer.objects, cluster, printer).await?;
    let rows = || table(&answer.objects, &live);
    match items.as_slice() {
        [one] if !args.name.is_empty() => printer.result(one, rows),
        _ => printer.result(
            &Listed {
                index: state.index,
                items,
            },
            rows,
        ),
    }
}

fn parse(object: &api::Object) -> Outcome<Value> {
    serde_json::from_str(&object.json).map_err(|error| {
        Failure::failed(format!("read {} {}", object.kind, object.name)).caused_by(error)
    })
}

/// YAML is what `apply -f` takes: one document an object.
fn yaml(objects: &[api::Object]) -> Outcome {
    for object in objects {
        let value = parse(object)?;
        let text = serde_saphyr::to_string(&value)
            .map_err(|error| Failure::failed("write the object as YAML").caused_by(error))?;
        data(&format!("---\n{text}"))?;
    }
    Ok(())
}

/// Objects of several kinds have several sets of columns: only what all have in common is shown then.
fn table(objects: &[api::Object], live: &[String]) -> Rows {
    let one_kind = objects.windows(2).all(|pair| pair[0].kind == pair[1].kind);
    let first = objects.first().filter(|_| one_kind);
    let (narrow, wide) = first
        .map(|first| split(&first.columns, first))
        .unwrap_or_default();
    let wide = &wide[..wide.len().saturating_sub(1)];
    let common = ["kind", "namespace", "name"];
    let mut rows = Rows::new(common.into_iter().map(String::from).chain(narrow))
        .wide(wide.iter().cloned())
        .wide(["changed at", "author", "live", "warnings"]);
    for (object, live) in objects.iter().zip(live) {
        let (narrow, mut wide) = split(&object.cells, object);
        let warnings = wide.pop().unwrap_or_default();
        let own = narrow.into_iter().chain(wide).filter(|_| one_kind);
        let names = [&object.kind, &object.namespace, &object.name];
        let last = [
            object.changed_at.to_string(),
            object.author.clone(),
            live.clone(),
            or_dash(&warnings),
        ];
        rows.push(names.into_iter().cloned().chain(own).chain(last));
    }
    rows
}

/// What is always shown, and what only `-o wide` shows.
fn split(all: &[String], object: &api::Object) -> (Vec<String>, Vec<String>) {
    let wide = usize::try_from(object.wide_columns).unwrap_or(usize::MAX);
    let (narrow, wide) = all.split_at(all.len().saturating_sub(wide));
    (narrow.to_vec(), wide.to_vec())
}

/// Whether each object's last change is live: what every proxy has acknowledged, asked once for all of them.
async fn live(
    objects: &[api::Object],
    cluster: &Cluster,
    printer: Printer,
) -> Outcome<Vec<String>> {
    if printer.format() != Format::Wide {
        return Ok(vec![String::new(); objects.len()]);
    }
    let answer = cluster
        .call(async |mut client| Ok(client.proxies(api::ProxiesRequest {}).await?.into_inner()))
        .await;
    let answer = answer.map_err(|status| Failure::from_status("ask the proxies", &status, &[]))?;
    let of = |object: &api::Object| liveness(object.changed_at, &answer.proxies);
    Ok(objects.iter().map(of).collect())
}

fn liveness(changed_at: u64, proxies: &[api::Proxy]) -> String {
    let behind = proxies.iter().filter(|one| one.clean_through < changed_at);
    let mut names: Vec<&str> = behind.map(|one| one.node.as_str()).collect();
    names.dedup();
    match names.as_slice() {
        [] => "live".to_owned(),
        few if few.len() <= NAMED => format!("behind: {}", few.join(", ")),
        many => {
            let more = many.len() - NAMED;
            format!("behind: {} and {more} more", many[..NAMED].join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: &str, columns: &[&str], cells: &[&str]) -> api::Object {
        api::Object {
            kind: kind.into(),
            namespace: "demo".into(),
            name: "api".into(),
            json: "{}".into(),
            changed_at: 7,
            author: "admin".into(),
            columns: columns.iter().map(|text| text.to_string()).collect(),
            cells: cells.iter().map(|text| text.to_string()).collect(),
            wide_columns: 1,
        }
    }

    #[test]
    fn one_kind_shows_its_own_columns() {
        let columns = &["ports", "warnings"];
        let rows = table(
            &[object("Service", columns, &["8080", ""])],
            &["live".into()],
        );
        assert_eq!(
            rows.render(false),
            "KIND     NAMESPACE  NAME  PORTS\nService  demo       api   8080\n"
        );
        assert_eq!(
            rows.render(true),
            "KIND     NAMESPACE  NAME  PORTS  CHANGED AT  AUTHOR  LIVE  WARNINGS\nService  demo       api   8080   7           admin   live  -\n"
        );
    }

    #[test]
    fn several_kinds_show_what_they_have_in_common() {
        let both = [
            object("Service", &["ports", "warnings"], &["8080", ""]),
            object("Workload", &["address", "warnings"], &["10.0.0.1", "odd"]),
        ];
        let text = table(&both, &["live".into(), "live".into()]).render(true);
        let mut lines = text.lines();
        assert_eq!(
            lines.next(),
            Some("KIND      NAMESPACE  NAME  CHANGED AT  AUTHOR  LIVE  WARNINGS")
        );
        assert!(lines.next_back().is_some_and(|line| line.ends_with("odd")));
    }

    #[test]
    fn an_object_is_live_once_everybody_has_acknowledged_its_last_change() {
        let proxies = ["a/a", "a/b", "a/c", "a/d", "a/e"].map(|node| api::Proxy {
            node: node.to_owned(),
            clean_through: if node == "a/a" { 9 } else { 4 },
            ..Default::default()
        });
        assert_eq!(liveness(4, &proxies), "live");
        assert_eq!(liveness(7, &proxies[..2]), "behind: a/b");
        assert_eq!(liveness(7, &proxies), "behind: a/b, a/c, a/d and 1 more");
        assert_eq!(liveness(7, &[]), "live");
    }
}
