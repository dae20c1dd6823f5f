//! What Kubernetes has becomes the mesh, whoever leads. What it has is asked of its own endpoint slices, which its own controllers make.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use maille_tests::cluster::Cluster;
use maille_tests::kubernetes::Kubernetes;
use maille_tests::wait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;
use serde_json::{Value, json};

const SHOP: &str = "shop";
/// No kubelet looks after it: its pods are what the test says.
const GHOST: &str = "ghost";
const SERVICES: usize = 12;
const PODS: usize = 60;
const CHANGES: usize = 600;
/// From the last change to the mesh's being what Kubernetes has.
pub(crate) const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// An address, its port, and whether it is ready.
type Endpoints = BTreeSet<(String, u64, bool)>;

/// A Kubernetes' namespace as the test changes it.
struct Shop {
    client: Client,
    random: StdRng,
    /// The next pod's address.
    address: u32,
}

impl Shop {
    async fn open(client: Client, seed: u64) -> anyhow::Result<Shop> {
        let (ns, ghost) = (
            Api::<Namespace>::all(client.clone()),
            Api::<Node>::all(client.clone()),
        );
        let metadata = |name: &str| json!({"metadata": {"name": name}});
        let create = PostParams::default();
        ns.create(&create, &serde_json::from_value(metadata(SHOP))?)
            .await?;
        let mut node = metadata(GHOST);
        node["metadata"]["labels"] = json!({"topology.kubernetes.io/zone": "z1"});
        ghost
            .create(&create, &serde_json::from_value(node)?)
            .await?;
        Ok(Shop {
            client,
            random: StdRng::seed_from_u64(seed),
            address: 0,
        })
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), SHOP)
    }

    fn services(&self) -> Api<Service> {
        Api::namespaced(self.client.clone(), SHOP)
    }

    /// One change of one object.
    async fn change(&mut self) -> anyhow::Result<()> {
        match self.random.random_range(0..10) {
            0 => self.turn_service().await,
            1..=4 => self.turn_pod().await,
            _ => self.turn_ready().await,
        }
    }

    /// A service that is there goes; one that is not comes.
    async fn turn_service(&mut self) -> anyhow::Result<()> {
        let name = format!("service-{}", self.random.random_range(0..SERVICES));
        let services = self.services();
        if services.get_opt(&name).await?.is_some() {
            services.delete(&name, &DeleteParams::default()).await?;
            return Ok(());
        }
        let group = self.random.random_range(0..4);
        let target = match self.random.random_bool(0.5) {
            true => json!("web"),
            false => json!(8080),
        };
        let service = json!({
            "metadata": {"name": name},
            "spec": {
                "selector": {"group": format!("g{group}")},
                "ports": [{"name": "http", "port": 80, "targetPort": target, "appProtocol": "http"}],
                "publishNotReadyAddresses": self.random.random_bool(0.2),
                "clusterIP": if self.random.random_bool(0.2) { json!("None") } else { Value::Null },
            },
        });
        services
            .create(&PostParams::default(), &serde_json::from_value(service)?)
            .await?;
        Ok(())
    }

    /// A pod that is there goes; one that is not comes, with another address than any before it.
    async fn turn_pod(&mut self) -> anyhow::Result<()> {
        let name = format!("pod-{}", self.random.random_range(0..PODS));
        let pods = self.pods();
        if pods.get_opt(&name).await?.is_some() {
            pods.delete(&name, &DeleteParams::default().grace_period(0))
                .await?;
            return Ok(());
        }
        let group = self.random.random_range(0..4);
        let port = if self.random.random_bool(0.5) {
            8080
        } else {
            9090
        };
        let container = json!({"name": "app", "image": "none", "ports": [{"name": "web", "containerPort": port}]});
        let pod = json!({
            "metadata": {"name": name, "labels": {"group": format!("g{group}")}},
            "spec": {"nodeName": GHOST, "containers": [container]},
        });
        pods.create(&PostParams::default(), &serde_json::from_value(pod)?)
            .await?;
        self.address += 1;
        let address = format!("10.200.{}.{}", self.address / 250, self.address % 250 + 1);
        let ready = self.random.random_bool(0.7);
        self.report(&name, Some(&address), ready).await
    }

    async fn turn_ready(&mut self) -> anyhow::Result<()> {
        let name = format!("pod-{}", self.random.random_range(0..PODS));
        match self.pods().get_opt(&name).await? {
            Some(_) => {
                let ready = self.random.random_bool(0.5);
                self.report(&name, None, ready).await
            }
            None => Ok(()),
        }
    }

    /// Says what a kubelet would say of a pod.
    async fn report(&self, name: &str, address: Option<&str>, ready: bool) -> anyhow::Result<()> {
        let condition = json!({"type": "Ready", "status": if ready { "True" } else { "False" }});
        let mut status = json!({"phase": "Running", "conditions": [condition]});
        if let Some(address) = address {
            status["podIP"] = json!(address);
            status["podIPs"] = json!([{"ip": address}]);
        }
        let patch = Patch::Merge(json!({"status": status}));
        self.pods()
            .patch_status(name, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    /// What Kubernetes' own controllers make of it: service → endpoints.
    async fn endpoints(&self) -> anyhow::Result<BTreeMap<String, Endpoints>> {
        let all = ListParams::default();
        let services = self.services().list(&all).await?;
        let names = services
            .items
            .into_iter()
            .filter_map(|one| one.metadata.name);
        let mut found: BTreeMap<String, Endpoints> =
            names.map(|name| (name, Endpoints::new())).collect();
        let slices = Api::<EndpointSlice>::namespaced(self.client.clone(), SHOP)
            .list(&all)
            .await?;
        for slice in slices {
            let labels = slice.metadata.labels.unwrap_or_default();
            let service = labels
                .get("kubernetes.io/service-name")
                .cloned()
                .unwrap_or_default();
            let Some(endpoints) = found.get_mut(&service) else {
                continue;
            };
            let ports: Vec<u64> = slice
                .ports
                .iter()
                .flatten()
                .filter_map(|port| port.port?.try_into().ok())
                .collect();
            for endpoint in slice.endpoints {
                let ready = endpoint
                    .conditions
                    .and_then(|one| one.ready)
                    .unwrap_or(true);
                for address in endpoint.addresses {
                    endpoints.extend(ports.iter().map(|port| (address.clone(), *port, ready)));
                }
            }
        }
        Ok(found)
    }
}

/// The same as the controllers have agreed on it.
async fn agreed(controllers: &Cluster) -> anyhow::Result<BTreeMap<String, Endpoints>> {
    let told = controllers
        .cli(&["get", "services", "-n", SHOP, "-o", "json"])
        .await?;
    ensure!(told.code == Some(0), "{}", told.err);
    let told: Value = serde_json::from_str(&told.out)?;
    let items = told["items"].as_array().context("there are items")?;
    let service = |item: &Value| {
        let name = item["metadata"]["name"].as_str()?.to_owned();
        let endpoints = item["status"]["endpoints"].as_array()?.iter();
        let endpoints = endpoints.filter_map(|one| {
            let ready = one["health"] == "healthy";
            let address = one["addresses"][0].as_str()?.to_owned();
            Some((address, one["targetPort"].as_u64()?, ready))
        });
        Some((name, endpoints.collect()))
    };
    let all: Option<BTreeMap<_, _>> = items.iter().map(service).collect();
    all.with_context(|| format!("services are told otherwise: {told}"))
}

/// Waits until both are the same.
async fn same(shop: &Shop, controllers: &Cluster) -> anyhow::Result<usize> {
    wait::until(
        "the mesh is what Kubernetes has",
        SETTLE_LIMIT,
        async || {
            let (wanted, has) = (shop.endpoints().await?, agreed(controllers).await?);
            ensure!(wanted == has, "Kubernetes has {wanted:?}\nthe mesh {has:?}");
            Ok::<_, anyhow::Error>(wanted.values().map(BTreeSet::len).sum())
        },
    )
    .await
}

pub(crate) async fn controllers(cluster: &Kubernetes) -> anyhow::Result<Cluster> {
    let kubeconfig = cluster.kubeconfig();
    Cluster::found_with(3, |config| {
        config["kubernetes"] = json!({"kubeconfig": kubeconfig})
    })
    .await
}

#[test]
fn the_mesh_is_what_kubernetes_has_whoever_leads() -> anyhow::Result<()> {
    let said = std::env::var("WATCHING_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed = said.unwrap_or_else(rand::random);
    eprintln!("WATCHING_SEED={seed}");
    Kubernetes::with(async |cluster| {
        let mut controllers = controllers(cluster).await?;
        let mut shop = Shop::open(cluster.client().await?, seed).await?;
        let mut stopped: Vec<usize> = Vec::new();
        for number in 0..CHANGES {
            shop.change()
                .await
                .with_context(|| format!("change {number}"))?;
            // The leader first; then the one that leads after it, so that nothing is agreed on until both go on.
            match number * 6 / CHANGES {
                1 if stopped.is_empty() => stopped.push(controllers.ready().await?),
                2 if stopped.len() == 1 => {
                    let running = controllers.running();
                    let next = running.into_iter().find(|one| !stopped.contains(one));
                    stopped.push(next.context("one more runs")?);
                }
                4 => {
                    for one in stopped.drain(..) {
                        signal(&controllers, one, Signal::CONT)?;
                    }
                    continue;
                }
                _ => continue,
            }
            signal(&controllers, stopped[stopped.len() - 1], Signal::STOP)?;
        }
        let endpoints = same(&shop, &controllers).await?;
        ensure!(
            endpoints > 20,
            "there is little to compare: {endpoints} endpoints"
        );
        Ok(())
    })
}

fn signal(controllers: &Cluster, index: usize, signal: Signal) -> anyhow::Result<()> {
    let process = controllers.controllers[index].process.as_ref();
    process.context("it runs")?.signal(signal)
}

#[test]
fn an_api_server_that_is_away_takes_nothing_from_the_mesh() -> anyhow::Result<()> {
    Kubernetes::with(async |cluster| {
        let mut controllers = controllers(cluster).await?;
        let mut shop = Shop::open(cluster.client().await?, 1).await?;
        for _ in 0..100 {
            shop.change().await?;
        }
        same(&shop, &controllers).await?;
        let before = agreed(&controllers).await?;
        cluster.end("kube-apiserver").await?;
        // Who leads after it has to list everything, and gets no answer.
        let leader = controllers.ready().await?;
        controllers.kill(leader).await?;
        let next = wait::until("another leads", SETTLE_LIMIT, async || {
            let next = controllers.ready().await?;
            ensure!(next != leader, "the others have not noticed yet");
            Ok::<_, anyhow::Error>(next)
        });
        let next = next.await?;
        let watches = &controllers.controllers[next].process;
        let watches = watches.as_ref().context("it runs")?;
        wait::until("it cannot watch", SETTLE_LIMIT, async || {
            wait::ensure(
                watches.log().contains("does not let this kind be watched"),
                "not said",
            )
        })
        .await?;
        ensure!(agreed(&controllers).await? == before, "something is lost");
        cluster.start_api_server()?;
        controllers.start(leader)?;
        wait::until("the API server answers", SETTLE_LIMIT, async || {
            shop.endpoints().await
        })
        .await?;
        for _ in 0..20 {
            shop.change().await?;
        }
        same(&shop, &controllers).await?;
        Ok(())
    })
}
