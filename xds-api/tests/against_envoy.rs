//! Our protos are a subset of Envoy's: what they name has Envoy's number, type and label, and Envoy reads what we encode.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FileDescriptorProto, ServiceDescriptorProto,
};
use xds_api::conversation::Form;
use xds_api::services::Service;

#[path = "against_envoy/golden.rs"]
mod golden;

/// Everything with a name, as one line per fact: `message.field` to `number label type`.
#[derive(Default)]
struct Facts(BTreeMap<String, String>);

impl Facts {
    fn of(files: &[FileDescriptorProto], packages: &[&str]) -> Self {
        let mut facts = Self::default();
        for file in files {
            if packages.iter().any(|one| file.package().starts_with(one)) {
                facts.file(file);
            }
        }
        facts
    }

    fn file(&mut self, file: &FileDescriptorProto) {
        let package = file.package();
        file.message_type
            .iter()
            .for_each(|one| self.message(package, one));
        file.enum_type
            .iter()
            .for_each(|one| self.enumeration(package, one));
        file.service
            .iter()
            .for_each(|one| self.service(package, one));
    }

    fn message(&mut self, scope: &str, message: &DescriptorProto) {
        let name = format!("{scope}.{}", message.name());
        self.0.insert(name.clone(), "message".into());
        for field in &message.field {
            let oneof = field
                .oneof_index
                .map(|at| message.oneof_decl[at as usize].name());
            let fact = format!(
                "{} {:?} {:?} {} {}",
                field.number(),
                Label::try_from(field.label() as i32).unwrap(),
                Type::try_from(field.r#type() as i32).unwrap(),
                field.type_name(),
                oneof.unwrap_or_default(),
            );
            self.0.insert(format!("{name}.{}", field.name()), fact);
        }
        message
            .nested_type
            .iter()
            .for_each(|one| self.message(&name, one));
        message
            .enum_type
            .iter()
            .for_each(|one| self.enumeration(&name, one));
    }

    fn enumeration(&mut self, scope: &str, one: &EnumDescriptorProto) {
        let name = format!("{scope}.{}", one.name());
        for value in &one.value {
            self.0.insert(
                format!("{name}.{}", value.name()),
                value.number().to_string(),
            );
        }
        self.0.insert(name, "enum".into());
    }

    fn service(&mut self, scope: &str, one: &ServiceDescriptorProto) {
        for method in &one.method {
            let fact = format!(
                "{} {} {} {}",
                method.input_type(),
                method.client_streaming(),
                method.output_type(),
                method.server_streaming(),
            );
            self.0
                .insert(format!("{scope}.{}.{}", one.name(), method.name()), fact);
        }
    }
}

/// Where cargo has the source of `envoy-types`, which ships Envoy's protos.
fn envoy_protos() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version=1",
            "--offline",
            "--filter-platform=host-tuple",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let manifest = text
        .split('"')
        .map(Path::new)
        .find(|one| {
            one.file_name() == Some(OsStr::new("Cargo.toml"))
                && one.parent().is_some_and(|folder| {
                    folder
                        .file_name()
                        .is_some_and(|name| name.to_string_lossy().starts_with("envoy-types-"))
                })
        })
        .unwrap_or_else(|| {
            panic!(
                "cargo knows no envoy-types: {}",
                String::from_utf8_lossy(&output.stderr)
            )
        });
    manifest.parent().unwrap().join("proto")
}

/// Envoy's files of the services that `xds_api::services` lists.
const SERVICES: [&str; 7] = [
    "envoy/service/discovery/v3/ads.proto",
    "envoy/service/cluster/v3/cds.proto",
    "envoy/service/endpoint/v3/eds.proto",
    "envoy/service/secret/v3/sds.proto",
    "envoy/service/listener/v3/lds.proto",
    "envoy/service/extension/v3/config_discovery.proto",
    "envoy/service/route/v3/rds.proto",
];

fn ours() -> (PathBuf, Vec<PathBuf>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let mut files = Vec::new();
    let mut folders = vec![root.join("envoy"), root.join("google")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push(path.strip_prefix(&root).unwrap().to_owned());
            }
        }
    }
    files.sort();
    (root, files)
}

#[test]
fn every_message_field_enum_and_method_of_ours_is_envoys() {
    let (root, files) = ours();
    let packages = ["envoy", "google"];
    let own = protox::compile(&files, [&root]).unwrap();
    let own = Facts::of(&own.file, &packages).0;

    let envoy = envoy_protos();
    let includes: Vec<PathBuf> = [
        "data-plane-api",
        "xds",
        "protoc-gen-validate",
        "googleapis",
        "cel-spec",
        "client_model",
        "opentelemetry-proto",
        "ratelimit",
    ]
    .iter()
    .map(|one| envoy.join(one))
    .collect();
    let theirs = protox::compile(&files, &includes).unwrap();
    let theirs = Facts::of(&theirs.file, &packages).0;
    let services = protox::compile(SERVICES, &includes).unwrap();
    let services = Facts::of(&services.file, &packages).0;

    let streaming = ["Discovery", "DeltaDiscovery"].map(|name| {
        let message = |part: &str| format!(".envoy.service.discovery.v3.{name}{part} true");
        format!("{} {}", message("Request"), message("Response"))
    });
    for service in Service::ALL {
        for (form, fact) in [Form::StateOfTheWorld, Form::Delta]
            .into_iter()
            .zip(&streaming)
        {
            let method = format!("{}.{}", service.name, service.method(form));
            assert_eq!(services.get(&method), Some(fact), "{method}");
        }
    }

    assert!(
        own.len() > 250,
        "only {} facts: the protos were not found",
        own.len()
    );
    let wrong: Vec<String> = own
        .iter()
        .filter(|(name, fact)| theirs.get(*name) != Some(fact))
        .map(|(name, fact)| format!("{name}: ours {fact}, Envoy's {:?}", theirs.get(name)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
