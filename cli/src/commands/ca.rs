//! `maille ca`: the trust roots, the issuance log, and the proof that nothing was taken out of the log.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::Message;
use serde::Serialize;
use tokio_stream::StreamExt;
use xds_api::generated::maille::v1 as api;

use crate::args::operate::{Ca, CaAction};
use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::printer::{Printer, Rows, data, or_dash, time};

/// Columns of a PEM line (RFC 7468).
const PEM_WIDTH: usize = 64;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Authority {
    trust_domain: String,
    sealed: bool,
    issued: u64,
    chain_head: String,
    leaf_lifetime_seconds: u32,
    roots: Vec<Certificate>,
    issuers: Vec<Certificate>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Certificate {
    subject: String,
    controller: String,
    serial: String,
    not_before: String,
    not_after: String,
    fingerprint: String,
    pem: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    number: u64,
    spiffe_id: String,
    serial: String,
    not_before: String,
    not_after: String,
    leaf_sha256: String,
    key_sha256: String,
    controller: String,
    reason: String,
    workload: String,
    hash: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Verified {
    verified: bool,
    records: u64,
    first: u64,
    head: String,
}

pub(super) async fn run(args: &Ca, cluster: &Cluster, printer: Printer) -> Outcome {
    match &args.action {
        CaAction::Roots { pem } => roots(*pem, cluster, printer).await,
        CaAction::Log { from, identity } => log(*from, identity, cluster, printer).await,
        CaAction::Verify => verify(cluster, printer).await,
    }
}

async fn authority(cluster: &Cluster) -> Outcome<api::AuthorityResponse> {
    let answer = cluster
        .call(async |mut client| {
            Ok(client
                .authority(api::AuthorityRequest {})
                .await?
                .into_inner())
        })
        .await;
    answer.map_err(|status| Failure::from_status("show the authority", &status, &[]))
}

async fn roots(pem: bool, cluster: &Cluster, printer: Printer) -> Outcome {
    let answer = authority(cluster).await?;
    let authority = Authority {
        trust_domain: answer.trust_domain,
        sealed: answer.sealed,
        issued: answer.issued,
        chain_head: answer.chain_head,
        leaf_lifetime_seconds: answer.leaf_lifetime_seconds,
        roots: answer.roots.into_iter().map(certificate).collect(),
        issuers: answer.issuers.into_iter().map(certificate).collect(),
    };
    if pem {
        return data(
            &authority
                .roots
                .iter()
                .map(|root| root.pem.as_str())
                .collect::<String>(),
        );
    }
    printer.result(&authority, || {
        let mut rows = Rows::new(["use", "subject", "controller", "until", "sha-256"])
            .wide(["serial", "from"]);
        let all = authority
            .roots
            .iter()
            .map(|root| ("root", root))
            .chain(authority.issuers.iter().map(|issuer| ("issuer", issuer)));
        for (purpose, certificate) in all {
            rows.push([
                purpose,
                &certificate.subject,
                &or_dash(&certificate.controller),
                &certificate.not_after,
                certificate
                    .fingerprint
                    .get(..16)
                    .unwrap_or(&certificate.fingerprint),
                &certificate.serial,
                &certificate.not_before,
            ]);
        }
        rows
    })
}

fn certificate(certificate: api::Certificate) -> Certificate {
    Certificate {
        pem: pem(&certificate.der),
        subject: certificate.subject,
        controller: certificate.controller,
        serial: certificate.serial,
        not_before: time(certificate.not_before),
        not_after: time(certificate.not_after),
        fingerprint: certificate.fingerprint,
    }
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    // Base64 is ASCII, so every chunk of it is text.
    let lines = text
        .as_bytes()
        .chunks(PEM_WIDTH)
        .map(|line| String::from_utf8_lossy(line).into_owned() + "\n")
        .collect::<String>();
    format!("-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n")
}

async fn records(
    from: u64,
    identity: &str,
    cluster: &Cluster,
) -> Outcome<Vec<api::IssuanceRecord>> {
    let request = api::IssuanceLogRequest {
        from,
        spiffe_id: identity.to_string(),
    };
    let answer = cluster.call(async |mut client| {
        let mut stream = client.issuance_log(request.clone()).await?.into_inner();
        let mut records = Vec::new();
        while let Some(record) = stream.next().await {
            records.push(record?);
        }
        Ok(records)
    });
    answer
        .await
        .map_err(|status| Failure::from_status("read the issuance log", &status, &[]))
}

async fn log(from: u64, identity: &str, cluster: &Cluster, printer: Printer) -> Outcome {
    let records = records(from, identity, cluster)
        .await?
        .into_iter()
        .map(record)
        .collect::<Vec<_>>();
    printer.result(&records, || {
        let mut rows = Rows::new(["number", "identity", "workload", "until", "reason"]).wide([
            "serial",
            "controller",
            "leaf sha-256",
            "hash",
        ]);
        for record in &records {
            rows.push([
                &record.number.to_string(),
                &record.spiffe_id,
                &record.workload,
                &record.not_after,
                &record.reason,
                &record.serial,
                &record.controller,
                &record.leaf_sha256,
                &record.hash,
            ]);
        }
        rows
    })
}

fn record(record: api::IssuanceRecord) -> Record {
    Record {
        number: record.number,
        spiffe_id: record.spiffe_id,
        serial: record.serial,
        not_before: time(record.not_before),
        not_after: time(record.not_after),
        leaf_sha256: hex::encode(record.leaf_sha256),
        key_sha256: hex::encode(record.key_sha256),
        controller: record.controller,
        reason: record.reason,
        workload: record.workload,
        hash: hex::encode(record.hash),
    }
}

async fn verify(cluster: &Cluster, printer: Printer) -> Outcome {
    // The head first: the log may grow while it is read, and then the head is a record in it.
    let head = authority(cluster).await?.chain_head;
    let records = records(0, "", cluster).await?;
    chain(&records, &head)?;
    let first = records.first().map_or(0, |record| record.number);
    let verified = Verified {
        verified: true,
        records: records.len() as u64,
        first,
        head,
    };
    printer.text(&verified, || {
        format!(
            "the issuance log is whole: {} records, head {}\n",
            verified.records,
            or_dash(&verified.head)
        )
    })
}

/// Recomputes the chain: each record's hash covers the one before, and the agreed head is among them.
fn chain(records: &[api::IssuanceRecord], head: &str) -> Outcome {
    let mut previous: Option<&api::IssuanceRecord> = None;
    for record in records {
        if previous.is_some_and(|before| {
            before.hash != record.previous || before.number + 1 != record.number
        }) {
            return Err(broken(
                record.number,
                "it does not follow the record before it: one was taken out or put in",
            ));
        }
        if link(record) != record.hash {
            return Err(broken(
                record.number,
                "its content is not what was hashed when it was written",
            ));
        }
        previous = Some(record);
    }
    let agreed = records.is_empty()
        || records
            .iter()
            .any(|record| hex::encode(&record.hash) == head);
    if agreed {
        Ok(())
    } else {
        Err(broken(
            previous.map_or(0, |last| last.number),
            "the agreed head of the chain is not in the log",
        ))
    }
}

fn link(record: &api::IssuanceRecord) -> Vec<u8> {
    let mut bytes = record.previous.to_vec();
    let unhashed = api::IssuanceRecord {
        hash: Default::default(),
        ..record.clone()
    };
    bytes.extend(unhashed.encode_to_vec());
    digest(&SHA256, &bytes).as_ref().to_vec()
}

fn broken(number: u64, why: &str) -> Failure {
    Failure::failed(format!("the issuance log is broken at record {number}: {why}"))
        .next("compare with another controller (`--endpoint`) and with a saved snapshot; treat certificates issued since as suspect")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn log() -> Vec<api::IssuanceRecord> {
        let mut records: Vec<api::IssuanceRecord> = Vec::new();
        for number in 1..=4u64 {
            let previous = records
                .last()
                .map(|record| record.hash.clone())
                .unwrap_or_default();
            let mut record = api::IssuanceRecord {
                number,
                spiffe_id: format!("spiffe://d/ns/a/sa/{number}"),
                previous,
                ..Default::default()
            };
            record.hash = link(&record).into();
            records.push(record);
        }
        records
    }

    fn head(records: &[api::IssuanceRecord]) -> String {
        hex::encode(&records.last().unwrap().hash)
    }

    #[test]
    fn a_whole_log_passes() {
        let records = log();
        chain(&records, &head(&records)).unwrap();
        chain(&[], "").unwrap();
        // Its oldest records may have expired.
        chain(&records[2..], &head(&records)).unwrap();
    }

    #[test]
    fn a_log_that_was_touched_is_broken() {
        let check = |touch: fn(&mut Vec<api::IssuanceRecord>), place: &str| {
            let mut records = log();
            let head = head(&records);
            touch(&mut records);
            let text = chain(&records, &head).unwrap_err().to_string();
            assert!(text.contains(place), "{text}");
        };
        check(
            |records| records[1].spiffe_id = "spiffe://d/ns/a/sa/other".into(),
            "record 2",
        );
        check(|records| drop(records.remove(2)), "record 4");
        check(|records| records.swap(1, 2), "record 3");
        check(|records| drop(records.pop()), "head");
    }
}
