//! A conversation as text, so that a rule can be read off its test.
//!
//! `mesh CDS a=1 b-` sets and deletes resources. `> CDS a b !ack` is a request that names `a` and `b` (`!ack` without a
//! nonce means the type's last response; `!ack:7`, `!nack:why`, `!version:1`, `!locator:d`), `> CDS` one without names.
//! `< CDS 1: a=1 ?b` is a response, `?b` an error of it. `fill EDS` has missing endpoints replaced by empty ones.

use std::collections::BTreeMap;
use std::fmt::Write;

use xds_api::envoy::config::core::v3::Node;
use xds_api::envoy::service::discovery::v3::{DiscoveryRequest, ResourceLocator};
use xds_api::google::rpc::Status;
use xds_api::sotw::{Response, Server};
use xds_api::type_url::TypeUrl;

use crate::mesh::Mesh;

pub(crate) fn kind(short: &str) -> TypeUrl {
    let known = TypeUrl::ALL.into_iter().find(|kind| kind.short() == short);
    known.unwrap_or_else(|| panic!("{short:?} is no type"))
}

/// A request of this type for these names.
pub(crate) fn request(kind: TypeUrl, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        node: Some(Node::default()),
        type_url: kind.to_string(),
        resource_names: names.iter().map(ToString::to_string).collect(),
        ..Default::default()
    }
}

struct Stage {
    mesh: Mesh,
    server: Server,
    last: BTreeMap<TypeUrl, u64>,
}

/// Plays the lines of a script that act, and compares what comes out with the lines that expect.
pub(crate) fn check(rule: &str, script: &str) {
    play(rule, Server::of_the_world(), script);
}

/// The same on a stream of a client that never means everything by naming nothing.
pub(crate) fn check_names_only(rule: &str, script: &str) {
    play(rule, Server::of_the_world().names_only(), script);
}

fn play(rule: &str, server: Server, script: &str) {
    let lines: Vec<&str> = script
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let mut stage = Stage {
        mesh: Mesh::default(),
        server,
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
        let mut request = request(kind, &[]);
        let last = self.last.get(&kind).map(u64::to_string).unwrap_or_default();
        for word in words {
            match word.strip_prefix('!') {
                Some(word) => fill(&mut request, word, &last),
                None => request.resource_names.push(word.replace("''", "")),
            }
        }
        let request = self.server.differences(request);
        self.server.request(request).unwrap();
    }

    fn answers(&mut self, played: &mut String) {
        while let Some(Response {
            kind,
            nonce,
            resources,
            missing,
            removed,
            version,
        }) = self.server.next(&self.mesh)
        {
            assert!(removed.is_empty() && version.is_some());
            write!(played, "< {} {nonce}:", kind.short()).unwrap();
            for resource in resources {
                let text = String::from_utf8(resource.body().to_vec()).unwrap();
                write!(played, " {}={text}", resource.name()).unwrap();
            }
            missing
                .iter()
                .for_each(|name| write!(played, " ?{name}").unwrap());
            writeln!(played).unwrap();
            self.last.insert(kind, nonce);
        }
    }
}

fn fill(request: &mut DiscoveryRequest, word: &str, last: &str) {
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
        "version" => request.version_info = rest.into(),
        "locator" => request.resource_locators.push(ResourceLocator {
            name: rest.into(),
            ..Default::default()
        }),
        _ => panic!("{word:?} is no word of a request"),
    }
}
