//! The tables of fields and the strict types say the same: whatever passes the one reads as the other, and every field
//! of the types is in a table.

use proptest::{prelude::*, strategy::BoxedStrategy};
use serde_json::{Map, Value, json};

use crate::{
    language::{
        format::Format,
        shape::{Absent, Field, Shape},
        tables,
    },
    model::{AnyObject, Kind},
};

/// Any value that passes a shape.
fn value(shape: Shape) -> BoxedStrategy<Value> {
    match shape {
        Shape::Object(fields) => object(fields, &[]),
        Shape::Tagged(fields, variants) => object(fields, variants),
        Shape::List(item, least) => prop::collection::vec(value(*item), least..least + 2)
            .prop_map(Value::from)
            .boxed(),
        Shape::Map(..) => Just(json!({"app": "web"})).boxed(),
        Shape::Text(format) => Just(Value::from(sample(format))).boxed(),
        Shape::Integer(least, most) => {
            let (least, most) = (i64::try_from(least).unwrap(), i64::try_from(most).unwrap());
            (least..=most).prop_map(Value::from).boxed()
        }
        Shape::Choice(words) => prop::sample::select(words.to_vec())
            .prop_map(Value::from)
            .boxed(),
        Shape::Duration => prop::sample::select(vec!["10s", "1h30m", "250ms"])
            .prop_map(Value::from)
            .boxed(),
        Shape::PortRef => prop_oneof![Just(json!(8080)), Just(json!("http"))].boxed(),
        Shape::RetryOn(words) => prop_oneof![
            prop::sample::select(words.to_vec()).prop_map(Value::from),
            Just(json!(503))
        ]
        .boxed(),
    }
}

fn object(
    fields: &'static [Field],
    variants: &'static [(&'static str, &'static str)],
) -> BoxedStrategy<Value> {
    let mut all = Just(Map::new()).boxed();
    for field in fields {
        let may_miss = field.absent != Absent::Refused;
        let there = any::<bool>().prop_map(move |there| there || !may_miss);
        all = (all, there, value(field.shape))
            .prop_map(|(mut map, there, value)| {
                if there {
                    map.insert(field.name.to_owned(), value);
                }
                map
            })
            .boxed();
    }
    if variants.is_empty() {
        return all.prop_map(Value::Object).boxed();
    }
    let chosen = |variant: &(&'static str, &'static str)| {
        let field = fields.iter().find(|field| field.name == variant.1).unwrap();
        let (tag, name) = *variant;
        value(field.shape)
            .prop_map(move |value| json!({"type": tag, name: value}))
            .boxed()
    };
    prop::strategy::Union::new(variants.iter().map(chosen)).boxed()
}

const fn sample(format: Format) -> &'static str {
    match format {
        Format::Any | Format::ApiGroup | Format::Label | Format::Subdomain | Format::LabelKey => {
            "some"
        }
        Format::LabelValue
        | Format::PortName
        | Format::HeaderName
        | Format::HeaderValue
        | Format::Hostname => "some",
        Format::Path | Format::PathValue | Format::PathPattern => "/some",
        Format::Method => "GET",
        Format::Address => "192.0.2.1",
        Format::SocketAddress => "[::1]:80",
        Format::Cidr4 => "10.0.0.0/16",
        Format::Cidr6 => "fd00::/64",
        Format::IdentityPattern => "spiffe://test.mesh/ns/a/sa/b",
        Format::Locality => "eu/a",
    }
}

#[test]
fn what_passes_the_tables_reads_as_its_type_and_comes_back() {
    for kind in Kind::ALL {
        let config = ProptestConfig {
            cases: 60,
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        proptest!(config, |(spec in value(Shape::Object(tables::spec(kind))))| {
            let document = json!({
                "apiVersion": kind.api_version(),
                "kind": kind.name(),
                "metadata": {"name": "some"},
                "spec": spec,
            });
            let object = AnyObject::from_json(kind, &document.to_string());
            prop_assert!(object.is_ok(), "{document}\n{:?}", object.err().map(|error| {
                std::error::Error::source(&error).map(ToString::to_string)
            }));
            let json = object.unwrap().to_json();
            let again = AnyObject::from_json(kind, &json).unwrap();
            prop_assert_eq!(again.to_json(), json);
        });
    }
}

/// Fields of services that only what was observed in Kubernetes has: people do not write them.
const OBSERVED: [&str; 2] = ["clusterIPs", "publishNotReadyAddresses"];

/// serde names the fields that it knows when it meets another.
#[test]
fn the_types_have_no_field_that_the_tables_lack() {
    let known = |kind: Kind, path: &[&str]| -> Vec<String> {
        let mut inner = json!({"zzz": 1});
        for step in path.iter().rev() {
            inner = if let Some(name) = step.strip_suffix("[]") {
                json!({name: [inner]})
            } else {
                json!({*step: inner})
            };
        }
        let document = json!({
            "apiVersion": kind.api_version(), "kind": kind.name(), "metadata": {"name": "a"}, "spec": inner,
        });
        let error = AnyObject::from_json(kind, &document.to_string()).unwrap_err();
        let text = std::error::Error::source(&error).unwrap().to_string();
        let list = text
            .split("expected")
            .nth(1)
            .unwrap_or_else(|| panic!("{kind} {path:?}: {text}"));
        list.split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    };
    fn visit(
        kind: Kind,
        fields: &[Field],
        path: &[&str],
        known: &dyn Fn(Kind, &[&str]) -> Vec<String>,
    ) {
        let mut wanted: Vec<String> = fields.iter().map(|field| field.name.to_owned()).collect();
        let mut actual = known(kind, path);
        if kind == Kind::Service {
            actual.retain(|field| !OBSERVED.contains(&field.as_str()));
        }
        wanted.sort();
        actual.sort();
        assert_eq!(wanted, actual, "{kind} {path:?}");
        for field in fields {
            let (step, shape) = match field.shape {
                Shape::List(item, _) => (format!("{}[]", field.name), *item),
                shape => (field.name.to_owned(), shape),
            };
            // A tagged object reads its tag before anything else, so it names no fields here; the other test covers it.
            if let Shape::Object(fields) = shape {
                visit(kind, fields, &[path, &[step.as_str()]].concat(), known);
            }
        }
    }
    for kind in Kind::ALL {
        visit(kind, tables::spec(kind), &[], &known);
    }
}
