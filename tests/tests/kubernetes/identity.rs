//! A pod's own service account is its identity, and nobody else's is.

use anyhow::{Context, ensure};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use maille_tests::cluster::{Cluster, TRUST_DOMAIN};
use maille_tests::identity;
use maille_tests::kubernetes::Kubernetes;
use maille_tests::wait;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};
use tonic::{Code, Status};
use xds_api::maille::v1::{CertifyRequest, CertifyResponse};

use crate::watching::{SETTLE_LIMIT, controllers};

const SHOP: &str = "shop";

/// A namespace with two accounts, and a pod of the first. No kubelet has to run it: tokens are the API server's.
async fn furnish(client: &Client) -> anyhow::Result<()> {
    let create = PostParams::default();
    let named = |name: &str| json!({"metadata": {"name": name}});
    let namespace = serde_json::from_value(named(SHOP))?;
    Api::<Namespace>::all(client.clone())
        .create(&create, &namespace)
        .await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), SHOP);
    for name in ["web", "other"] {
        accounts
            .create(&create, &serde_json::from_value(named(name))?)
            .await?;
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), SHOP);
    for name in ["web-1", "web-2"] {
        let spec = json!({"serviceAccountName": "web", "nodeName": "ghost", "containers": [{"name": "app", "image": "none"}]});
        let pod = json!({"metadata": {"name": name}, "spec": spec});
        pods.create(&create, &serde_json::from_value(pod)?).await?;
    }
    Ok(())
}

/// A token as a kubelet gets it for a volume.
async fn token(client: &Client, audience: &str, pod: Option<&str>) -> anyhow::Result<String> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), SHOP);
    let bound = pod.map(|name| json!({"kind": "Pod", "apiVersion": "v1", "name": name}));
    let request =
        json!({"spec": {"audiences": [audience], "boundObjectRef": bound.unwrap_or(Value::Null)}});
    let request: TokenRequest = serde_json::from_value(request)?;
    let answer = accounts
        .create_token_request("web", &PostParams::default(), &request)
        .await?;
    Ok(answer.status.context("a token has a status")?.token)
}

/// Asks for a certificate with a token.
async fn certify(
    controllers: &Cluster,
    token: &str,
    workload: &str,
) -> anyhow::Result<Result<CertifyResponse, Status>> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    // Whatever it asks to be called.
    let names = vec![format!("other.{SHOP}")];
    let csr = CertificateParams::new(names)?.serialize_request(&key)?;
    let request = CertifyRequest {
        csr: csr.der().to_vec().into(),
        service_account_token: token.to_owned(),
        workload: workload.to_owned(),
        ..CertifyRequest::default()
    };
    identity::certify(controllers.controllers[0].address("xds"), request).await
}

#[test]
fn a_pod_gets_the_identity_of_its_own_service_account_only() -> anyhow::Result<()> {
    Kubernetes::with(async |cluster| {
        let controllers = controllers(cluster).await?;
        let client = cluster.client().await?;
        furnish(&client).await?;
        let good = token(&client, "maille", Some("web-1")).await?;
        let certified = wait::until("a certificate", SETTLE_LIMIT, async || {
            let answer = certify(&controllers, &good, "shop/web-1").await;
            answer
                .map_err(|error| error.to_string())?
                .map_err(|status| status.to_string())
        })
        .await?;
        let expected = format!("spiffe://{TRUST_DOMAIN}/ns/{SHOP}/sa/web");
        ensure!(certified.spiffe_id == expected, "{}", certified.spiffe_id);

        let refused = async |what: &str, token: &str, workload: &str, words: &str| {
            let answer = certify(&controllers, token, workload).await?;
            let status = answer
                .err()
                .with_context(|| format!("{what}: it got a certificate"))?;
            let said = status.message();
            ensure!(
                status.code() == Code::Unauthenticated && said.contains(words),
                "{what}: {status}"
            );
            Ok::<_, anyhow::Error>(())
        };
        refused(
            "another pod's name",
            &good,
            "shop/web-2",
            "proves shop/web-1, not shop/web-2",
        )
        .await?;
        refused("no token", "nonsense", "shop/web-1", "refused").await?;
        let foreign = token(&client, "vault", Some("web-1")).await?;
        refused("another audience", &foreign, "shop/web-1", "refused").await?;
        let loose = token(&client, "maille", None).await?;
        refused("bound to no pod", &loose, "shop/web-1", "bound to no pod").await?;
        let pods: Api<Pod> = Api::namespaced(client.clone(), SHOP);
        let at_once = DeleteParams::default().grace_period(0);
        pods.delete("web-1", &at_once).await?;
        // The API server remembers for a few seconds that the token was good.
        wait::until(
            "a deleted pod's token is refused",
            SETTLE_LIMIT,
            async || refused("a deleted pod's", &good, "shop/web-1", "refused").await,
        )
        .await?;

        let other = token(&client, "maille", Some("web-2")).await?;
        cluster.end("kube-apiserver").await?;
        let answer = certify(&controllers, &other, "shop/web-2").await?;
        let status = answer.err().context("nobody could have known the token")?;
        ensure!(status.code() == Code::Unavailable, "{status}");
        cluster.start_api_server()?;
        wait::until("it is good again", SETTLE_LIMIT, async || {
            let answer = certify(&controllers, &other, "shop/web-2").await;
            answer
                .map_err(|error| error.to_string())?
                .map_err(|status| status.to_string())
        })
        .await?;
        Ok(())
    })
}
