//! What a change would send to the streams of this controller: each works it out on a copy of itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;
use xds_api::maille::v1 as api;

use super::Shared;
use super::questions::{Question, Respondent};
use crate::agreement::refusal_status;
use crate::model::{Command, State};
use crate::xds::cache::{Cache, Published};
use crate::xds::scope::Dialect;
use crate::xds::session::{Moment, Sent};

/// How long the xDS side may take to follow the state that is asked about: it publishes every 10 ms.
const FOLLOW_LIMIT: Duration = Duration::from_secs(2);
/// Between two looks.
const FOLLOW_PAUSE: Duration = Duration::from_millis(5);
/// Messages in one answer, before and after together; what is beyond is named only.
const BYTES: usize = 1 << 20;

/// What a change would send.
#[derive(Debug)]
struct Preview {
    now: Arc<Published>,
    next: Arc<Published>,
    next_cache: Cache,
    answers: mpsc::Sender<Answer>,
}

#[derive(Debug)]
struct Answer {
    node: String,
    agent: String,
    dialect: Dialect,
    sent: Vec<Sent>,
}

impl Question for Preview {
    fn put_to(&self, stream: Respondent<'_>) {
        let (session, entry) = (stream.session, stream.entry);
        let now = Moment {
            cache: stream.cache,
            published: &self.now,
        };
        let next = Moment {
            cache: &self.next_cache,
            published: &self.next,
        };
        let answer = Answer {
            node: entry.node().to_owned(),
            agent: entry.agent().to_owned(),
            dialect: session.dialect(),
            sent: session.preview(now, next, stream.alone),
        };
        // There is room for every stream that was asked; one that came since is not missed.
        drop(self.answers.try_send(answer));
    }
}

/// What a command would send to whom, tried on a state of at least this mesh index.
pub(super) async fn preview(
    shared: &Shared,
    command: Command,
    index: u64,
) -> Result<api::Preview, Status> {
    let turn = shared.asker.turn().await;
    let (state, now) = settled(shared, index).await?;
    let (next, applied) = state.tried("", command);
    applied
        .accepted()
        .map_err(|refusal| refusal_status(&refusal))?;
    let Some(next) = now.followed_by(next.mesh()) else {
        return Ok(api::Preview::default());
    };
    let next = Arc::new(next);
    let question = |answers| Preview {
        now,
        next_cache: Cache::at(next.clone()),
        next,
        answers,
    };
    let mut collected = Collected::new(&shared.controller);
    let silent = turn.ask(question, |answer| collected.add(answer)).await;
    collected.preview.silent_streams = silent;
    Ok(collected.preview)
}

/// The state that is served now, once it is new enough.
async fn settled(shared: &Shared, index: u64) -> Result<(Arc<State>, Arc<Published>), Status> {
    let deadline = Instant::now() + FOLLOW_LIMIT;
    loop {
        let state = shared.states.borrow().clone();
        let now = shared.cache.published();
        if now.version.index >= index && now.is_of(&state) {
            return Ok((state, now));
        }
        if Instant::now() >= deadline {
            let text = format!("this controller is not at mesh index {index} yet: ask again");
            return Err(Status::unavailable(text));
        }
        tokio::time::sleep(FOLLOW_PAUSE).await;
    }
}

/// A resource's change, however many clients it goes to.
type Key = (Dialect, &'static str, Arc<str>, String, String);

/// Answers become one.
struct Collected<'a> {
    controller: &'a str,
    preview: api::Preview,
    known: BTreeMap<Key, u32>,
    bytes: usize,
}

impl<'a> Collected<'a> {
    fn new(controller: &'a str) -> Self {
        Self {
            controller,
            preview: api::Preview::default(),
            known: BTreeMap::new(),
            bytes: 0,
        }
    }

    fn add(&mut self, answer: Answer) {
        let dialect = answer.dialect;
        let places = answer
            .sent
            .into_iter()
            .map(|sent| self.place(dialect, sent));
        let mut resources: Vec<u32> = places.collect();
        resources.sort_unstable();
        resources.dedup();
        if resources.is_empty() {
            return;
        }
        self.preview.clients.push(api::PreviewedClient {
            node: answer.node,
            kind: answer.agent,
            controller: self.controller.to_owned(),
            resources,
        });
    }

    fn place(&mut self, dialect: Dialect, sent: Sent) -> u32 {
        let version = |one: &Option<Arc<xds_api::resource::Resource>>| {
            one.as_ref()
                .map(|one| one.version().to_string())
                .unwrap_or_default()
        };
        let (before, after) = (version(&sent.before), version(&sent.after));
        let kind = sent.kind.as_str();
        let key = (
            dialect,
            kind,
            sent.name.clone(),
            before.clone(),
            after.clone(),
        );
        if let Some(place) = self.known.get(&key) {
            return *place;
        }
        let mut resource = api::PreviewedResource {
            dialect: dialect.name().to_owned(),
            type_url: kind.to_owned(),
            name: sent.name.to_string(),
            before_version: before,
            after_version: after,
            ..Default::default()
        };
        if resource.before_version != resource.after_version {
            let body = |one: Option<Arc<xds_api::resource::Resource>>| {
                one.map(|one| one.body().clone()).unwrap_or_default()
            };
            let (before, after) = (body(sent.before), body(sent.after));
            self.bytes += before.len() + after.len();
            resource.left_out = self.bytes > BYTES;
            if !resource.left_out {
                (resource.before, resource.after) = (before, after);
            }
        }
        let place = u32::try_from(self.preview.resources.len()).unwrap_or(u32::MAX);
        self.preview.resources.push(resource);
        self.known.insert(key, place);
        place
    }
}
