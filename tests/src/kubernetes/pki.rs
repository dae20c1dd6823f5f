//! The cluster's certificates and the kubeconfigs of who calls its API.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::json;

use super::settings::{API_SERVICE, NODE, NODE_ADDRESS};

/// The directory with all of them.
#[derive(Debug)]
pub(super) struct Pki {
    directory: PathBuf,
}

/// Whom a certificate is for.
struct Subject<'a> {
    name: &'a str,
    group: Option<&'a str>,
    /// Names and addresses of a server; a client has none.
    at: &'a [&'a str],
}

impl Pki {
    /// Makes them all.
    pub(super) fn make(directory: &Path) -> anyhow::Result<Pki> {
        let pki = Pki {
            directory: directory.to_owned(),
        };
        let ca = pki.authority("ca")?;
        let front = pki.authority("front")?;
        let node = format!("system:node:{NODE}");
        let client = |name, group| Subject {
            name,
            group,
            at: &[],
        };
        let api = [
            "127.0.0.1",
            NODE_ADDRESS,
            API_SERVICE,
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ];
        let server = |name, at| Subject {
            name,
            group: None,
            at,
        };
        let masters = Some("system:masters");
        pki.leaf("apiserver", &ca, &server("kube-apiserver", &api))?;
        pki.leaf(
            "kubelet",
            &ca,
            &server(&node, &["127.0.0.1", NODE_ADDRESS, NODE]),
        )?;
        pki.leaf(
            "apiserver-kubelet",
            &ca,
            &client("apiserver-kubelet", masters),
        )?;
        pki.leaf("front-client", &front, &client("front-proxy", None))?;
        pki.leaf("admin", &ca, &client("admin", masters))?;
        let manager = client("system:kube-controller-manager", None);
        pki.leaf("controller-manager", &ca, &manager)?;
        pki.leaf("scheduler", &ca, &client("system:kube-scheduler", None))?;
        pki.leaf("node", &ca, &client(&node, Some("system:nodes")))?;
        pki.leaf("proxy", &ca, &client("system:kube-proxy", None))?;
        for name in ["admin", "controller-manager", "scheduler", "node", "proxy"] {
            pki.write_kubeconfig(name)?;
        }
        let accounts = KeyPair::generate()?;
        pki.write("accounts.key", &accounts.serialize_pem())?;
        pki.write("accounts.pub", &accounts.public_key_pem())?;
        Ok(pki)
    }

    /// A file of them.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Where they are.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Somebody's kubeconfig.
    pub(super) fn kubeconfig(&self, name: &str) -> PathBuf {
        self.file(&format!("{name}.json"))
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        std::fs::write(self.file(name), text).with_context(|| format!("writing {name}"))
    }

    fn authority(&self, name: &str) -> anyhow::Result<Issuer<'static, KeyPair>> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, format!("cluster {name}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        self.write(&format!("{name}.crt"), &params.self_signed(&key)?.pem())?;
        self.write(&format!("{name}.key"), &key.serialize_pem())?;
        Ok(Issuer::new(params, key))
    }

    fn leaf(
        &self,
        file: &str,
        issuer: &Issuer<'static, KeyPair>,
        subject: &Subject<'_>,
    ) -> anyhow::Result<()> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, subject.name);
        if let Some(group) = subject.group {
            params
                .distinguished_name
                .push(DnType::OrganizationName, group);
        }
        for at in subject.at {
            params.subject_alt_names.push(match at.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*at).try_into()?),
            });
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match subject.at {
            [] => ExtendedKeyUsagePurpose::ClientAuth,
            _ => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        let key = KeyPair::generate()?;
        self.write(
            &format!("{file}.crt"),
            &params.signed_by(&key, issuer)?.pem(),
        )?;
        self.write(&format!("{file}.key"), &key.serialize_pem())
    }

    fn write_kubeconfig(&self, name: &str) -> anyhow::Result<()> {
        let server = format!("https://{NODE_ADDRESS}:6443");
        let user = json!({
            "client-certificate": self.file(&format!("{name}.crt")),
            "client-key": self.file(&format!("{name}.key")),
        });
        let cluster = json!({"server": server, "certificate-authority": self.file("ca.crt")});
        let whole = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
            "current-context": "test",
        });
        self.write(&format!("{name}.json"), &whole.to_string())
    }
}
