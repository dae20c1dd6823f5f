//! The child: writes through the store as Raft does, and says on its standard output what it is about to take back and what was acknowledged.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use maille_controller::store::StoreError;
use maille_controller::store::directory::Directory;
use maille_controller::store::log::{
    Done, LogEngine, LogOptions, OnFailure, SegmentLog, Vote, path_in,
};
use maille_controller::store::media::Media;
use maille_controller::store::snapshot::{Header, Snapshots};
use maille_controller::store::table::{Row, Table, Tables};

use crate::content;
use crate::lie::Lie;
use crate::promises::Line;

/// The word that makes this program a writer.
pub const WRITER: &str = "writer";
/// Small, so that segments are begun and removed all the time.
const SEGMENT_BYTES: u64 = 1 << 20;
/// Writes on their way at once, as in Raft.
const IN_FLIGHT: usize = 32;
/// Entries between two truncations; as many as it takes back …
const TRUNCATE_EVERY: u64 = 700;
const TAKEN_BACK: u64 = 5;
/// … between two votes, and left behind a snapshot.
const VOTE_EVERY: u64 = 150;
const KEPT: u64 = 300;
/// Between two snapshots.
const SNAPSHOT_EVERY: Duration = Duration::from_millis(100);

/// The store of a data directory.
#[derive(Debug)]
pub struct Store {
    _directory: Directory,
    pub log: SegmentLog,
    pub tables: Tables,
    pub snapshots: Snapshots,
}

impl Store {
    /// Opens or makes it, as `raft` does.
    pub fn open(path: &Path, media: Arc<dyn Media>) -> Result<Self, StoreError> {
        let directory = Directory::open(path, media.clone())?;
        let on_failure = OnFailure(Arc::new(|error| {
            eprintln!("the store failed: {}", error.full_text());
            std::process::exit(1);
        }));
        let snapshots = Snapshots::open(&path.join("snapshots"), media.clone())?;
        let tables = Tables::open(&path.join("tables"), media.clone(), on_failure.clone())?;
        let options = LogOptions {
            segment_bytes: SEGMENT_BYTES,
            ..LogOptions::new(path_in(path), directory.id(), media, on_failure)
        };
        SegmentLog::create(&options)?;
        Ok(Self {
            log: SegmentLog::open(options)?,
            _directory: directory,
            tables,
            snapshots,
        })
    }
}

/// Says each line in one write, so that a cut leaves none in part.
#[derive(Debug, Clone, Default)]
struct Report(Arc<Mutex<()>>);

impl Report {
    fn say(&self, line: &Line) {
        let _whole = self.0.lock().expect("no speaker panics");
        let said = std::io::stdout().write_all(format!("{line}\n").as_bytes());
        if said.is_err() {
            std::process::exit(1);
        }
    }
}

/// Writes until it is killed.
pub fn run(arguments: &[String]) -> ExitCode {
    if let Err(error) =
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
    {
        eprintln!("cannot be tied to the test's life: {error}");
        return ExitCode::FAILURE;
    }
    let [path, lie] = arguments else {
        eprintln!("two arguments belong behind `{WRITER}`");
        return ExitCode::FAILURE;
    };
    let lie = Lie::of(lie).expect("the parent names a lie");
    let store = match Store::open(Path::new(path), Arc::new(lie)) {
        Ok(store) => Arc::new(store),
        Err(error) => {
            eprintln!("{}", error.full_text());
            return ExitCode::FAILURE;
        }
    };
    let report = Report::default();
    let durable = Arc::new(AtomicU64::new(0));
    let mut threads = Vec::new();
    let (one, say, upto) = (store.clone(), report.clone(), durable.clone());
    threads.push(std::thread::spawn(move || write_log(&one, &say, &upto)));
    let (one, say) = (store.clone(), report.clone());
    threads.push(std::thread::spawn(move || write_rows(&one, &say)));
    threads.push(std::thread::spawn(move || {
        write_snapshots(&store, &report, &durable)
    }));
    for thread in threads {
        if thread.join().is_err() {
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// An answer that says `line` and lets the next write begin.
fn acknowledge(
    report: &Report,
    line: Line,
    room: &SyncSender<()>,
    after: impl FnOnce() + Send + 'static,
) -> Done {
    let (report, room) = (report.clone(), room.clone());
    room.send(()).expect("the room outlives its writer");
    Box::new(move |result: Result<(), StoreError>| {
        match result {
            Ok(()) => report.say(&line),
            Err(error) => eprintln!("not acknowledged: {}", error.full_text()),
        }
        after();
    })
}

/// One write fewer is on its way.
fn make_room(taken: &Mutex<Receiver<()>>) {
    let taken = taken.lock().expect("no holder panics").try_recv();
    taken.expect("each answer is of a write that took its room");
}

fn write_log(store: &Store, report: &Report, durable: &Arc<AtomicU64>) {
    let state = store.log.state();
    let mut next = state.last.map_or(1, |last| last.index + 1);
    let mut term = state.vote.map_or(0, |vote| vote.term) + 1;
    let (room, taken) = sync_channel(IN_FLIGHT);
    let taken = Arc::new(Mutex::new(taken));
    let release = || {
        let taken = taken.clone();
        move || make_room(&taken)
    };
    let vote = |term: u64| {
        let vote = Vote {
            term,
            node: 1,
            committed: true,
        };
        let done = acknowledge(report, Line::Voted(term), &room, release());
        store.log.save_vote(vote, done);
    };
    vote(term);
    loop {
        if next.is_multiple_of(VOTE_EVERY) {
            term += 1;
            vote(term);
        }
        if next.is_multiple_of(TRUNCATE_EVERY) {
            // What follows is of a later term, as after a change of leaders.
            term += 1;
            vote(term);
            next -= TAKEN_BACK;
            report.say(&Line::TakingBack { from: next, term });
            let done = acknowledge(report, Line::TookBack(next), &room, release());
            store.log.truncate(next, done);
            for index in next..=next + TAKEN_BACK {
                append(store, report, &room, release(), (term, index), durable);
            }
            next += TAKEN_BACK + 1;
        }
        append(store, report, &room, release(), (term, next), durable);
        next += 1;
    }
}

fn append(
    store: &Store,
    report: &Report,
    room: &SyncSender<()>,
    release: impl FnOnce() + Send + 'static,
    (term, index): (u64, u64),
    durable: &Arc<AtomicU64>,
) {
    let durable = durable.clone();
    let after = move || {
        durable.store(term << 32 | index, Ordering::SeqCst);
        release();
    };
    let done = acknowledge(report, Line::Entry { term, index }, room, after);
    if let Err(error) = store.log.append(vec![content::entry(term, index)], done) {
        eprintln!("{}", error.full_text());
        std::process::exit(1);
    }
}

fn write_rows(store: &Store, report: &Report) {
    let (room, taken) = sync_channel(IN_FLIGHT);
    let taken = Arc::new(Mutex::new(taken));
    let many = |number: u64| Row {
        table: Table::Issuance,
        key: number.to_be_bytes().to_vec().into(),
        value: Some(content::row(number)),
    };
    let written = store.tables.scan(Table::Issuance, &[], usize::MAX);
    let first = written.map_or(0, |rows| rows.len() as u64);
    for number in first.. {
        let hint = Row {
            table: Table::Hints,
            key: b"committed".as_slice().into(),
            value: Some(number.to_be_bytes().to_vec().into()),
        };
        store.tables.note(vec![hint]);
        let taken = taken.clone();
        let after = move || make_room(&taken);
        let done = acknowledge(report, Line::Row(number), &room, after);
        store.tables.write(vec![many(number)], done);
    }
}

fn write_snapshots(store: &Store, report: &Report, durable: &AtomicU64) {
    let mut last = 0;
    loop {
        std::thread::sleep(SNAPSHOT_EVERY);
        let now = durable.load(Ordering::SeqCst);
        // Entries that may yet be taken back are not committed.
        let (term, index) = (
            now >> 32,
            (now & 0xffff_ffff).saturating_sub(2 * TAKEN_BACK),
        );
        if index <= last {
            continue;
        }
        let found = store.log.read(index..index + 1, usize::MAX);
        let Some(position) = found
            .ok()
            .and_then(|found| found.first().map(|entry| entry.position))
        else {
            continue;
        };
        debug_assert!(position.term <= term);
        let header = Header {
            cluster: "cluster".to_owned(),
            level: 1,
            position: Some(position),
            membership: bytes::Bytes::new(),
        };
        let published = store.snapshots.create(&header).and_then(|mut writer| {
            writer.write(&content::snapshot(index))?;
            store.snapshots.publish(writer.finish()?)
        });
        if let Err(error) = published {
            eprintln!("{}", error.full_text());
            std::process::exit(1);
        }
        report.say(&Line::Snapshot(index));
        last = index;
        let upto = index.saturating_sub(KEPT);
        let Some(upto) = store
            .log
            .read(upto..upto + 1, usize::MAX)
            .ok()
            .and_then(|found| found.into_iter().next())
        else {
            continue;
        };
        report.say(&Line::Purging(upto.position.index));
        let (report, line) = (report.clone(), Line::Purged(upto.position.index));
        store.log.purge(
            upto.position,
            Box::new(move |result| {
                if result.is_ok() {
                    report.say(&line)
                }
            }),
        );
    }
}
