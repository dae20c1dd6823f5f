//! How HTTP is led: the table of routes of one port of a service.

mod action;
mod matching;

use super::strict::{Invalid, Within, check_name, decode, invalid, present};
use crate::snapshot::{HeaderChange, HeaderChanges, Route, RouteAction, Routes};
use action::{forward, redirect, respond};
use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use matching::matches;
use std::sync::Arc;
use xds_api::envoy::config::core::v3::HeaderValueOption;
use xds_api::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use xds_api::envoy::config::route::v3 as envoy;
use xds_api::envoy::config::route::v3::RouteConfiguration;
use xds_api::envoy::config::route::v3::route::Action;

pub(super) fn translate(name: &Arc<str>, body: Bytes) -> Result<Routes, Invalid> {
    let configuration: RouteConfiguration = decode(body)?;
    check_name("name", &configuration.name, name)?;
    let mut hosts = configuration.virtual_hosts.into_iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return invalid("virtual_hosts", "must hold exactly one");
    };
    if host.domains != ["*"] {
        return invalid("virtual_hosts[0].domains", "must be [\"*\"]");
    }
    let one = |(index, told)| route(told).within_item("routes", index);
    let routes: Result<_, _> = host.routes.into_iter().enumerate().map(one).collect();
    Ok(Routes {
        name: Arc::clone(name),
        routes: routes.within("virtual_hosts[0]")?,
    })
}

fn route(told: envoy::Route) -> Result<Route, Invalid> {
    let action = match present("action", told.action)? {
        Action::Route(route) => RouteAction::Forward(forward(route).within("route")?),
        Action::Redirect(to) => RouteAction::Redirect(redirect(to).within("redirect")?),
        Action::DirectResponse(answer) => {
            RouteAction::Respond(respond(&answer).within("direct_response")?)
        }
        Action::NonForwardingAction(_) => {
            return invalid("action", "is for a gRPC server, not for this proxy");
        }
    };
    Ok(Route {
        name: told.name.into(),
        matches: matches(present("match", told.r#match)?).within("match")?,
        action,
        request_headers: header_changes(
            "request_headers",
            &told.request_headers_to_add,
            &told.request_headers_to_remove,
        )?,
        response_headers: header_changes(
            "response_headers",
            &told.response_headers_to_add,
            &told.response_headers_to_remove,
        )?,
    })
}

/// `field` is what the names of both lists begin with.
fn header_changes(
    field: &str,
    add: &[HeaderValueOption],
    remove: &[String],
) -> Result<HeaderChanges, Invalid> {
    let (added, removed) = (format!("{field}_to_add"), format!("{field}_to_remove"));
    let change = |(index, one)| header_change(one).within_item(&added, index);
    let drop = |(index, one): (usize, &String)| header_name(one).within_item(&removed, index);
    let set: Result<_, _> = add.iter().enumerate().map(change).collect();
    let remove: Result<_, _> = remove.iter().enumerate().map(drop).collect();
    Ok(HeaderChanges {
        set: set?,
        remove: remove?,
    })
}

fn header_change(told: &HeaderValueOption) -> Result<HeaderChange, Invalid> {
    let header = present("header", told.header.as_ref())?;
    let append = match HeaderAppendAction::try_from(told.append_action) {
        Ok(HeaderAppendAction::AppendIfExistsOrAdd) => true,
        Ok(HeaderAppendAction::OverwriteIfExistsOrAdd) => false,
        _ => {
            let text = format!("{} is not known", told.append_action);
            return invalid("append_action", text);
        }
    };
    Ok(HeaderChange {
        name: header_name(&header.key).within("header.key")?,
        value: header_value(&header.value).within("header.value")?,
        append,
    })
}

fn header_name(text: &str) -> Result<HeaderName, Invalid> {
    text.parse()
        .map_err(|_| Invalid::new(format!("{text:?} is no header")))
}

fn header_value(text: &str) -> Result<HeaderValue, Invalid> {
    text.parse()
        .map_err(|_| Invalid::new(format!("{text:?} cannot be a header's value")))
}
