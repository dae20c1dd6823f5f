//! The scenarios of a public conformance harness: one test a row of its table, each over its types, in both forms, with
//! all types on one stream and each on its own. In every case the server says no more than it must.
//!
//! Services are `a`, `b`, …; each has one resource of every type. In the native dialect `*` is what the named listeners
//! lead to; where it means everything of listeners or of clusters, an Envoy asks: `wildcard`.

mod wildcard;

use xds_api::conversation::Form;
use xds_api::services::Service;
use xds_api::type_url::TypeUrl;

use super::stage::{Stage, WEB};
use super::wire::{Heard, Talk};
use crate::model::Kind;

const CDS: TypeUrl = TypeUrl::Cluster;
const EDS: TypeUrl = TypeUrl::Endpoints;
const LDS: TypeUrl = TypeUrl::Listener;
const RDS: TypeUrl = TypeUrl::Route;
const ALL: [TypeUrl; 4] = [CDS, EDS, LDS, RDS];

const STATE: [Form; 1] = [Form::StateOfTheWorld];
const DELTA: [Form; 1] = [Form::Delta];
const BOTH: [Form; 2] = [Form::StateOfTheWorld, Form::Delta];

/// A controller, and a client that wants resources of one type.
struct Case {
    stage: Stage,
    talk: Talk,
    form: Form,
    kind: TypeUrl,
    label: String,
}

/// A letter's resource; the empty name for `-`.
fn resource(kind: TypeUrl, service: char) -> String {
    match (kind, service) {
        (_, '-') => String::new(),
        (_, '*') => "*".to_owned(),
        (LDS, _) => format!("out/{service}.shop:80"),
        _ => format!("shop/{service}:80"),
    }
}

fn service(name: char, protocol: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{selector: {{app: {name}}}, ports: [{{port: 80, appProtocol: {protocol}}}]}}\n---\n"
    )
}

/// What changes one type's resource of a service.
fn change(kind: TypeUrl, name: char) -> String {
    let policy = |spec: &str| {
        format!(
            "apiVersion: maille.dev/v1alpha1\nkind: TrafficPolicy\nmetadata: {{name: {name}}}\nspec: {{targetRef: {{kind: Service, name: {name}, port: 80}}, {spec}}}\n"
        )
    };
    match kind {
        CDS => policy("limits: {maxConnections: 7}"),
        RDS => policy("timeout: 7s"),
        LDS => service(name, "grpc"),
        _ => format!(
            "apiVersion: maille.dev/v1alpha1\nkind: Workload\nmetadata: {{name: {name}, labels: {{app: {name}}}}}\nspec: {{addresses: [192.0.2.7], serviceAccount: x, ports: [{{name: http, port: 80, appProtocol: http}}]}}\n"
        ),
    }
}

impl Case {
    /// The client wants some services' resources.
    async fn start(form: Form, aggregated: bool, kind: TypeUrl, services: &str) -> Self {
        let mut stage = Stage::start(Some(WEB)).await;
        stage.put(
            &"abcst"
                .chars()
                .map(|one| service(one, "http"))
                .collect::<String>(),
        );
        let of = if aggregated { None } else { Some(kind) };
        let method = Service::ALL.into_iter().find(|one| one.kind == of).unwrap();
        let names: Vec<String> = services.chars().map(|one| resource(kind, one)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let talk = if aggregated && kind != LDS {
            // With all types on one stream nothing of them is known before the listeners are.
            let listeners = ["out/a.shop:80", "out/b.shop:80"];
            let mut talk = Talk::open(&stage, &method, form, LDS, &listeners)
                .await
                .unwrap();
            talk.take().await;
            (talk.requests, talk.responses) = (0, 0);
            talk.want(kind, &names).await;
            talk
        } else {
            Talk::open(&stage, &method, form, kind, &names)
                .await
                .unwrap()
        };
        Self {
            label: format!("{} {form:?} {}", kind.short(), method.name),
            stage,
            talk,
            form,
            kind,
        }
    }

    async fn want(&mut self, services: &str) {
        let names: Vec<String> = services
            .chars()
            .map(|one| resource(self.kind, one))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.talk.want(self.kind, &names).await;
    }

    fn change(&mut self, service: char) {
        self.stage.put(&change(self.kind, service));
    }

    /// The next response: all that is wanted where it must be whole, and what is new elsewhere.
    async fn expect(&mut self, all: &str, new: &str) -> Heard {
        let heard = self.talk.take().await;
        let whole = self.form == Form::StateOfTheWorld && matches!(self.kind, CDS | LDS);
        let services = if whole { all } else { new };
        let names: Vec<String> = services
            .chars()
            .map(|one| resource(self.kind, one))
            .collect();
        assert_eq!(heard.kind, self.kind, "{}", self.label);
        assert_eq!(heard.names(), names, "{}: {heard:?}", self.label);
        heard
    }

    /// Waits until the server has read all that was said: what is newly wanted in the end is answered.
    async fn fence(&mut self, wanted: &str, service: char) {
        let all = format!("{wanted}{service}");
        self.want(&all).await;
        let existing = all.replace('-', "");
        self.expect(&existing, &service.to_string()).await;
    }

    /// Nothing more is said of the case's type: the server has looked at everything, and waits for no acknowledgement.
    async fn quiet(&mut self) {
        let index = self.stage.version().index;
        loop {
            let clean = self.stage.roster(|proxy| proxy.clean_through == index);
            tokio::select! {
                _ = clean => break,
                heard = self.talk.take() => assert_ne!(heard.kind, self.kind, "{}", self.label),
            }
        }
        assert!(
            self.talk.responses < self.talk.requests,
            "{}: {} responses to {} requests",
            self.label,
            self.talk.responses,
            self.talk.requests
        );
    }
}

/// Plays a scenario in every way.
async fn play(
    cases: usize,
    kinds: &[TypeUrl],
    forms: &[Form],
    first: &str,
    scenario: impl AsyncFn(&mut Case),
) {
    let mut played = 0;
    for kind in kinds {
        for form in forms {
            for aggregated in [true, false] {
                let mut case = Case::start(*form, aggregated, *kind, first).await;
                scenario(&mut case).await;
                case.quiet().await;
                case.stage.supervisor.stop().await;
                played += 1;
            }
        }
    }
    assert_eq!(played, cases);
}

#[tokio::test]
async fn a_wildcard_brings_all_and_every_change_brings_all_again() {
    let mut case = Case::start(Form::StateOfTheWorld, true, CDS, "").await;
    case.expect("ab", "ab").await;
    case.change('b');
    case.expect("ab", "b").await;
    case.stage.put(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a}\nspec: {parentRefs: [{kind: Service, name: a}], rules: [{backendRefs: [{name: a, port: 80}, {name: c, port: 80}]}]}\n",
    );
    case.expect("abc", "c").await;
    case.quiet().await;
}

#[tokio::test]
async fn a_subscription_brings_what_it_names() {
    play(8, &[LDS, RDS], &BOTH, "ab", async |case| {
        case.expect("ab", "ab").await;
    })
    .await;
}

#[tokio::test]
async fn a_change_brings_the_whole_subset_or_what_changed() {
    play(8, &ALL, &STATE, "ab", async |case| {
        let before = case.expect("ab", "ab").await;
        case.change('b');
        let after = case.expect("ab", "b").await;
        assert_ne!(before.version, after.version, "{}", case.label);
        assert_ne!(before.nonce, after.nonce, "{}", case.label);
        // Not asked for.
        case.change('c');
    })
    .await;
}

#[tokio::test]
async fn what_does_not_exist_comes_when_it_does() {
    play(16, &ALL, &BOTH, "ax", async |case| {
        let heard = case.expect("a", "a").await;
        assert_eq!(heard.missing, [resource(case.kind, 'x')], "{}", case.label);
        case.stage.put(&service('x', "http"));
        case.expect("ax", "x").await;
    })
    .await;
}

#[tokio::test]
async fn two_types_share_a_stream() {
    for form in BOTH {
        for kind in [CDS, EDS, RDS] {
            let mut case = Case::start(form, true, kind, "a").await;
            case.expect("a", "a").await;
            case.change('a');
            case.expect("a", "a").await;
            case.stage.put(&change(LDS, 'b'));
            let heard = case.talk.take().await;
            assert_eq!(heard.kind, LDS, "{}", case.label);
            case.quiet().await;
        }
    }
}

#[tokio::test]
async fn a_nonce_of_another_type_is_ignored() {
    let mut case = Case::start(Form::StateOfTheWorld, true, RDS, "a").await;
    let heard = case.expect("a", "a").await;
    case.talk.say(LDS, &heard.nonce).await;
    case.stage.put(&change(LDS, 'b'));
    assert_eq!(case.talk.take().await.kind, LDS);
    case.quiet().await;
}

#[tokio::test]
async fn what_is_left_is_not_sent_any_more() {
    play(16, &ALL, &BOTH, "ab", async |case| {
        case.expect("ab", "ab").await;
        case.want("a").await;
        case.fence("a", 's').await;
        case.change('b');
        case.quiet().await;
        case.change('a');
        case.expect("as", "a").await;
    })
    .await;
}

#[tokio::test]
async fn nothing_is_sent_when_all_is_left() {
    play(8, &ALL, &STATE, "ab", async |case| {
        case.expect("ab", "ab").await;
        case.want("-").await;
        case.fence("-", 's').await;
        case.change('a');
        case.change('b');
    })
    .await;
}

#[tokio::test]
async fn in_deltas_one_name_after_the_other_is_sent() {
    play(8, &ALL, &DELTA, "a", async |case| {
        case.expect("a", "a").await;
        case.want("ab").await;
        case.expect("ab", "b").await;
        case.want("abc").await;
        case.expect("abc", "c").await;
    })
    .await;
}

#[tokio::test]
async fn in_deltas_a_change_brings_what_changed() {
    play(8, &ALL, &DELTA, "abc", async |case| {
        let before = case.expect("abc", "abc").await;
        case.change('b');
        let after = case.expect("abc", "b").await;
        assert_ne!(before.version, after.version, "{}", case.label);
        assert_ne!(before.nonce, after.nonce, "{}", case.label);
    })
    .await;
}

#[tokio::test]
async fn in_deltas_what_goes_is_said_and_comes_back() {
    play(8, &ALL, &DELTA, "ab", async |case| {
        case.expect("ab", "ab").await;
        case.stage.delete(Kind::Service, "b");
        let gone = case.talk.take_of(case.kind).await;
        assert_eq!(gone.removed, [resource(case.kind, 'b')], "{}", case.label);
        assert!(gone.resources.is_empty(), "{}: {gone:?}", case.label);
        case.stage.put(&service('b', "http"));
        let back = case.talk.take_of(case.kind).await;
        assert_eq!(back.names(), [resource(case.kind, 'b')], "{}", case.label);
    })
    .await;
}
