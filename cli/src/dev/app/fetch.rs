//! Fetches one page from inside a namespace, trying until it is there.

use std::time::Duration;

use http::{Method, StatusCode};
use tokio::time::Instant;

use crate::args::dev::Fetch;
use crate::failure::{Failure, Outcome};
use crate::http_get::exchange;
use crate::printer::data;

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) async fn run(args: &Fetch) -> Outcome {
    let deadline = Instant::now() + Duration::from_secs(args.limit);
    loop {
        let last = match exchange(&args.address, Method::GET, &args.path, String::new()).await {
            Ok((StatusCode::OK, body)) => return data(&body),
            Ok((status, body)) => Failure::failed(format!(
                "{}{}: {status}: {}",
                args.address,
                args.path,
                body.trim()
            )),
            Err(error) => {
                Failure::failed(format!("{}{}", args.address, args.path)).caused_by(error)
            }
        };
        if Instant::now() >= deadline {
            return Err(last);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
