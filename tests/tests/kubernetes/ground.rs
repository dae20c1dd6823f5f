//! The cluster itself: what every other test here takes for granted.

use anyhow::ensure;
use maille_tests::kubernetes::Kubernetes;

const WEB: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: app
        image: localhost/busybox:1
        imagePullPolicy: Never
        command: [/bin/sh, -c, "trap 'exit 0' TERM; mkdir /tmp/w; hostname > /tmp/w/index.html; httpd -f -p 8080 -h /tmp/w & wait"]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
"#;

#[test]
fn pods_run_and_are_reached_by_the_name_of_their_service() -> anyhow::Result<()> {
    Kubernetes::with(async |cluster| serve(cluster).await)
}

async fn serve(cluster: &Kubernetes) -> anyhow::Result<()> {
    cluster.apply(WEB).await?;
    cluster
        .kubectl(&["rollout", "status", "deployment/web", "--timeout=60s"])
        .await?;
    let call = [
        "exec",
        "deployment/web",
        "--",
        "wget",
        "-qO-",
        "http://web.default.svc.cluster.local/",
    ];
    let said = cluster.kubectl(&call).await?;
    ensure!(said.starts_with("web-"), "the service answers {said:?}");
    Ok(())
}
