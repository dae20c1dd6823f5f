//! `--wait`: whether a change is live, and if not, at whom it hangs.

use std::time::Duration;

use tokio::time::Instant;
use xds_api::generated::maille::v1 as api;

use crate::cluster::Cluster;
use crate::failure::{Exit, Failure, Outcome};
use crate::printer::say;

/// One call waits no longer, so that what hangs can be told in between.
const ROUND: Duration = Duration::from_secs(2);
/// Names in a line of progress.
const NAMED: usize = 3;

/// How long is waited where the user says nothing of it.
pub(super) const DEFAULT_LIMIT: Duration = Duration::from_secs(60);

/// Waits until every live client has acknowledged all up to an index.
pub(super) async fn until_live(cluster: &Cluster, index: u64, limit: Duration) -> Outcome {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let request = api::AwaitLiveRequest {
            index,
            limit_millis: u32::try_from(left.min(ROUND).as_millis()).unwrap_or(u32::MAX),
        };
        let answer = cluster
            .call(async |mut client| Ok(client.await_live(request).await?.into_inner()))
            .await;
        let answer = answer.map_err(|status| Failure::from_status("wait", &status, &[]))?;
        if answer.behind == 0 {
            say(&format!("live at all {} proxies", answer.clients));
            return Ok(());
        }
        if let Some(refusal) = answer.laggards.iter().find(|one| refuses(one, index)) {
            return Err(refused(refusal));
        }
        if answer.unseen_refusals > 0 {
            return Err(refused_unseen(answer.unseen_refusals));
        }
        if Instant::now() >= deadline {
            return Err(late(&answer, index, limit));
        }
        say(&format!(
            "waiting for {} of {} proxies: {}",
            answer.behind,
            answer.clients,
            names(&answer, NAMED)
        ));
    }
}

/// Whether it has refused what it was sent up to this index, not only something before.
fn refuses(proxy: &api::Proxy, index: u64) -> bool {
    !proxy.last_nack.is_empty() && proxy.answered_through >= index
}

fn refused(proxy: &api::Proxy) -> Failure {
    let message = format!("{} refuses the change: {}", proxy.node, proxy.last_nack);
    Failure::new(Exit::Failed, message).next(
        "what it had stays in force there; mend the objects and apply again, or take the change back; see `maille proxies`",
    )
}

fn late(answer: &api::AwaitLiveResponse, index: u64, limit: Duration) -> Failure {
    let message = format!(
        "after {} s, {} of {} proxies have not acknowledged mesh index {index}: {}",
        limit.as_secs(),
        answer.behind,
        answer.clients,
        names(answer, answer.laggards.len())
    );
    Failure::new(Exit::Failed, message)
        .next("the change is in force wherever it was acknowledged; see `maille proxies`")
}

fn refused_unseen(count: u32) -> Failure {
    let message = match count {
        1 => "a proxy that you may not see refuses the change".to_owned(),
        _ => format!("{count} proxies that you may not see refuse the change"),
    };
    Failure::new(Exit::Failed, message).next(
        "mend the objects and apply again, or take the change back; who may see all namespaces finds the words with `maille proxies`",
    )
}

/// Those behind whom the caller may see, and how many others there are.
fn names(answer: &api::AwaitLiveResponse, most: usize) -> String {
    let mut named: Vec<String> = answer.laggards.iter().take(most).map(name).collect();
    let seen = answer.behind.saturating_sub(answer.unseen) as usize;
    let mut others = |count: usize, whom: &str| {
        let and = if named.is_empty() { "" } else { "and " };
        if count > 0 {
            named.push(format!("{and}{count} {whom}"));
        }
    };
    others(seen.saturating_sub(most.min(answer.laggards.len())), "more");
    others(answer.unseen as usize, "that you may not see");
    named.join(", ")
}

fn name(proxy: &api::Proxy) -> String {
    match proxy.controller.as_str() {
        "" => format!("{} (no stream at any controller)", proxy.node),
        controller => format!(
            "{} (at {controller}, {} s behind)",
            proxy.node, proxy.behind_seconds
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_behind_are_named_with_where_they_hang() {
        let proxy = |node: &str, controller: &str| api::Proxy {
            node: node.to_owned(),
            controller: controller.to_owned(),
            behind_seconds: 4,
            ..Default::default()
        };
        let laggards = vec![proxy("a/b", "c1"), proxy("a/c", ""), proxy("a/d", "c2")];
        let mut answer = api::AwaitLiveResponse {
            behind: 3,
            laggards,
            ..Default::default()
        };
        let all =
            "a/b (at c1, 4 s behind), a/c (no stream at any controller), a/d (at c2, 4 s behind)";
        assert_eq!(names(&answer, 3), all);
        assert_eq!(names(&answer, 1), "a/b (at c1, 4 s behind), and 2 more");
        (answer.behind, answer.unseen) = (6, 3);
        assert_eq!(
            names(&answer, 3),
            format!("{all}, and 3 that you may not see")
        );
        answer.laggards.clear();
        answer.behind = 3;
        assert_eq!(names(&answer, 3), "3 that you may not see");
    }
}
