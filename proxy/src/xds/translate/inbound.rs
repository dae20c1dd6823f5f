//! The listener `in/<namespace>/<workload>`: who may call, and the explicit upstreams.

use super::foreign;
use super::listener::{check_no_chains, protocol};
use super::strict::{Invalid, Within, check_name, decode, invalid, metadata, not_empty, port};
use crate::snapshot::{Action, Inbound, InboundPort, Mtls, Pattern, Protocol, Rule, Upstream};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use xds_api::envoy::config::listener::v3::Listener;
use xds_api::maille::v1;

pub(super) fn translate(name: &Arc<str>, body: Bytes) -> Result<Inbound, Invalid> {
    let listener: Listener = decode(body)?;
    foreign::check(&listener)?;
    check_name("name", &listener.name, name)?;
    check_no_chains(&listener)?;
    let inbound: v1::Inbound = metadata(listener.metadata)?;
    let (namespace, workload) = (&inbound.namespace, &inbound.workload);
    check_name(
        "namespace and workload",
        &format!("in/{namespace}/{workload}"),
        name,
    )?;
    not_empty("identity", &inbound.identity)?;
    let default = InboundPort {
        protocol: Protocol::Detect,
        mtls: mtls("default_mtls", inbound.default_mtls)?,
        rules: rules(&inbound.default_rules).within("default_rules")?,
        default_deny: inbound.default_deny,
    };
    let mut ports = HashMap::new();
    for (index, one) in inbound.ports.iter().enumerate() {
        let (number, port) = inbound_port(one).within_item("ports", index)?;
        if ports.insert(number, Arc::new(port)).is_some() {
            return invalid("ports", format!("{number} stands twice"));
        }
    }
    let upstreams = inbound.upstreams.iter().enumerate();
    let upstreams = upstreams.map(|(index, one)| upstream(one).within_item("upstreams", index));
    Ok(Inbound {
        namespace: namespace.as_str().into(),
        workload: workload.as_str().into(),
        identity: inbound.identity.as_str().into(),
        ports,
        default: Arc::new(default),
        upstreams: upstreams.collect::<Result<_, _>>()?,
    })
}

fn inbound_port(one: &v1::InboundPort) -> Result<(u16, InboundPort), Invalid> {
    let number = port("port", one.port)?;
    let port = InboundPort {
        protocol: protocol("protocol", one.protocol)?,
        mtls: mtls("mtls", one.mtls)?,
        rules: rules(&one.rules).within("rules")?,
        default_deny: one.default_deny,
    };
    Ok((number, port))
}

fn mtls(field: &str, number: i32) -> Result<Mtls, Invalid> {
    match v1::Mtls::try_from(number) {
        Ok(v1::Mtls::Permissive) => Ok(Mtls::Permissive),
        Ok(v1::Mtls::Strict) => Ok(Mtls::Strict),
        Ok(v1::Mtls::Unspecified) => invalid(field, "is not set"),
        Err(_) => invalid(field, format!("{number} is not known")),
    }
}

fn rules(list: &[v1::AuthorizationRule]) -> Result<Vec<Rule>, Invalid> {
    let rule =
        |(index, one)| rule(one).map_err(|error: Invalid| error.within(&format!("[{index}]")));
    list.iter().enumerate().map(rule).collect()
}

fn rule(one: &v1::AuthorizationRule) -> Result<Rule, Invalid> {
    use v1::authorization_rule::Action as Told;
    let action = match Told::try_from(one.action) {
        Ok(Told::Allow) => Action::Allow,
        Ok(Told::Deny) => Action::Deny,
        Ok(Told::Unspecified) => return invalid("action", "is not set"),
        Err(_) => return invalid("action", format!("{} is not known", one.action)),
    };
    let texts = |list: &[String]| list.iter().map(|text| text.as_str().into()).collect();
    Ok(Rule {
        action,
        policy: one.policy.as_str().into(),
        identities: patterns("identities", &one.identities)?,
        namespaces: texts(&one.namespaces),
        methods: texts(&one.methods),
        paths: patterns("paths", &one.paths)?,
    })
}

fn patterns(field: &str, list: &[String]) -> Result<Vec<Pattern>, Invalid> {
    let pattern = |(index, text): (usize, &String)| {
        let inner = text.strip_suffix('*').unwrap_or(text);
        if inner.contains('*') {
            let message = format!("{text:?} has a * elsewhere than at its end");
            return Err(Invalid::new(message)).within_item(field, index);
        }
        Ok(Pattern::new(text))
    };
    list.iter().enumerate().map(pattern).collect()
}

fn upstream(one: &v1::Upstream) -> Result<Upstream, Invalid> {
    let listen = one.listen.parse();
    let listen =
        listen.or_else(|_| invalid("listen", format!("{:?} is no ip:port", one.listen)))?;
    not_empty("namespace", &one.namespace)?;
    not_empty("service", &one.service)?;
    let port = port("port", one.port)?;
    Ok(Upstream {
        listen,
        target: format!("out/{}.{}:{port}", one.service, one.namespace).into(),
    })
}
