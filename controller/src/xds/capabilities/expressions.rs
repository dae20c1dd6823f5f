//! What regular expressions can say here (Rust's `regex`), and RE2, which Envoy and gRPC compare with, reads otherwise or not at all.

use std::convert::Infallible;

use regex_syntax::ast::parse::Parser;
use regex_syntax::ast::{
    self, Ast, ClassSetBinaryOp, ClassSetItem, Repetition, RepetitionKind, RepetitionRange,
};

use crate::model::AnyObject;
use crate::model::kinds::http_route::{PathMatchType, ValueMatch, ValueMatchType};

/// RE2's `kMaxRepeat`, which nested repetitions share: in `(a{20}){30}` there are 600.
const REPETITIONS: u64 = 1_000;

/// Where an expression repeats more often than RE2 takes.
pub(super) fn repeats_too_often(object: &AnyObject) -> Option<String> {
    first(object, |found| found.repetitions > REPETITIONS)
}

/// Where an expression has a class within a class, or an operation between two.
pub(super) fn nests_classes(object: &AnyObject) -> Option<String> {
    first(object, |found| found.nested)
}

/// The path of the first expression of which this holds. What is no expression was refused before.
fn first(object: &AnyObject, is: fn(&Found) -> bool) -> Option<String> {
    let mut all = expressions(object).into_iter();
    let (path, _) = all.find(|(_, text)| look(text).is_some_and(|found| is(&found)))?;
    Some(path)
}

fn look(text: &str) -> Option<Found> {
    let parsed = Parser::new().parse(text).ok()?;
    let Ok(found) = ast::visit(&parsed, Look::default());
    Some(found)
}

/// Every regular expression that an object holds, with its field's path.
fn expressions(object: &AnyObject) -> Vec<(String, &str)> {
    let mut all = Vec::new();
    match object {
        AnyObject::HttpRoute(route) => {
            for (rule, one) in route.spec.rules.iter().enumerate() {
                for (number, condition) in one.matches.iter().enumerate() {
                    let at = format!("spec.rules[{rule}].matches[{number}]");
                    let path = condition.path.iter();
                    let path =
                        path.filter(|path| path.match_type == PathMatchType::RegularExpression);
                    all.extend(path.map(|path| (format!("{at}.path.value"), path.value.as_str())));
                    values(&condition.headers, &format!("{at}.headers"), &mut all);
                    values(
                        &condition.query_params,
                        &format!("{at}.queryParams"),
                        &mut all,
                    );
                }
            }
        }
        AnyObject::GrpcRoute(route) => {
            for (rule, one) in route.spec.rules.iter().enumerate() {
                for (number, condition) in one.matches.iter().enumerate() {
                    let at = format!("spec.rules[{rule}].matches[{number}]");
                    let method = condition.method.iter();
                    for method in method.filter(|one| is_expression(one.match_type)) {
                        let service = method.service.iter().map(|text| ("service", text));
                        let method = method.method.iter().map(|text| ("method", text));
                        let parts = service.chain(method);
                        all.extend(
                            parts.map(|(field, text)| {
                                (format!("{at}.method.{field}"), text.as_str())
                            }),
                        );
                    }
                    values(&condition.headers, &format!("{at}.headers"), &mut all);
                }
            }
        }
        _ => {}
    }
    all
}

fn is_expression(kind: ValueMatchType) -> bool {
    kind == ValueMatchType::RegularExpression
}

fn values<'a>(conditions: &'a [ValueMatch], at: &str, all: &mut Vec<(String, &'a str)>) {
    let found = conditions.iter().enumerate();
    let found = found.filter(|(_, one)| is_expression(one.match_type));
    all.extend(found.map(|(index, one)| (format!("{at}[{index}].value"), one.value.as_str())));
}

/// What stands in an expression.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    /// The most that something is repeated, by all the repetitions around it together.
    repetitions: u64,
    nested: bool,
}

#[derive(Default)]
struct Look {
    found: Found,
    /// How often what is looked at is repeated, outermost first.
    around: Vec<u64>,
}

impl ast::Visitor for Look {
    type Output = Found;
    type Err = Infallible;

    fn finish(self) -> Result<Found, Infallible> {
        Ok(self.found)
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), Infallible> {
        if let Ast::Repetition(one) = ast {
            let outer = self.around.last().copied().unwrap_or(1);
            let all = outer.saturating_mul(times(one));
            self.found.repetitions = self.found.repetitions.max(all);
            self.around.push(all);
        }
        Ok(())
    }

    fn visit_post(&mut self, ast: &Ast) -> Result<(), Infallible> {
        if let Ast::Repetition(_) = ast {
            self.around.pop();
        }
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), Infallible> {
        self.found.nested |= matches!(item, ClassSetItem::Bracketed(_));
        Ok(())
    }

    fn visit_class_set_binary_op_pre(&mut self, _: &ClassSetBinaryOp) -> Result<(), Infallible> {
        self.found.nested = true;
        Ok(())
    }
}

/// As RE2 counts: `*`, `+` and `?` are no repetitions, and of `{3,}` the least.
fn times(one: &Repetition) -> u64 {
    let RepetitionKind::Range(range) = &one.op.kind else {
        return 1;
    };
    let most = match range {
        RepetitionRange::Exactly(times) | RepetitionRange::AtLeast(times) => *times,
        RepetitionRange::Bounded(_, most) => *most,
    };
    u64::from(most).max(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn route(kind: &str, rule: &str) -> AnyObject {
        let text = format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: r}}\nspec: {{parentRefs: [{{kind: Service, name: web}}], rules: [{{}}, {rule}]}}\n"
        );
        let mut reading = crate::language::read([("r.yaml", text.as_str())]);
        assert!(reading.problems.is_empty(), "{:?}", reading.problems);
        reading.objects.remove(0).object
    }

    #[test]
    fn repetitions_count_together() {
        let check = |text: &str, expected: u64| {
            assert_eq!(look(text).unwrap().repetitions, expected, "{text}");
        };
        check("a{1000}", 1000);
        check("a{2,1001}", 1001);
        check("a{1001,}", 1001);
        check("(?:a{10}b{90}){10}", 900);
        check("(?:a{10}b{101}){10}c{7}", 1010);
        check("(?:(?:a+)*){1000}", 1000);
        check("a+b*", 1);
    }

    #[test]
    fn every_expression_of_an_object_is_looked_at() {
        let long = "type: RegularExpression, name: n, value: 'a{1001}'";
        let check = |kind: &str, condition: &str, expected: &str| {
            let rule = format!("{{matches: [{{}}, {{{condition}}}]}}");
            let path = format!("spec.rules[1].matches[1].{expected}");
            assert_eq!(repeats_too_often(&route(kind, &rule)), Some(path));
        };
        check(
            "HTTPRoute",
            &format!("headers: [{{{long}}}]"),
            "headers[0].value",
        );
        check(
            "HTTPRoute",
            &format!("queryParams: [{{{long}}}]"),
            "queryParams[0].value",
        );
        check(
            "GRPCRoute",
            &format!("headers: [{{{long}}}]"),
            "headers[0].value",
        );
        let method = "method: {type: RegularExpression, service: 'a', method: 'a{1001}'}";
        check("GRPCRoute", method, "method.method");
        let plain = "{matches: [{headers: [{name: n, value: 'a{1001}'}]}]}";
        assert_eq!(repeats_too_often(&route("HTTPRoute", plain)), None);
    }

    #[test]
    fn classes_within_classes_are_found() {
        let check = |text: &str, expected: bool| {
            let rule =
                format!("{{matches: [{{path: {{type: RegularExpression, value: '/{text}'}}}}]}}");
            let found = nests_classes(&route("HTTPRoute", &rule));
            assert_eq!(found.is_some(), expected, "{text}");
        };
        check("[a-z&&[^b]]", true);
        check("[a-z--b]", true);
        check("[a[b]]", true);
        check(r"[a-z\d_[:alpha:]&-]", false);
    }
}
