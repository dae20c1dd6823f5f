//! The load: connections that call at a common rate, and the count of what came of it.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use tokio::time::Instant;

use crate::args::dev::{Client, Protocol};
use crate::failure::{Exit, Failure, Outcome};
use crate::printer::data;

use super::connection::{Call, Connection, Trouble};
use super::tally::{Answer, Counter};
use super::{released, secure};

/// A call without an answer after this long has failed.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// After a connection that could not be made: without a pause a dead service would be called a hundred thousand times a second.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);
/// How often a line of counts is printed.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

pub(super) async fn run(args: &Client) -> Outcome {
    let load = Load {
        call: call_of(args)?,
        count: args.count.unwrap_or(u64::MAX),
        rate: args.rate,
        reconnect: args.reconnect || args.protocol == Protocol::Banner,
        start: Instant::now(),
        taken: Cell::new(0),
        stopping: Cell::new(false),
        counter: RefCell::new(Counter::default()),
    };
    let workers = (0..args.connections.max(1)).map(|_| load.work());
    let mut working = std::pin::pin!(futures_util::future::join_all(workers));
    let mut stop = std::pin::pin!(released());
    let mut line = tokio::time::interval(LINE_INTERVAL);
    loop {
        tokio::select! {
            _ = &mut working => break,
            () = &mut stop, if !load.stopping.get() => load.stopping.set(true),
            _ = line.tick(), if args.progress => load.print()?,
        }
    }
    load.print()
}

fn call_of(args: &Client) -> Outcome<Call> {
    let headers = args
        .header
        .iter()
        .map(|line| header(line))
        .collect::<Outcome<Vec<_>>>()?;
    Ok(Call {
        protocol: args.protocol,
        target: args.target.clone(),
        family: args.family,
        trust: args.trust.as_deref().map(secure::trust).transpose()?,
        path: args.path.clone(),
        headers,
        body: args.body.clone(),
    })
}

fn header(line: &str) -> Outcome<(HeaderName, HeaderValue)> {
    let wrong = || {
        Failure::new(Exit::Usage, format!("{line:?} is no header"))
            .next("write it as `name: value`")
    };
    let (name, value) = line.split_once(':').ok_or_else(wrong)?;
    let name = HeaderName::try_from(name.trim()).map_err(|error| wrong().caused_by(error))?;
    let value = HeaderValue::try_from(value.trim()).map_err(|error| wrong().caused_by(error))?;
    Ok((name, value))
}

struct Load {
    call: Call,
    count: u64,
    rate: u32,
    reconnect: bool,
    start: Instant,
    taken: Cell<u64>,
    stopping: Cell<bool>,
    counter: RefCell<Counter>,
}

impl Load {
    async fn work(&self) {
        let mut connection = None;
        while let Some(due) = self.take() {
            tokio::time::sleep_until(due).await;
            if self.stopping.get() {
                return;
            }
            let begun = Instant::now();
            let answer = match tokio::time::timeout(CALL_LIMIT, self.once(&mut connection)).await {
                Ok(answer) => answer,
                Err(_) => {
                    connection = None;
                    Answer::Failed(format!("no answer within {} s", CALL_LIMIT.as_secs()))
                }
            };
            let lost = connection.is_none();
            self.counter
                .borrow_mut()
                .count(answer, self.start.elapsed(), begun.elapsed());
            if lost && !self.reconnect {
                tokio::time::sleep(RECONNECT_PAUSE).await;
            }
        }
    }

    /// When the next call is due; `None` when there are no more.
    fn take(&self) -> Option<Instant> {
        let number = self.taken.get();
        if number >= self.count || self.stopping.get() {
            return None;
        }
        self.taken.set(number + 1);
        let due = if self.rate == 0 {
            Duration::ZERO
        } else {
            Duration::from_secs_f64(number as f64 / f64::from(self.rate))
        };
        Some(self.start + due)
    }

    /// One call. A connection that its server had closed meanwhile is replaced, once, as any client does; a call that was sent is never sent again.
    async fn once(&self, slot: &mut Option<Connection>) -> Answer {
        let reused = slot.is_some();
        match self.attempt(slot).await {
            Err(Trouble::Unsent) if reused => self
                .attempt(slot)
                .await
                .unwrap_or_else(|trouble| Answer::Failed(trouble.to_string())),
            Err(trouble) => Answer::Failed(trouble.to_string()),
            Ok(answer) => answer,
        }
    }

    async fn attempt(&self, slot: &mut Option<Connection>) -> Result<Answer, Trouble> {
        let mut connection = match slot.take() {
            Some(connection) => connection,
            None => {
                self.counter.borrow_mut().connected();
                self.call.connect().await?
            }
        };
        let answer = self.call.call(&mut connection).await?;
        if !self.reconnect {
            *slot = Some(connection);
        }
        Ok(answer)
    }

    fn print(&self) -> Outcome {
        let line = self.counter.borrow_mut().line(&self.call.target);
        let line = serde_json::to_string(&line)
            .map_err(|error| Failure::failed("print the counts").caused_by(error))?;
        data(&(line + "\n"))
    }
}
