//! `maille check`: is this mesh healthy? Every finding says what to do.

use serde::Serialize;
use xds_api::generated::maille::v1 as api;

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::printer::{Printer, Rows};

use super::status;

/// A sidecar that is not done with a change after this long is stuck, not slow.
const BEHIND_LIMIT_SECONDS: u64 = 30;
/// A root that ends within this needs rotating now.
const ROOT_WARNING_SECONDS: i64 = 30 * 24 * 3600;
/// A leaf is renewed at about half its life of a day; one this close to its end was not.
const LEAF_WARNING_SECONDS: i64 = 3600;

#[derive(Serialize)]
struct Report {
    passed: bool,
    checks: Vec<Finding>,
}

#[derive(Serialize)]
struct Finding {
    name: &'static str,
    passed: bool,
    detail: String,
}

pub(super) async fn run(cluster: &Cluster, printer: Printer) -> Outcome {
    let mut checks = controllers(cluster).await;
    checks.extend(members(cluster).await);
    checks.extend(authority(cluster).await);
    checks.extend(proxies(cluster).await);
    let report = Report {
        passed: checks.iter().all(|check| check.passed),
        checks,
    };
    printer.result(&report, || {
        let mut rows = Rows::new(["check", "result", "detail"]);
        for check in &report.checks {
            rows.push([
                check.name,
                if check.passed { "ok" } else { "FAILED" },
                &check.detail,
            ]);
        }
        rows
    })?;
    let failed = report.checks.iter().filter(|check| !check.passed).count();
    if failed == 0 {
        Ok(())
    } else {
        Err(Failure::failed(format!(
            "{failed} of {} checks did not pass",
            report.checks.len()
        )))
    }
}

fn finding(name: &'static str, passed: bool, good: String, bad: String) -> Finding {
    Finding {
        name,
        passed,
        detail: if passed { good } else { bad },
    }
}

fn unanswered(name: &'static str, status: &tonic::Status) -> Finding {
    Finding {
        name,
        passed: false,
        detail: format!("no answer: {}", status.message()),
    }
}

async fn controllers(cluster: &Cluster) -> Vec<Finding> {
    let mut answers = Vec::new();
    let mut silent = Vec::new();
    for answer in status::each(cluster).await {
        match answer {
            Ok(status) => answers.push(status),
            Err(status) => silent.push(status.message().to_string()),
        }
    }
    let mut findings = vec![finding(
        "controllers-answer",
        silent.is_empty(),
        format!("{} of {} answer", answers.len(), answers.len()),
        format!(
            "{}; start them, or take them out of the endpoints file",
            silent.join("; ")
        ),
    )];
    let Some(first) = answers.first() else {
        return findings;
    };
    let leaders = answers
        .iter()
        .map(|status| status.leader.as_str())
        .collect::<std::collections::BTreeSet<_>>();
    findings.push(finding(
        "one-leader",
        leaders.len() == 1 && !first.leader.is_empty(),
        format!("{} leads", first.leader),
        format!("the controllers name {leaders:?}; a quorum of voters must be up and reach each other on the peer port"),
    ));
    let domains = answers
        .iter()
        .map(|status| (&status.cluster_id, &status.trust_domain))
        .collect::<std::collections::BTreeSet<_>>();
    findings.push(finding(
        "one-cluster",
        domains.len() == 1,
        format!("trust domain {}", first.trust_domain),
        "the endpoints belong to different clusters; correct the endpoints file".to_string(),
    ));
    findings.push(agreement(&answers));
    findings.push(rollout(first));
    let unable = answers
        .iter()
        .filter(|status| status.sealed)
        .filter_map(|status| Some(status.state.as_ref()?.controller.clone()))
        .collect::<Vec<_>>();
    findings.push(finding(
        "keys-unsealed",
        unable.is_empty(),
        "every controller can issue".to_string(),
        format!(
            "{} could not unwrap the root key; give them the key-encryption key of this cluster",
            unable.join(", ")
        ),
    ));
    findings
}

/// A rollout that nobody moves on is one that somebody has forgotten; one that is being moved on is no fault, but whoever looks should know.
fn rollout(status: &api::StatusResponse) -> Finding {
    let detail = match &status.rollout {
        None => "none".to_owned(),
        Some(rollout) => format!(
            "{} by {} is at {}%; see `maille rollout`, which can finish or abort it",
            rollout.id, rollout.author, rollout.share
        ),
    };
    Finding {
        name: "rollout",
        passed: true,
        detail,
    }
}

/// Controllers that stand at the same mesh index must hold the same bytes.
fn agreement(answers: &[api::StatusResponse]) -> Finding {
    let mut by_index = std::collections::BTreeMap::<u64, std::collections::BTreeSet<&str>>::new();
    for status in answers {
        let index = status.state.as_ref().map_or(0, |state| state.index);
        by_index.entry(index).or_default().insert(&status.mesh_hash);
    }
    let split = by_index
        .iter()
        .find(|(_, hashes)| hashes.len() > 1)
        .map(|(index, _)| *index);
    finding(
        "same-mesh",
        split.is_none(),
        format!(
            "mesh index {}",
            by_index.keys().last().copied().unwrap_or_default()
        ),
        format!(
            "controllers differ at mesh index {}; save a snapshot of each and report it",
            split.unwrap_or_default()
        ),
    )
}

async fn members(cluster: &Cluster) -> Vec<Finding> {
    let answer = cluster.members().await;
    let members = match answer {
        Ok(answer) => answer.members,
        Err(status) => return vec![unanswered("members-reachable", &status)],
    };
    let lost = members
        .iter()
        .filter(|member| !member.reachable)
        .map(|member| member.name.as_str())
        .collect::<Vec<_>>();
    let voters = members.iter().filter(|member| member.voter).count();
    let versions = members
        .iter()
        .map(|member| member.version.as_str())
        .collect::<std::collections::BTreeSet<_>>();
    vec![
        finding(
            "members-reachable",
            lost.is_empty(),
            format!("{} members, {voters} voters", members.len()),
            format!(
                "{} not reached by the leader; start it, or `maille members remove` it for good",
                lost.join(", ")
            ),
        ),
        finding(
            "one-version",
            versions.len() <= 1,
            versions.iter().copied().collect::<Vec<_>>().join(", "),
            format!("{versions:?} run side by side; finish the upgrade"),
        ),
    ]
}

async fn authority(cluster: &Cluster) -> Vec<Finding> {
    let answer = cluster
        .call(async |mut client| {
            Ok(client
                .authority(api::AuthorityRequest {})
                .await?
                .into_inner())
        })
        .await;
    let authority = match answer {
        Ok(answer) => answer,
        Err(status) => return vec![unanswered("roots-valid", &status)],
    };
    let soon = jiff::Timestamp::now().as_second() + ROOT_WARNING_SECONDS;
    let ending = authority
        .roots
        .iter()
        .filter(|root| root.not_after < soon)
        .map(|root| root.subject.as_str())
        .collect::<Vec<_>>();
    vec![finding(
        "roots-valid",
        ending.is_empty() && !authority.roots.is_empty(),
        format!(
            "{} roots, {} certificates issued",
            authority.roots.len(),
            authority.issued
        ),
        if authority.roots.is_empty() {
            "there is no root yet".to_string()
        } else {
            format!("{} ends within 30 days", ending.join(", "))
        },
    )]
}

async fn proxies(cluster: &Cluster) -> Vec<Finding> {
    let answer = cluster
        .call(async |mut client| Ok(client.proxies(api::ProxiesRequest {}).await?.into_inner()))
        .await;
    match answer {
        Ok(answer) => judge(&answer.proxies, jiff::Timestamp::now().as_second()),
        Err(status) => vec![unanswered("proxies-current", &status)],
    }
}

/// What is wrong with which client, and what to do.
fn judge(proxies: &[api::Proxy], now: i64) -> Vec<Finding> {
    let described = |wrong: &dyn Fn(&api::Proxy) -> bool,
                     describe: &dyn Fn(&api::Proxy) -> String| {
        let wrong = proxies.iter().filter(|proxy| wrong(proxy));
        wrong.map(describe).collect::<Vec<_>>().join(", ")
    };
    let name = |proxy: &api::Proxy| format!("{} ({})", proxy.node, proxy.kind);
    let finding = |check: &'static str, wrong: String, good: &str, remedy: &str| {
        let bad = format!("{wrong}: {remedy}");
        finding(check, wrong.is_empty(), good.to_owned(), bad)
    };
    let end = |proxy: &api::Proxy| proxy.certificate_not_after;
    vec![
        finding(
            "proxies-connected",
            described(&|proxy| proxy.controller.is_empty(), &name),
            &format!(
                "{} clients, every registered workload among them",
                proxies.len()
            ),
            "registered, and no stream; start it, or see in its log why it reaches no controller",
        ),
        finding(
            "proxies-current",
            described(
                &|proxy| proxy.behind_seconds > BEHIND_LIMIT_SECONDS && proxy.last_nack.is_empty(),
                &|proxy| format!("{} for {} s", name(proxy), proxy.behind_seconds),
            ),
            "nobody is behind",
            "it takes nothing in; look at its process, or start it again",
        ),
        finding(
            "proxies-accept",
            described(&|proxy| !proxy.last_nack.is_empty(), &|proxy| {
                format!("{} refused {}", name(proxy), proxy.last_nack)
            }),
            "nothing was refused",
            "what it had stays in force there; mend the object that it names, or take the change back",
        ),
        finding(
            "certificates-valid",
            described(&|proxy| end(proxy) != 0 && end(proxy) <= now, &name),
            "no certificate has ended",
            "its certificate has ended; give it a new join token (`maille token create`)",
        ),
        finding(
            "certificates-renew",
            described(
                &|proxy| end(proxy) > now && end(proxy) < now + LEAF_WARNING_SECONDS,
                &name,
            ),
            "no certificate is about to end",
            "its certificate ends within the hour and was not renewed; see its log for why",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(index: u64, hash: &str) -> api::StatusResponse {
        api::StatusResponse {
            state: Some(api::ReadState {
                index,
                ..Default::default()
            }),
            mesh_hash: hash.into(),
            ..Default::default()
        }
    }

    #[test]
    fn controllers_at_one_index_must_agree() {
        assert!(agreement(&[status(5, "a"), status(5, "a"), status(4, "b")]).passed);
        let split = agreement(&[status(5, "a"), status(5, "b")]);
        assert!(!split.passed);
        assert!(split.detail.contains("mesh index 5"), "{}", split.detail);
    }

    #[test]
    fn who_lags_refuses_is_away_or_expired_is_named_with_what_to_do() {
        const NOW: i64 = 1_900_000_000;
        let kinds = ["maille-proxy", "envoy", "gRPC C-core"];
        let check = |wrong: &dyn Fn(&mut api::Proxy), expected: &str, words: &[&str]| {
            let client = |kind: &&str, name: &str| api::Proxy {
                node: format!("shop/{name}"),
                kind: (*kind).to_owned(),
                controller: "c1".to_owned(),
                certificate_not_after: NOW + 80_000,
                ..Default::default()
            };
            for kind in &kinds {
                let mut proxies = [client(kind, "fine"), client(kind, "bad")];
                wrong(&mut proxies[1]);
                let findings = judge(&proxies, NOW);
                let failed: Vec<&Finding> = findings.iter().filter(|one| !one.passed).collect();
                let [failed] = failed[..] else {
                    panic!("{expected}: {} findings", failed.len());
                };
                assert_eq!(failed.name, expected);
                let detail = &failed.detail;
                let who = format!("shop/bad ({kind})");
                assert!(
                    detail.contains(&who) && !detail.contains("fine"),
                    "{detail}"
                );
                for word in words {
                    assert!(detail.contains(word), "{detail}");
                }
            }
        };
        check(
            &|one| one.controller.clear(),
            "proxies-connected",
            &["start it"],
        );
        check(
            &|one| one.behind_seconds = 31,
            "proxies-current",
            &["for 31 s", "look at its process"],
        );
        let refuse = |one: &mut api::Proxy| {
            one.last_nack = "RDS: no such thing".to_owned();
            one.behind_seconds = 40;
        };
        check(
            &refuse,
            "proxies-accept",
            &["RDS: no such thing", "mend the object"],
        );
        check(
            &|one| one.certificate_not_after = NOW,
            "certificates-valid",
            &["new join token"],
        );
        check(
            &|one| one.certificate_not_after = NOW + 60,
            "certificates-renew",
            &["within the hour"],
        );
    }
}
