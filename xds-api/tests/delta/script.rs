//! A conversation as text, so that a rule can be read off its test.
//!
//! `mesh CDS a=1 b-` sets and deletes resources. `> CDS +a -b have:c=1 ack nack:why ack:7 locator:d` is a request
//! (`ack` without a nonce means the type's last response), `> CDS` one without names. `< CDS 1: a=1 -b ?b` is a response, `?b` an
//! error of it. `fill EDS` has missing endpoints replaced by empty ones.

use std::collections::BTreeMap;
use std::fmt::Write;

use xds_api::delta::{Response, Server};
use xds_api::envoy::config::core::v3::Node;
use xds_api::envoy::service::discovery::v3::{DeltaDiscoveryRequest, ResourceLocator};
use xds_api::google::rpc::Status;
use xds_api::resource::Version;
use xds_api::type_url::TypeUrl;

use crate::mesh::Mesh;

pub(crate) fn kind(short: &str) -> TypeUrl {
    let known = TypeUrl::ALL.into_iter().find(|kind| kind.short() == short);
    known.unwrap_or_else(|| panic!("{short:?} is no type"))
}

struct Stage {
    mesh: Mesh,
    server: Server,
    last: BTreeMap<TypeUrl, u64>,
}

/// Plays the lines of a script that act, and compares what comes out with the lines that expect.
pub(crate) fn check(rule: &str, script: &str) {
    let lines: Vec<&str> = script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let mut stage = Stage {
        mesh: Mesh::default(),
        server: Server::new(),
        last: BTreeMap::new(),
    };
    let mut played = String::new();
    for line in lines.iter().filter(|line| !line.starts_with('<')) {
        writeln!(played, "{line}").unwrap();
        match line.split_once(' ').unwrap_or((line, "")) {
            ("mesh", rest) => stage.change(rest),
            (">", rest) => stage.request(rest),
            ("hold", rest) => stage.mesh.held_back = rest.split(' ').map(kind).collect(),
            ("fill", rest) => stage.mesh.filled = rest.split(' ').map(kind).collect(),
            ("release", _) => stage.mesh.held_back.clear(),
            ("restart", _) => stage.server = Server::new(),
            _ => panic!("{line:?} is no line of a script"),
        }
        stage.answers(&mut played);
    }
    let expected = lines.join("\n") + "\n";
    assert!(
        played == expected,
        "rule {rule}\nexpected:\n{expected}\nplayed:\n{played}"
    );
}

impl Stage {
    fn change(&mut self, line: &str) {
        let (short, rest) = line.split_once(' ').unwrap();
        let kind = kind(short);
        for word in rest.split(' ') {
            let name = match word.split_once('=') {
                Some((name, text)) => {
                    self.mesh.set(kind, name, text);
                    name
                }
                None => {
                    let name = word.strip_suffix('-').unwrap();
                    self.mesh.remove(kind, name);
                    name
                }
            };
            self.server.changed(kind, &name.into());
        }
    }

    fn request(&mut self, line: &str) {
        let mut words = line.split(' ');
        let kind = kind(words.next().unwrap());
        let node = self.server.node().is_none().then(Node::default);
        let mut request = DeltaDiscoveryRequest {
            node,
            type_url: kind.to_string(),
            ..Default::default()
        };
        let last = self.last.get(&kind).map(u64::to_string).unwrap_or_default();
        for word in words {
            match word.split_at_checked(1) {
                Some(("+", name)) => request
                    .resource_names_subscribe
                    .push(name.replace("''", "")),
                Some(("-", name)) => request.resource_names_unsubscribe.push(name.into()),
                _ => fill(&mut request, word, &last),
            }
        }
        self.server.request(request).unwrap();
    }

    fn answers(&mut self, played: &mut String) {
        while let Some(Response {
            kind,
            nonce,
            resources,
            removed,
            missing,
            ..
        }) = self.server.next(&self.mesh)
        {
            write!(played, "< {} {nonce}:", kind.short()).unwrap();
            for resource in resources {
                let text = String::from_utf8(resource.body().to_vec()).unwrap();
                write!(played, " {}={text}", resource.name()).unwrap();
            }
            removed
                .iter()
                .for_each(|name| write!(played, " -{name}").unwrap());
            missing
                .iter()
                .for_each(|name| write!(played, " ?{name}").unwrap());
            writeln!(played).unwrap();
            self.last.insert(kind, nonce);
        }
    }
}

fn fill(request: &mut DeltaDiscoveryRequest, word: &str, last: &str) {
    let (verb, rest) = word.split_once(':').unwrap_or((word, ""));
    match verb {
        "ack" if rest.is_empty() => request.response_nonce = last.into(),
        "ack" => request.response_nonce = rest.into(),
        "nack" => {
            request.response_nonce = last.into();
            request.error_detail = Some(Status {
                message: rest.into(),
                ..Default::default()
            });
        }
        "have" => {
            let (name, text) = rest.split_once('=').unwrap();
            let version = Version::of(text.as_bytes()).to_string();
            request
                .initial_resource_versions
                .insert(name.into(), version);
        }
        "locator" => request.resource_locators_subscribe.push(ResourceLocator {
            name: rest.into(),
            ..Default::default()
        }),
        _ => panic!("{word:?} is no word of a request"),
    }
}
