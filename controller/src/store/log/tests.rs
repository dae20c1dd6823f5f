//! Opening, damage, torn writes, truncation, purging, failed syncs.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;

use super::*;
use crate::store::media::Disk;

const SMALL_SEGMENT: u64 = 64 << 10;

fn options(home: &Path) -> LogOptions {
    LogOptions {
        segment_bytes: SMALL_SEGMENT,
        ..LogOptions::new(
            home,
            DirectoryId::from_bytes([7; 16]),
            Arc::new(Disk),
            OnFailure(Arc::new(|_| ())),
        )
    }
}

fn open(home: &Path) -> Result<SegmentLog, StoreError> {
    let options = options(home);
    SegmentLog::create(&options)?;
    SegmentLog::open(options)
}

fn position(term: u64, index: u64) -> Position {
    Position {
        term,
        leader: 1,
        index,
    }
}

fn entry(term: u64, index: u64) -> Entry {
    Entry {
        position: position(term, index),
        kind: 1,
        payload: format!("{term}/{index} {}", "x".repeat(100)).into(),
    }
}

fn vote(term: u64) -> Vote {
    Vote {
        term,
        node: 1,
        committed: true,
    }
}

/// Calls and waits for the answer.
fn wait(call: impl FnOnce(Done)) -> Result<(), StoreError> {
    let (answer, answered) = mpsc::channel();
    call(Box::new(move |result| answer.send(result).unwrap()));
    answered
        .recv_timeout(std::time::Duration::from_secs(20))
        .expect("no answer within 20 s")
}

/// Writes entries, each durable before the next; many in groups of twenty.
fn fill(log: &SegmentLog, term: u64, indices: Range<u64>) {
    wait(|done| log.save_vote(vote(term), done)).unwrap();
    let group = if indices.clone().count() > 50 { 20 } else { 1 };
    for entries in entries(term, indices).chunks(group) {
        wait(|done| log.append(entries.to_vec(), done).unwrap()).unwrap();
    }
}

fn everything(log: &SegmentLog) -> Vec<Entry> {
    log.read(0..u64::MAX, usize::MAX).unwrap()
}

fn entries(term: u64, indices: Range<u64>) -> Vec<Entry> {
    indices.map(|index| entry(term, index)).collect()
}

fn last_segment(home: &Path) -> std::path::PathBuf {
    let numbers = segment::list(home).unwrap();
    segment::file_path(home, *numbers.last().unwrap())
}

/// The offset behind the last byte that is not zero.
fn written(path: &Path) -> usize {
    fs::read(path)
        .unwrap()
        .iter()
        .rposition(|b| *b != 0)
        .unwrap()
        + 1
}

fn overwrite(path: &Path, offset: usize, bytes: &[u8]) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all_at(bytes, offset as u64).unwrap();
}

#[test]
fn what_was_acknowledged_is_there_after_reopening() {
    let home = tempfile::tempdir().unwrap();
    let log = open(home.path()).unwrap();
    // Some 140 bytes each: several segments.
    fill(&log, 1, 0..1500);
    wait(|done| log.truncate(1200, done)).unwrap();
    fill(&log, 2, 1200..1300);
    wait(|done| log.purge(position(1, 700), done)).unwrap();
    let state = log.state();
    // Segments are removed after the answer, and before the next one.
    wait(|done| log.save_vote(vote(2), done)).unwrap();
    assert!(
        segment::list(home.path()).unwrap()[0] > 1,
        "no segment was removed"
    );
    drop(log);

    let log = open(home.path()).unwrap();
    assert_eq!(log.state(), state);
    assert_eq!(state.purged, Some(position(1, 700)));
    assert_eq!(state.vote, Some(vote(2)));
    let mut expected = entries(1, 701..1200);
    expected.extend(entries(2, 1200..1300));
    assert_eq!(everything(&log), expected);
    assert_eq!(log.read(0..800, 1).unwrap(), entries(1, 701..702));
    assert_eq!(
        log.read(1299..1305, usize::MAX).unwrap(),
        entries(2, 1299..1300)
    );
}

#[test]
fn a_truncation_into_removed_segments_is_replayed() {
    let home = tempfile::tempdir().unwrap();
    let log = open(home.path()).unwrap();
    fill(&log, 1, 0..800);
    // The entries from 500 on are written again in later segments, then the first segments go.
    wait(|done| log.truncate(500, done)).unwrap();
    fill(&log, 2, 500..1200);
    wait(|done| log.purge(position(2, 1000), done)).unwrap();
    drop(log);
    let log = open(home.path()).unwrap();
    assert_eq!(everything(&log), entries(2, 1001..1200));
}

#[test]
fn entries_that_left_memory_are_read_from_the_disk() {
    let home = tempfile::tempdir().unwrap();
    let small = LogOptions {
        cache_bytes: 1000,
        ..options(home.path())
    };
    SegmentLog::create(&small).unwrap();
    let log = SegmentLog::open(small.clone()).unwrap();
    fill(&log, 1, 0..600);
    assert_eq!(everything(&log), entries(1, 0..600));
    drop(log);
    let log = SegmentLog::open(small).unwrap();
    assert_eq!(everything(&log), entries(1, 0..600));
}

#[test]
fn a_hole_and_a_giant_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let log = open(home.path()).unwrap();
    fill(&log, 1, 0..3);
    let refused = log.append(vec![entry(1, 5)], Box::new(|_| ())).unwrap_err();
    assert!(matches!(refused, StoreError::Refused(_)), "{refused}");
    let giant = Entry {
        payload: vec![0; SMALL_SEGMENT as usize].into(),
        ..entry(1, 3)
    };
    let refused = log.append(vec![giant], Box::new(|_| ())).unwrap_err();
    assert!(matches!(refused, StoreError::Refused(_)), "{refused}");
    fill(&log, 1, 3..4);
    assert_eq!(everything(&log), entries(1, 0..4));
}

/// Damages a log of 1,000 entries by `harm` and expects to be refused with a text that holds `expected`.
#[track_caller]
fn check_damage(harm: impl FnOnce(&Path), expected: &str) {
    let home = tempfile::tempdir().unwrap();
    let log = open(home.path()).unwrap();
    fill(&log, 1, 0..1000);
    drop(log);
    harm(home.path());
    let error = open(home.path()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.contains(expected) && text.contains("maille members remove"),
        "{text}"
    );
}

#[test]
fn damage_is_refused_with_the_remedy() {
    let first = |home: &Path| segment::file_path(home, 1);
    check_damage(
        |home| overwrite(&first(home), 10_000, &[0xff; 3]),
        "high-water mark says",
    );
    check_damage(
        |home| overwrite(&first(home), 10_000, &[0; 4096]),
        "high-water mark says",
    );
    check_damage(
        |home| overwrite(&first(home), 30, &[0xff]),
        "header has a wrong checksum",
    );
    check_damage(|home| fs::remove_file(first(home)).unwrap(), "are missing");
    check_damage(
        |home| fs::remove_file(segment::file_path(home, 2)).unwrap(),
        "segment 0000000000000002 is missing",
    );
    check_damage(
        |home| fs::remove_file(last_segment(home)).unwrap(),
        "high-water mark says",
    );
    check_damage(
        |home| fs::remove_file(home.join("mark")).unwrap(),
        "high-water mark is missing",
    );
    check_damage(
        |home| overwrite(&home.join("mark"), 0, &[1; 1024]),
        "no slot of the high-water mark",
    );
    check_damage(
        |home| {
            let path = last_segment(home);
            let end = written(&path);
            overwrite(&path, end - 20, &[0; 20]);
        },
        "high-water mark says",
    );
    check_damage(
        |home| {
            let file = fs::OpenOptions::new()
                .write(true)
                .open(last_segment(home))
                .unwrap();
            file.set_len(segment::HEADER_BYTES + 100).unwrap();
        },
        "high-water mark says",
    );
}

#[test]
fn damage_before_the_mark_moves_is_told_by_later_records() {
    let home = tempfile::tempdir().unwrap();
    let log = open(home.path()).unwrap();
    fill(&log, 1, 0..20);
    let path = last_segment(home.path());
    let copy = tempfile::tempdir().unwrap();
    // The directory as it is while the log is in use: the mark still stands at the beginning.
    for name in ["mark", path.file_name().unwrap().to_str().unwrap()] {
        fs::copy(home.path().join(name), copy.path().join(name)).unwrap();
    }
    overwrite(
        &last_segment(copy.path()),
        segment::HEADER_BYTES as usize + 500,
        &[0xff],
    );
    let error = open(copy.path()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("in the knowledge that it was durable"),
        "{error}"
    );
}

#[test]
fn a_torn_write_is_removed_and_the_log_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let log = open(home.path()).unwrap();
    fill(&log, 1, 0..20);
    drop(log);
    // A group of three records whose first was torn: none was acknowledged.
    let path = last_segment(home.path());
    let end = written(&path);
    let mut group = Vec::new();
    for index in 20..23 {
        record::put_entry(&mut group, index + 2, 21, &entry(1, index));
    }
    group[50..90].fill(0);
    overwrite(&path, end, &group);

    let log = open(home.path()).unwrap();
    assert_eq!(everything(&log), entries(1, 0..20));
    fill(&log, 2, 20..25);
    drop(log);
    let log = open(home.path()).unwrap();
    let mut expected = entries(1, 0..20);
    expected.extend(entries(2, 20..25));
    assert_eq!(everything(&log), expected);
}

#[test]
fn a_log_of_another_directory_is_refused() {
    let home = tempfile::tempdir().unwrap();
    drop(open(home.path()).unwrap());
    let other = LogOptions {
        directory: DirectoryId::from_bytes([8; 16]),
        ..options(home.path())
    };
    let error = SegmentLog::open(other).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
}

/// Fails the sync with this number, and counts those after it.
#[derive(Debug)]
struct FailingSync {
    left: AtomicU32,
    after: AtomicU32,
}

impl Media for FailingSync {
    fn sync_data(&self, file: &fs::File) -> std::io::Result<()> {
        match self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            }) {
            Ok(1) => Err(std::io::Error::other("the disk has gone")),
            Ok(_) => file.sync_data(),
            Err(_) => {
                self.after.fetch_add(1, Ordering::SeqCst);
                file.sync_data()
            }
        }
    }

    fn sync_directory(&self, path: &Path) -> std::io::Result<()> {
        Disk.sync_directory(path)
    }
}

#[test]
fn the_first_failed_sync_is_the_last() {
    let home = tempfile::tempdir().unwrap();
    drop(open(home.path()).unwrap());
    let media = Arc::new(FailingSync {
        left: AtomicU32::new(u32::MAX),
        after: AtomicU32::new(0),
    });
    let (told, failures) = mpsc::channel();
    let log = SegmentLog::open(LogOptions {
        media: media.clone(),
        on_failure: OnFailure(Arc::new(move |error| told.send(error.full_text()).unwrap())),
        ..options(home.path())
    })
    .unwrap();
    fill(&log, 1, 0..3);
    // The spare segment's own sync must not be the one that fails.
    let spare = home.path().join("spare");
    let started = std::time::Instant::now();
    while !spare.exists() {
        assert!(started.elapsed().as_secs() < 20, "no spare segment");
        std::thread::yield_now();
    }
    media.left.store(1, Ordering::SeqCst);
    let error = wait(|done| log.append(vec![entry(1, 3)], done).unwrap()).unwrap_err();
    assert!(error.full_text().contains("the disk has gone"), "{error}");
    let error = wait(|done| log.append(vec![entry(1, 4)], done).unwrap()).unwrap_err();
    assert!(matches!(error, StoreError::Closed(_)), "{error}");
    drop(log);
    assert_eq!(
        media.after.load(Ordering::SeqCst),
        0,
        "it synced again after a failure"
    );
    assert_eq!(failures.try_iter().count(), 1);
}

#[test]
fn an_answer_comes_after_the_sync_and_in_order() {
    #[derive(Debug, Default)]
    struct Counting(AtomicU32);
    impl Media for Counting {
        fn sync_data(&self, file: &fs::File) -> std::io::Result<()> {
            file.sync_data()?;
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
        fn sync_directory(&self, path: &Path) -> std::io::Result<()> {
            Disk.sync_directory(path)
        }
    }
    let home = tempfile::tempdir().unwrap();
    drop(open(home.path()).unwrap());
    let media = Arc::new(Counting::default());
    let log = SegmentLog::open(LogOptions {
        media: media.clone(),
        ..options(home.path())
    })
    .unwrap();
    let (answer, answers) = mpsc::channel();
    let before = media.0.load(Ordering::SeqCst);
    for index in 0..200 {
        let (answer, media) = (answer.clone(), media.clone());
        let done = move |result: Result<(), StoreError>| {
            answer
                .send((index, result.is_ok(), media.0.load(Ordering::SeqCst)))
                .unwrap()
        };
        log.append(vec![entry(0, index)], Box::new(done)).unwrap();
        assert_eq!(
            log.read(index..index + 1, 1).unwrap(),
            entries(0, index..index + 1)
        );
    }
    drop(log);
    drop(answer);
    let answers: Vec<_> = answers.iter().collect();
    assert_eq!(
        answers.iter().map(|a| a.0).collect::<Vec<_>>(),
        (0..200).collect::<Vec<_>>()
    );
    assert!(
        answers.iter().all(|(_, ok, syncs)| *ok && *syncs > before),
        "{answers:?}"
    );
}
