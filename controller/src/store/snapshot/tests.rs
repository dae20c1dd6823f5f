//! Writing, receiving, choosing and refusing snapshots.
#![allow(clippy::unwrap_used)]

use std::fs;

use super::*;
use crate::store::media::Disk;

fn header(index: u64) -> Header {
    Header {
        cluster: "c1".into(),
        level: 1,
        position: Some(Position {
            term: 2,
            leader: 1,
            index,
        }),
        membership: "members".into(),
    }
}

fn body(index: u64) -> Vec<u8> {
    (0..3_000_000u64).map(|n| (n * index / 7) as u8).collect()
}

fn publish(snapshots: &Snapshots, index: u64) -> Result<SnapshotFile, StoreError> {
    let mut writer = snapshots.create(&header(index)).unwrap();
    writer.write(&body(index)).unwrap();
    snapshots.publish(writer.finish().unwrap())
}

fn open(path: &Path) -> Snapshots {
    Snapshots::open(path, Arc::new(Disk)).unwrap()
}

fn names(path: &Path) -> usize {
    fs::read_dir(path).unwrap().count()
}

#[test]
fn a_snapshot_reads_back_and_the_one_before_it_is_kept() {
    let home = tempfile::tempdir().unwrap();
    let snapshots = open(home.path());
    for index in [10, 20, 30] {
        publish(&snapshots, index).unwrap();
    }
    drop(snapshots.create(&header(40)).unwrap());
    assert_eq!(names(home.path()), KEPT);
    let current = open(home.path()).current().unwrap();
    assert_eq!(current.header(), &header(30));
    assert_eq!(current.chunks().unwrap().concat(), body(30));
    assert_eq!(inspect(current.path()).unwrap(), *current.inspection());
}

#[test]
fn equal_content_gives_equal_bytes() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let one = publish(&open(one.path()), 10).unwrap();
    let two = publish(&open(two.path()), 10).unwrap();
    assert_eq!(one.inspection(), two.inspection());
}

#[test]
fn an_older_snapshot_does_not_replace_a_newer() {
    let home = tempfile::tempdir().unwrap();
    let snapshots = open(home.path());
    publish(&snapshots, 20).unwrap();
    assert!(matches!(
        publish(&snapshots, 10),
        Err(StoreError::Refused(_))
    ));
    // A state that was being written while a peer's newer snapshot came: the newer one serves, and nothing has failed.
    let late = snapshots.create(&header(10)).unwrap().finish().unwrap();
    let newest = snapshots.publish_unless_newer(late).unwrap();
    assert_eq!(newest.header(), &header(20));
    assert_eq!(names(home.path()), 1);
    assert_eq!(snapshots.current().unwrap().header(), &header(20));
}

#[test]
fn a_snapshot_travels_as_raw_bytes() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sent = publish(&open(here.path()), 10).unwrap();
    let snapshots = open(there.path());
    let mut receiver = snapshots.receive().unwrap();
    let mut offset = 0;
    loop {
        let piece = sent.read_raw(offset, 70_000).unwrap();
        if piece.is_empty() {
            break;
        }
        offset += piece.len() as u64;
        receiver.write(&piece).unwrap();
    }
    let received = snapshots.publish(receiver.finish().unwrap()).unwrap();
    assert_eq!(received.inspection(), sent.inspection());
}

#[test]
fn a_half_received_snapshot_is_refused_and_removed() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sent = publish(&open(here.path()), 10).unwrap();
    let snapshots = open(there.path());
    let mut receiver = snapshots.receive().unwrap();
    receiver
        .write(&sent.read_raw(0, 2_000_000).unwrap())
        .unwrap();
    assert!(matches!(
        snapshots.publish(receiver.finish().unwrap()),
        Err(StoreError::Damaged { .. })
    ));
    assert_eq!(names(there.path()), 0);
}

#[test]
fn the_one_before_stands_in_for_a_damaged_newest() {
    let home = tempfile::tempdir().unwrap();
    let snapshots = open(home.path());
    publish(&snapshots, 10).unwrap();
    let newest = publish(&snapshots, 20).unwrap();
    let mut bytes = fs::read(newest.path()).unwrap();
    bytes[1_500_000] ^= 1;
    fs::write(newest.path(), &bytes).unwrap();
    assert_eq!(open(home.path()).current().unwrap().header(), &header(10));
    fs::remove_file(home.path().join(file_name(header(10).position))).unwrap();
    let error = Snapshots::open(home.path(), Arc::new(Disk)).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

#[test]
fn any_changed_byte_is_seen() {
    let home = tempfile::tempdir().unwrap();
    let snapshots = open(home.path());
    let mut writer = snapshots.create(&header(3)).unwrap();
    writer.write(b"some rows").unwrap();
    let written = snapshots.publish(writer.finish().unwrap()).unwrap();
    let whole = fs::read(written.path()).unwrap();
    let golden = include_str!("golden/snapshot-1.hex");
    assert_eq!(
        hex::encode(&whole),
        golden.split_whitespace().collect::<String>()
    );
    let path = home.path().join("changed");
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x40;
        fs::write(&path, &bytes).unwrap();
        assert!(inspect(&path).is_err(), "byte {at}");
        fs::write(&path, &whole[..at]).unwrap();
        assert!(inspect(&path).is_err(), "cut at {at}");
    }
}
