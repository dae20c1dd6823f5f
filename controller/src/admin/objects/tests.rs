//! Objects over the admin API: what is written, shown and refused.
#![allow(clippy::unwrap_used)]

use prost::Message;
use tonic::Code;
use xds_api::generated::google::rpc;

use super::*;
use crate::{
    agreement::alone::Alone,
    model::{
        Command,
        tests::{instance, route, service},
    },
};

#[derive(Debug)]
struct Fresh(Arc<Alone>);

impl Reads for Fresh {
    fn read(&self, _: api::Consistency) -> BoxFuture<'static, Result<ReadView, AgreementError>> {
        let view = ReadView {
            state: self.0.now(),
            age: Duration::from_millis(3),
        };
        Box::pin(async move { Ok(view) })
    }
}

struct Bench {
    alone: Arc<Alone>,
    objects: MeshObjects,
    author: Author,
}

impl Bench {
    fn new() -> Self {
        let alone = Alone::new();
        let objects = MeshObjects::new(alone.clone(), Arc::new(Fresh(alone.clone())), "c1");
        Self {
            alone,
            objects,
            author: Author::named("spiffe://mesh.local/admin/ann"),
        }
    }

    async fn apply(&self, text: &str) -> Result<api::ApplyResponse, Status> {
        self.request(text, "", 0, false).await
    }

    async fn request(
        &self,
        text: &str,
        client: &str,
        sequence: u64,
        dry_run: bool,
    ) -> Result<api::ApplyResponse, Status> {
        let document = api::Document {
            file: "mesh.yaml".to_owned(),
            text: text.to_owned(),
        };
        let request = api::ApplyRequest {
            documents: vec![document],
            dry_run,
            client: client.to_owned(),
            sequence,
        };
        self.objects.apply(&self.author, request).await
    }

    async fn delete(&self, kind: &str, name: &str) -> Result<api::DeleteResponse, Status> {
        let request = api::DeleteRequest {
            kind: kind.to_owned(),
            name: name.to_owned(),
            ..api::DeleteRequest::default()
        };
        self.objects.delete(&self.author, request).await
    }

    async fn get(&self, kind: &str, name: &str) -> Result<api::GetResponse, Status> {
        let request = api::GetRequest {
            kind: kind.to_owned(),
            name: name.to_owned(),
            ..api::GetRequest::default()
        };
        self.objects.get(request).await
    }
}

fn outcomes(results: &[api::ObjectResult]) -> Vec<String> {
    let shown = |result: &api::ObjectResult| {
        format!("{}/{} {:?}", result.kind, result.name, result.outcome())
    };
    results.iter().map(shown).collect()
}

fn told(status: &Status) -> String {
    let details = rpc::Status::decode(status.details()).unwrap();
    let problems = api::Problems::decode(details.details[0].value.clone())
        .unwrap()
        .problems;
    let shown = |problem: &api::Problem| {
        format!(
            "{}:{}:{}: {}: {}",
            problem.file, problem.line, problem.column, problem.path, problem.message
        )
    };
    let lines = problems.iter().map(shown);
    std::iter::once(status.message().to_owned())
        .chain(lines)
        .collect::<Vec<_>>()
        .join("\n")
}

#[tokio::test]
async fn documents_are_applied_all_or_none_at_one_index() {
    let bench = Bench::new();
    let text = service("web") + &service("api") + &route("split", "web", "api", 80);
    let answer = bench.apply(&text).await.unwrap();
    assert_eq!(
        outcomes(&answer.results),
        [
            "Service/web Created",
            "Service/api Created",
            "HTTPRoute/split Created"
        ]
    );
    assert_eq!(answer.index, bench.alone.now().mesh().index());

    let refused = bench
        .apply(&(service("more") + &route("wrong", "web", "apo", 81)))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let told = told(&refused);
    insta::assert_snapshot!(told);
    assert_eq!(
        bench.alone.now().mesh().services().len(),
        2,
        "a refused apply writes nothing"
    );
}

#[tokio::test]
async fn wrong_documents_come_back_with_every_place() {
    let bench = Bench::new();
    let writes = bench.alone.writes().len();
    let refused = bench
        .apply(&(service("web").replace("port: 80", "prot: 80") + &route("r", "web", "web", 0)))
        .await
        .unwrap_err();
    let told = told(&refused);
    insta::assert_snapshot!(told);
    let empty = bench.apply("# nothing\n").await.unwrap_err();
    assert_eq!(empty.code(), Code::InvalidArgument);
    assert_eq!(
        bench.alone.writes().len(),
        writes,
        "what cannot be read costs no log entry"
    );
}

#[tokio::test]
async fn a_dry_run_answers_and_writes_nothing() {
    let bench = Bench::new();
    let answer = bench
        .request(&service("web"), "cli", 1, true)
        .await
        .unwrap();
    assert_eq!(outcomes(&answer.results), ["Service/web Created"]);
    assert!(bench.alone.now().mesh().services().is_empty());
    assert_eq!(answer.index, 1);
}

#[tokio::test]
async fn a_write_that_is_sent_twice_is_applied_once() {
    let bench = Bench::new();
    let first = bench
        .request(&service("web"), "cli", 1, false)
        .await
        .unwrap();
    bench.delete("svc", "web").await.unwrap();
    let again = bench
        .request(&service("web"), "cli", 1, false)
        .await
        .unwrap();
    assert_eq!(first, again);
    assert!(bench.alone.now().mesh().services().is_empty());
}

#[tokio::test]
async fn objects_are_deleted_by_reference_and_by_document() {
    let bench = Bench::new();
    let text = service("web") + &route("split", "web", "web", 80);
    bench.apply(&text).await.unwrap();
    let refused = bench.delete("services", "web").await.unwrap_err();
    assert!(
        told(&refused).contains("HTTPRoute default/split still refers to Service default/web"),
        "{}",
        told(&refused)
    );
    assert_eq!(
        bench.delete("service", "nothing").await.unwrap_err().code(),
        Code::NotFound
    );
    assert_eq!(
        bench.delete("servicce", "web").await.unwrap_err().code(),
        Code::InvalidArgument
    );
    let document = api::Document {
        file: "mesh.yaml".to_owned(),
        text,
    };
    let request = api::DeleteRequest {
        documents: vec![document],
        ..api::DeleteRequest::default()
    };
    let answer = bench.objects.delete(&bench.author, request).await.unwrap();
    assert_eq!(
        outcomes(&answer.results),
        ["Service/web Deleted", "HTTPRoute/split Deleted"]
    );
}

#[tokio::test]
async fn what_is_shown_has_a_status_and_can_be_applied_again() {
    let bench = Bench::new();
    let ours = "apiVersion: maille.dev/v1alpha1\nkind: ";
    let calls = "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: calls, namespace: desk}\nspec: {parentRefs: [{kind: Service, name: web, namespace: default, port: 80}], rules: [{matches: [{method: {service: a.B}}], backendRefs: [{name: web, namespace: default, port: 80, weight: 3}]}, {}]}\n---\n";
    let text = service("web")
        + &route("split", "web", "web", 80)
        + calls
        + &format!(
            "{ours}Workload\nmetadata: {{name: web-1, labels: {{team: a}}}}\nspec: {{}}\n---\n"
        )
        + &format!(
            "{ours}AuthorizationPolicy\nmetadata: {{name: only-b}}\nspec: {{targetRef: {{kind: Service, name: web}}, rules: [{{from: [{{namespaces: [b]}}]}}]}}\n---\n"
        )
        + &format!(
            "{ours}TrafficPolicy\nmetadata: {{name: web}}\nspec: {{targetRef: {{kind: Service, name: web}}, timeout: 1500ms, retries: {{attempts: 2}}}}\n---\n"
        )
        + &format!(
            "{ours}MeshSettings\nmetadata: {{name: default}}\nspec: {{mtls: {{mode: Strict}}}}\n"
        );
    bench.apply(&text).await.unwrap();
    let register = Proposal {
        author: "test".to_owned(),
        client: String::new(),
        sequence: 0,
        time_millis: 0,
        command: Command::Register(instance("web-1", 1)),
    };
    bench.alone.apply(&register).accepted().unwrap();
    let everything = api::GetRequest {
        kind: "all".to_owned(),
        all_namespaces: true,
        ..api::GetRequest::default()
    };
    let answer = bench.objects.get(everything).await.unwrap();
    let shown = answer.objects.iter().map(|object| {
        let cells: Vec<String> = object
            .columns
            .iter()
            .zip(&object.cells)
            .map(|(column, cell)| format!("{column}={cell}"))
            .collect();
        let json: serde_json::Value = serde_json::from_str(&object.json).unwrap();
        let status = serde_json::to_string_pretty(&json["status"]).unwrap();
        format!(
            "{} {}/{} [{}] {status}",
            object.kind,
            object.namespace,
            object.name,
            cells.join("; ")
        )
    });
    let told = shown.collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!(told);

    let texts: Vec<&str> = answer
        .objects
        .iter()
        .map(|object| object.json.as_str())
        .collect();
    let again = bench.apply(&texts.join("\n---\n")).await.unwrap();
    assert!(
        again
            .results
            .iter()
            .all(|result| result.outcome() == api::object_result::Outcome::Unchanged)
    );
    assert_eq!(answer.state.unwrap().age_millis, 3);
}

#[tokio::test]
async fn get_finds_by_any_usual_name() {
    let bench = Bench::new();
    bench
        .apply(&(service("web") + &service("api")))
        .await
        .unwrap();
    for (kind, name, count) in [
        ("svc", "", 2),
        ("Services", "web", 1),
        ("service", "none", 0),
        ("all", "api", 1),
    ] {
        assert_eq!(
            bench.get(kind, name).await.unwrap().objects.len(),
            count,
            "{kind} {name}"
        );
    }
    let unknown = bench.get("pods", "").await.unwrap_err();
    assert!(
        unknown.message().contains("there is no kind `pods`"),
        "{unknown:?}"
    );
}
