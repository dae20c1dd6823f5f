//! The web front: a page is one call to each of the services behind it, and is good only if all of them are.

use std::cell::RefCell;
use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::args::dev::{Protocol, Web};
use crate::failure::{Failure, Outcome};
use crate::printer::data;

use super::connection::{Call, Connection, Trouble};
use super::reply::Reply;
use super::serve;
use super::server::{json, seen, text};
use super::tally::{Answer, Counter};

/// A page waits this long for each of its parts.
const PART_LIMIT: Duration = Duration::from_secs(5);
/// The largest body taken.
const BODY_LIMIT: usize = 1 << 20;
/// How often the counts of the calls behind the pages are printed.
const LINE_INTERVAL: Duration = Duration::from_secs(1);
/// How many idle connections a part keeps.
const IDLE_LIMIT: usize = 8;

pub(super) async fn run(args: &Web) -> Outcome {
    let start = Instant::now();
    let parts = [
        Part::new(Protocol::Http1, &args.api, start),
        Part::new(Protocol::GrpcStream, &args.greeter, start),
        Part::new(Protocol::Banner, &args.banner, start),
    ];
    let name = args.server.name.clone();
    let serving = serve(&args.server, async |stream: TcpStream| {
        let service = service_fn(|request| page(&name, &parts, request));
        if stream.set_nodelay(true).is_ok() {
            // A visitor that went away is its own business.
            let _gone = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        }
    });
    tokio::select! {
        ended = serving => ended,
        broken = print(&parts) => broken,
    }
}

async fn print(parts: &[Part]) -> Outcome {
    let mut line = tokio::time::interval(LINE_INTERVAL);
    loop {
        line.tick().await;
        for part in parts {
            let line = part.counter.borrow_mut().line(&part.call.target);
            data(
                &(serde_json::to_string(&line)
                    .map_err(|error| Failure::failed("print the counts").caused_by(error))?
                    + "\n"),
            )?;
        }
    }
}

#[derive(Serialize)]
struct Page {
    #[serde(flatten)]
    reply: Reply,
    parts: Vec<String>,
}

async fn page(
    name: &str,
    parts: &[Part],
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let xfcc = seen(request.headers());
    let body = match Limited::new(request.into_body(), BODY_LIMIT)
        .collect()
        .await
    {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(error) => return Ok(text(StatusCode::BAD_REQUEST, error.to_string())),
    };
    let answers = futures_util::future::join_all(parts.iter().map(Part::call)).await;
    let failed = answers
        .iter()
        .filter(|answer| !matches!(answer, Answer::Ok { .. }))
        .collect::<Vec<_>>();
    if !failed.is_empty() {
        return Ok(text(StatusCode::BAD_GATEWAY, format!("{failed:?}")));
    }
    let parts = answers
        .into_iter()
        .filter_map(|answer| {
            if let Answer::Ok { server, .. } = answer {
                Some(server)
            } else {
                None
            }
        })
        .collect();
    Ok(json(&Page {
        reply: Reply {
            server: name.to_string(),
            xfcc,
            echo: body,
        },
        parts,
    }))
}

/// One service behind the page.
struct Part {
    call: Call,
    idle: RefCell<Vec<Connection>>,
    counter: RefCell<Counter>,
    start: Instant,
}

impl Part {
    fn new(protocol: Protocol, target: &str, start: Instant) -> Part {
        let call = Call {
            protocol,
            target: target.to_string(),
            family: None,
            trust: None,
            path: "/".into(),
            headers: Vec::new(),
            body: "page".into(),
        };
        Part {
            call,
            idle: RefCell::default(),
            counter: RefCell::default(),
            start,
        }
    }

    async fn call(&self) -> Answer {
        let begun = Instant::now();
        let answer = match tokio::time::timeout(PART_LIMIT, self.attempts()).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(trouble)) => Answer::Failed(trouble.to_string()),
            Err(_) => Answer::Failed(format!("no answer within {} s", PART_LIMIT.as_secs())),
        };
        self.counter
            .borrow_mut()
            .count(answer.clone(), self.start.elapsed(), begun.elapsed());
        answer
    }

    /// Idle connections may have been closed by now: those that were are passed over, and the last attempt opens a new one.
    async fn attempts(&self) -> Result<Answer, Trouble> {
        loop {
            let idle = self.idle.borrow_mut().pop();
            let reused = idle.is_some();
            match self.attempt(idle).await {
                Err(Trouble::Unsent) if reused => {}
                answer => return answer,
            }
        }
    }

    async fn attempt(&self, idle: Option<Connection>) -> Result<Answer, Trouble> {
        let mut connection = match idle {
            Some(connection) => connection,
            None => {
                self.counter.borrow_mut().connected();
                self.call.connect().await?
            }
        };
        let answer = self.call.call(&mut connection).await?;
        if self.call.protocol != Protocol::Banner && self.idle.borrow().len() < IDLE_LIMIT {
            self.idle.borrow_mut().push(connection);
        }
        Ok(answer)
    }
}
