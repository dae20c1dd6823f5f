//! What the data path's tests share: an authority that makes certificates, a pair of proxies, applications to call.
#![allow(clippy::unwrap_used)]

pub(crate) mod apps;
pub(crate) mod pair;

use crate::tls::Mesh;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;

/// Makes certificates of the trust domain `mesh.test`.
#[derive(Debug)]
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    /// A workload's certificate, trusting this authority.
    pub(crate) fn mesh(&self, namespace: &str, account: &str) -> Mesh {
        self.mesh_trusting(namespace, account, &[self])
    }

    pub(crate) fn mesh_trusting(&self, namespace: &str, account: &str, trusted: &[&Self]) -> Mesh {
        let id = format!("spiffe://mesh.test/ns/{namespace}/sa/{account}");
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        let mut roots = RootCertStore::empty();
        for authority in trusted {
            roots.add(authority.issuer.der().clone()).unwrap();
        }
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Mesh::new(vec![leaf.der().clone()], &key, roots).unwrap()
    }
}
