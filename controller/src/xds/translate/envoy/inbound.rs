//! `in/<namespace>/<workload>`: what an Envoy takes in for its application. Mesh connections arrive at the mesh port and say by SNI and ALPN which port
//! they mean and how they carry it; plain text arrives by redirection, and only where it is permitted.

use std::sync::Arc;

use xds_api::envoy::config::core::v3::TrafficDirection;
use xds_api::envoy::config::listener::v3::{Filter, FilterChain, FilterChainMatch};
use xds_api::maille::v1::{self, Protocol};
use xds_api::resource::Resource;
use xds_api::type_url::TypeUrl;

use super::super::any::number;
use super::super::dial::sni;
use super::super::protocol::{may_be_http, may_be_opaque};
use super::super::workload::{mtls, overrides, protocols, spec};
use super::super::{Link, Translated};
use super::tls::{from_anybody, from_callers};
use super::{NOWHERE, application_cluster, authorization, callers, chain, http, registered};
use crate::model::{Mesh, Name};
use crate::xds::names::{self, Callers};

/// The forms of a mesh connection, by ALPN.
const HTTP_FORMS: [&str; 2] = ["h2", "http/1.1"];
const OPAQUE_FORM: &str = "maille-tcp";
/// What connections are counted under that are denied for they have no name.
const DENIED: &str = "denied";

/// One port of the workload.
struct Port<'a> {
    mesh: &'a Mesh,
    workload: &'a Name,
    number: u16,
    protocol: Protocol,
}

pub(super) fn translate(mesh: &Mesh, name: Arc<str>, workload: &Name) -> Option<Translated> {
    let instance = registered(mesh, workload)?;
    let listeners = instance.envoy.as_ref()?;
    let mesh_port = listeners
        .mesh
        .first()?
        .parse::<std::net::SocketAddr>()
        .ok()?
        .port();
    let overrides = overrides(mesh, workload, &mesh.merged_labels(workload));
    let ports: Vec<Port> = protocols(Some(instance), spec(mesh, workload))
        .into_iter()
        .filter(|(number, _)| instance.port(*number).is_some())
        .map(|(number, protocol)| Port {
            mesh,
            workload,
            number,
            protocol,
        })
        .collect();

    let mut chains = Vec::new();
    let mut detected = Vec::new();
    for port in &ports {
        chains.extend(port.mesh_chains(mesh_port));
        if mtls(mesh, &overrides, Some(port.number)) == v1::Mtls::Permissive {
            chains.extend(port.clear_chains());
            detected.extend((port.protocol == Protocol::Detect).then_some(port.number));
        }
    }
    if chains.is_empty() {
        // Envoy takes no listener without chains, and there is nothing to take in.
        return None;
    }
    let mut listener = chain::bound(&listeners.mesh)?;
    listener.name = name.to_string();
    listener.traffic_direction = TrafficDirection::Inbound as i32;
    listener.filter_chains = chains;
    listener.listener_filters = vec![
        chain::original_destination(),
        chain::tls_inspector(mesh_port),
    ];
    if !detected.is_empty() {
        let inspector = chain::http_inspector(Some(&detected));
        listener.listener_filters.push(inspector);
    }
    chain::wait_for_first_bytes(&mut listener);
    let links = links(mesh, &ports);
    Some(Translated::new(Resource::new(name, &listener), links))
}

impl Port<'_> {
    fn mesh_chains(&self, mesh_port: u16) -> Vec<FilterChain> {
        let chain = |form: &str, alpn: &[&str], trusted, filters| FilterChain {
            name: format!("mesh {form} {}", self.number),
            filter_chain_match: Some(FilterChainMatch {
                destination_port: number(u32::from(mesh_port)),
                transport_protocol: "tls".to_owned(),
                server_names: vec![sni(self.number)],
                application_protocols: owned(alpn),
                ..Default::default()
            }),
            transport_socket: Some(trusted),
            filters,
            ..Default::default()
        };
        let http = may_be_http(self.protocol).then(|| {
            let anybody = from_anybody(self.mesh, &HTTP_FORMS);
            chain("http", &HTTP_FORMS, anybody, vec![self.http()])
        });
        let opaque = may_be_opaque(self.protocol).then(|| {
            let callers = from_callers(&self.callers(), &[OPAQUE_FORM]);
            let filters = self.opaque(&self.cluster(), &self.cluster());
            chain("tcp", &[OPAQUE_FORM], callers, filters)
        });
        http.into_iter().chain(opaque).collect()
    }

    /// What is redirected from the port itself.
    fn clear_chains(&self) -> Vec<FilterChain> {
        let chain = |form: &str, protocols: &[&str], filters| FilterChain {
            name: format!("clear {form} {}", self.number),
            filter_chain_match: Some(FilterChainMatch {
                destination_port: number(u32::from(self.number)),
                application_protocols: owned(protocols),
                ..Default::default()
            }),
            filters,
            ..Default::default()
        };
        // Only an undeclared port is looked into; elsewhere the first byte goes through at once.
        let inspected = match self.protocol {
            Protocol::Detect => &chain::HTTP[..],
            _ => &[],
        };
        let http = may_be_http(self.protocol).then(|| chain("http", inspected, vec![self.http()]));
        let opaque = may_be_opaque(self.protocol).then(|| {
            // Who comes in clear has no name for a handshake to ask. Where the rules come to deny all of them, it is right that this chain ends.
            let filters = match callers::nameless_may(self.mesh, self.workload, self.number) {
                true => self.opaque(&self.cluster(), &self.cluster()),
                false => self.opaque(DENIED, NOWHERE),
            };
            chain("tcp", &[], filters)
        });
        http.into_iter().chain(opaque).collect()
    }

    fn cluster(&self) -> String {
        application_cluster(self.workload, self.number)
    }

    fn http(&self) -> Filter {
        let rules = authorization::names(self.workload, self.number, true);
        let rules = rules.map(|name| http::rules(name.to_string())).to_vec();
        http::incoming(&self.cluster(), &self.cluster(), rules)
    }

    fn callers(&self) -> Callers {
        Callers {
            workload: self.workload.clone(),
            port: self.number,
        }
    }

    fn opaque(&self, stat_prefix: &str, cluster: &str) -> Vec<Filter> {
        let rules = authorization::names(self.workload, self.number, false);
        let mut filters = rules
            .map(|name| authorization::network_filter(name.to_string()))
            .to_vec();
        filters.push(chain::opaque(stat_prefix, cluster));
        filters
    }
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

fn links(mesh: &Mesh, ports: &[Port]) -> Vec<Link> {
    let mut links = vec![(TypeUrl::Secret, names::roots(mesh.trust_domain()))];
    for port in ports {
        links.push((TypeUrl::Cluster, port.cluster().into()));
        let mut rules = Vec::new();
        if may_be_http(port.protocol) {
            rules.extend(authorization::names(port.workload, port.number, true));
        }
        if may_be_opaque(port.protocol) {
            rules.extend(authorization::names(port.workload, port.number, false));
            links.push((TypeUrl::Secret, port.callers().to_string().into()));
        }
        let rules = rules.into_iter().map(|name| name.to_string().into());
        links.extend(rules.map(|name| (TypeUrl::Extension, name)));
    }
    links
}
