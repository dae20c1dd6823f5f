//! What a controller of this test runs on: the product's engine, or one of two that must lose writes.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use maille_controller::app::{self, Engine};
use maille_controller::raft::{OpenLog, Timing};
use maille_controller::store::log::{LogEngine, LogOptions, SegmentLog};
use maille_controller::store::media::{Disk, Media};
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::early_log::EarlyLog;

/// The word that makes this program a controller.
pub const CONTROLLER: &str = "controller";
/// Small, so that segments are begun and removed all the time.
const SEGMENT_BYTES: u64 = 1 << 20;

/// The engine under the controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// The product's.
    Sound,
    /// A restarted leader leads on without an election, which the product forbids.
    LeaderRestore,
    /// The log answers before it has written.
    EarlyFlush,
}

impl Variant {
    const ALL: [Self; 3] = [Self::Sound, Self::LeaderRestore, Self::EarlyFlush];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::LeaderRestore => "leader-restore",
            Self::EarlyFlush => "early-flush",
        }
    }

    /// The variant of this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|variant| variant.name() == name)
    }

    fn engine(self, disk: SlowDisk) -> Engine {
        let timing = match self {
            Self::Sound | Self::EarlyFlush => Timing::default(),
            // The restart must come before the election: on a busy machine a process takes its time to start.
            Self::LeaderRestore => Timing {
                election_least: Duration::from_secs(5),
                election_most: Duration::from_secs(8),
                leader_restore: true,
                ..Timing::default()
            },
        };
        let open = move |options: LogOptions| {
            let options = LogOptions {
                segment_bytes: SEGMENT_BYTES,
                media: Arc::new(disk),
                ..options
            };
            SegmentLog::create(&options)?;
            let log = SegmentLog::open(options)?;
            let engine: Arc<dyn LogEngine> = match self {
                Self::Sound | Self::LeaderRestore => Arc::new(log),
                Self::EarlyFlush => Arc::new(EarlyLog::new(log)),
            };
            Ok(engine)
        };
        Engine {
            timing,
            open_log: OpenLog(Arc::new(open)),
        }
    }
}

/// A disk that takes its time for each sync of the log: what it holds back is what a kill takes away.
#[derive(Debug, Clone, Copy)]
struct SlowDisk {
    delay: Duration,
}

impl Media for SlowDisk {
    fn sync_data(&self, file: &File) -> io::Result<()> {
        std::thread::sleep(self.delay);
        Disk.sync_data(file)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        Disk.sync_directory(path)
    }
}

/// The arguments behind `controller`.
pub fn arguments(config: &Path, variant: Variant, delay: Duration) -> [String; 4] {
    [
        CONTROLLER.to_owned(),
        config.to_string_lossy().into_owned(),
        variant.name().to_owned(),
        delay.as_millis().to_string(),
    ]
}

/// The life of a controller.
pub fn controller(arguments: &[String]) -> ExitCode {
    // It must not outlive the test, however that ends.
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        eprintln!("cannot be tied to the test's life: {error}");
        return ExitCode::FAILURE;
    }
    let [config, variant, delay] = arguments else {
        eprintln!("three arguments belong behind `{CONTROLLER}`");
        return ExitCode::FAILURE;
    };
    let variant = Variant::of(variant);
    let (Some(variant), Ok(delay)) = (variant, delay.parse()) else {
        eprintln!("no such variant, or no number of milliseconds: {arguments:?}");
        return ExitCode::FAILURE;
    };
    let delay = Duration::from_millis(delay);
    app::run(Path::new(config), variant.engine(SlowDisk { delay }))
}
