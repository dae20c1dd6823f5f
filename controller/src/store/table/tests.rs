//! Rows across reopening, damage, lost tails, failed syncs.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::FileExt;
use std::time::Duration;

use super::*;
use crate::store::media::Disk;

fn open(path: &Path) -> Result<Tables, StoreError> {
    Tables::open(path, Arc::new(Disk), OnFailure(Arc::new(|_| ())))
}

fn row(number: u64) -> Row {
    Row {
        table: Table::Issuance,
        key: Bytes::copy_from_slice(&number.to_be_bytes()),
        value: Some(format!("record {number} {}", "x".repeat(200)).into()),
    }
}

fn write(tables: &Tables, rows: Vec<Row>) -> Result<(), StoreError> {
    let (answer, answered) = mpsc::channel();
    tables.write(rows, Box::new(move |result| answer.send(result).unwrap()));
    answered
        .recv_timeout(Duration::from_secs(20))
        .expect("no answer within 20 s")
}

#[test]
fn rows_are_there_after_reopening() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("tables");
    let tables = open(&path).unwrap();
    for number in 0..100 {
        write(&tables, vec![row(number)]).unwrap();
    }
    tables.note(vec![Row {
        value: None,
        ..row(7)
    }]);
    drop(tables);
    let tables = open(&path).unwrap();
    let rows = tables
        .scan(Table::Issuance, &5u64.to_be_bytes(), 3)
        .unwrap();
    let expected: Vec<_> = [5, 6, 8]
        .map(|n| (row(n).key, row(n).value.unwrap()))
        .into();
    assert_eq!(rows, expected);
    assert_eq!(
        tables.get(Table::Issuance, &7u64.to_be_bytes()).unwrap(),
        None
    );
    assert_eq!(
        tables.get(Table::Tokens, &8u64.to_be_bytes()).unwrap(),
        None
    );
}

#[test]
fn a_value_that_is_too_large_is_refused_alone() {
    let home = tempfile::tempdir().unwrap();
    let tables = open(&home.path().join("tables")).unwrap();
    let large = Row {
        value: Some(vec![0; LARGEST_VALUE + 1].into()),
        ..row(1)
    };
    assert!(matches!(
        write(&tables, vec![large]),
        Err(StoreError::Refused(_))
    ));
    write(&tables, vec![row(2)]).unwrap();
}

#[test]
fn a_leftover_of_a_cut_start_is_removed() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("tables");
    drop(open(&path).unwrap());
    std::fs::write(path.join("snap.0000000000000A00.generating"), "half").unwrap();
    drop(open(&path).unwrap());
}

/// Damages tables of 2,000 rows by `harm` and expects to be refused.
#[track_caller]
fn check_damage(harm: impl FnOnce(&Path)) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("tables");
    let tables = open(&path).unwrap();
    for batch in 0..20 {
        write(&tables, (batch * 100..batch * 100 + 100).map(row).collect()).unwrap();
    }
    drop(tables);
    harm(&path);
    let error = open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

#[test]
fn damage_is_refused() {
    check_damage(|path| {
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(path.join("db"))
            .unwrap();
        let bytes = std::fs::read(path.join("db")).unwrap();
        let needle = b"record 1000 ";
        let mut at = 0;
        while let Some(found) = bytes[at..].windows(needle.len()).position(|w| w == needle) {
            at += found + 1;
            file.write_all_at(b"R", at as u64 - 1).unwrap();
        }
    });
    // A tail that is gone: sled opens what is left and says nothing.
    check_damage(|path| {
        let db = std::fs::OpenOptions::new()
            .write(true)
            .open(path.join("db"))
            .unwrap();
        let length = db.metadata().unwrap().len();
        db.set_len(length / 2).unwrap();
        for entry in std::fs::read_dir(path).unwrap().flatten() {
            if entry.file_name().to_str().unwrap().starts_with("snap.") {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
    });
}
