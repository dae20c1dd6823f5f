//! `maille get`: shows objects as they are stored, as they could be applied again.

use serde::Serialize;
use serde_json::Value;
use xds_api::generated::maille::v1 as api;

use crate::args::objects::Get;
use crate::cluster::Cluster;
use crate::failure::{Exit, Failure, Outcome};
use crate::printer::{Format, Printer, Rows, data, say};

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
    match items.as_slice() {
        [one] if !args.name.is_empty() => printer.result(one, || table(&answer.objects)),
        _ => printer.result(
            &Listed {
                index: state.index,
                items,
            },
            || table(&answer.objects),
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

/// Objects of several kinds have several sets of columns: each kind is a table of its own, so only common columns are shown then.
fn table(objects: &[api::Object]) -> Rows {
    let one_kind = objects.windows(2).all(|pair| pair[0].kind == pair[1].kind);
    let own = match objects.first() {
        Some(first) if one_kind => first.columns.clone(),
        _ => Vec::new(),
    };
    let common = ["kind", "namespace", "name"].map(String::from);
    let mut rows =
        Rows::new(common.into_iter().chain(own.iter().cloned())).wide(["changed at", "author"]);
    for object in objects {
        let cells = object.cells.iter().take(own.len()).cloned();
        let last = [object.changed_at.to_string(), object.author.clone()];
        rows.push(
            [
                object.kind.clone(),
                object.namespace.clone(),
                object.name.clone(),
            ]
            .into_iter()
            .chain(cells)
            .chain(last),
        );
    }
    rows
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
        }
    }

    #[test]
    fn one_kind_shows_its_own_columns() {
        let rows = table(&[object("Service", &["ports"], &["8080"])]);
        assert_eq!(
            rows.render(false),
            "KIND     NAMESPACE  NAME  PORTS\nService  demo       api   8080\n"
        );
    }

    #[test]
    fn several_kinds_show_what_they_have_in_common() {
        let rows = table(&[
            object("Service", &["ports"], &["8080"]),
            object("Workload", &["address"], &["10.0.0.1"]),
        ]);
        let text = rows.render(true);
        assert_eq!(
            text.lines().next(),
            Some("KIND      NAMESPACE  NAME  CHANGED AT  AUTHOR")
        );
        assert_eq!(text.lines().count(), 3);
    }
}
