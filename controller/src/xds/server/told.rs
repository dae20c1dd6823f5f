//! What the clients of this controller were sent, and what they said to it: client status, of CSDS.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use prost::Message;
use tokio::sync::mpsc;
use tonic::Status;
use xds_api::conversation::{Stand, Standing};
use xds_api::envoy::admin::v3::{ClientResourceStatus, UpdateFailureState};
use xds_api::envoy::config::core::v3::Node;
use xds_api::envoy::service::status::v3::client_config::GenericXdsConfig;
use xds_api::envoy::service::status::v3::{ClientConfig, ConfigStatus};
use xds_api::google::protobuf::Any;

use super::Shared;
use super::questions::{Question, Respondent};

/// All that one answer may be. A whole mesh at a few clients, or the names of what thousands hold.
const BYTES: usize = 64 << 20;

/// Which clients are asked for, by their nodes: `<namespace>/<workload>`.
pub(super) type Choice = Box<dyn Fn(&str) -> bool + Send + Sync>;

struct ClientStatus {
    choice: Choice,
    contents: bool,
    /// Bytes that the answer has taken so far.
    taken: AtomicUsize,
    answers: mpsc::Sender<Answer>,
}

#[derive(Debug)]
enum Answer {
    /// It is not asked for.
    NotMeant,
    Told(Box<ClientConfig>),
    TooMuch,
}

impl fmt::Debug for ClientStatus {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("ClientStatus")
    }
}

impl Question for ClientStatus {
    fn put_to(&self, stream: Respondent<'_>) {
        // There is room for every stream that was asked; one that came since is not missed.
        drop(self.answers.try_send(self.answer(stream)));
    }
}

impl ClientStatus {
    fn answer(&self, stream: Respondent<'_>) -> Answer {
        if !(self.choice)(stream.entry.node()) {
            return Answer::NotMeant;
        }
        if self.taken.load(Ordering::Relaxed) > BYTES {
            return Answer::TooMuch;
        }
        let told = told(stream, self.contents);
        let bytes = told.encoded_len();
        match self.taken.fetch_add(bytes, Ordering::Relaxed) + bytes {
            taken if taken > BYTES => Answer::TooMuch,
            _ => Answer::Told(Box::new(told)),
        }
    }
}

/// The status of the clients that are chosen, by node, one for each of their streams; and how many streams did not answer.
pub(super) async fn client_status(
    shared: &Shared,
    choice: Choice,
    contents: bool,
) -> Result<(Vec<ClientConfig>, u32), Status> {
    let (mut clients, mut too_much) = (Vec::new(), false);
    let question = |answers| ClientStatus {
        choice,
        contents,
        taken: AtomicUsize::new(0),
        answers,
    };
    let turn = shared.asker.turn().await;
    let silent = turn.ask(question, |answer| match answer {
        Answer::NotMeant => {}
        Answer::Told(client) => clients.push(*client),
        Answer::TooMuch => too_much = true,
    });
    let silent = silent.await;
    if too_much {
        return Err(Status::resource_exhausted(format!(
            "the answer has more than {BYTES} bytes: match fewer nodes, or set exclude_resource_contents"
        )));
    }
    let id = |client: &ClientConfig| client.node.as_ref().map(|node| node.id.clone());
    clients.sort_by_cached_key(id);
    Ok((clients, silent))
}

/// One stream. A client's metadata and features are left out: they are its own, and have no bound but a request's.
fn told(stream: Respondent<'_>, contents: bool) -> ClientConfig {
    let session = stream.session;
    let node = session.node().map(|node| Node {
        id: node.id.clone(),
        cluster: node.cluster.clone(),
        locality: node.locality.clone(),
        user_agent_name: node.user_agent_name.clone(),
        user_agent_version_type: node.user_agent_version_type.clone(),
        ..Node::default()
    });
    let stands = session.stands();
    let resources = stands.into_iter().map(|stand| {
        let sent = contents.then(|| session.sent(stream.cache, &stand));
        let body = sent.flatten().map(|one| Any {
            type_url: stand.kind.to_string(),
            value: one.body().clone(),
        });
        resource(stand, body)
    });
    ClientConfig {
        node,
        generic_xds_configs: resources.collect(),
    }
}

/// Of what was refused the client has an older version still, if any; what is known is the one that it refused.
fn resource(stand: Stand, body: Option<Any>) -> GenericXdsConfig {
    use {ClientResourceStatus as Client, ConfigStatus as Server};
    let (client, server) = match &stand.standing {
        Standing::Requested => (Client::Requested, Server::NotSent),
        Standing::Absent => (Client::DoesNotExist, Server::NotSent),
        Standing::Sent => (Client::Requested, Server::Stale),
        Standing::Accepted => (Client::Acked, Server::Synced),
        Standing::Refused(_) => (Client::Nacked, Server::Error),
    };
    let version = stand.version.map(|version| version.to_string());
    let mut resource = GenericXdsConfig {
        type_url: stand.kind.to_string(),
        name: stand.name.to_string(),
        config_status: server.into(),
        client_status: client.into(),
        ..GenericXdsConfig::default()
    };
    match stand.standing {
        Standing::Refused(words) => {
            resource.error_state = Some(UpdateFailureState {
                failed_configuration: body,
                details: words.to_string(),
                version_info: version.unwrap_or_default(),
            });
        }
        _ => {
            resource.version_info = version.unwrap_or_default();
            resource.xds_config = body;
        }
    }
    resource
}
