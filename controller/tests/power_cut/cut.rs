//! A store's life: written to, cut, looked at, written to again.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context, bail};
use maille_controller::store::media::Disk;
use rand::RngExt;
use rand::rngs::StdRng;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::image::{Mounted, Workshop};
use crate::lie::Lie;
use crate::promises::{Line, Promises};
use crate::writer::{self, Store};

/// Opening a store takes milliseconds; other tests may hold both cores.
const FIRST_LIMIT: Duration = Duration::from_secs(30);
/// How long it is written to before a cut.
const RUN_MILLIS: std::ops::RangeInclusive<u64> = 20..=1200;

/// What a cut has shown.
#[derive(Debug)]
pub enum Outcome {
    /// Every promise is kept; so many acknowledgements were made since the last cut.
    Kept { promises: usize },
    /// What is not.
    Broken(Vec<String>),
}

/// One store from its making on.
#[derive(Debug)]
pub struct Life<'a> {
    workshop: &'a Workshop,
    lie: Lie,
    disk: Option<Mounted>,
    promises: Promises,
    cuts: usize,
}

impl<'a> Life<'a> {
    /// A store on an empty disk.
    pub fn begin(workshop: &'a Workshop, lie: Lie) -> anyhow::Result<Self> {
        let disk = workshop
            .fresh(&format!("life-{:08x}", rand::random::<u32>()))?
            .mount()?;
        Ok(Self {
            workshop,
            lie,
            disk: Some(disk),
            promises: Promises::default(),
            cuts: 0,
        })
    }

    /// Writes for a while, cuts, and looks. The next cut goes on with what this one left.
    pub fn cut(&mut self, random: &mut StdRng) -> anyhow::Result<Outcome> {
        self.cuts += 1;
        let before = self.promises.made;
        let disk = self.disk.take().context("a life has a disk")?;
        let mut writer = Writer::start(&disk.data(), self.lie)?;
        self.promises.note(writer.first_line()?);
        std::thread::sleep(Duration::from_millis(random.random_range(RUN_MILLIS)));
        writer.freeze()?;
        let cut = self
            .workshop
            .cut(&disk, &format!("cut-{:08x}", rand::random::<u32>()))?;
        for line in writer.last_lines()? {
            self.promises.note(line);
        }
        drop(disk);
        let disk = cut.mount()?;
        let findings = self.findings(&disk.data());
        self.disk = Some(disk);
        Ok(match findings.is_empty() {
            true => Outcome::Kept {
                promises: self.promises.made - before,
            },
            false => Outcome::Broken(findings),
        })
    }

    fn findings(&self, data: &Path) -> Vec<String> {
        let store = match Store::open(data, Arc::new(Disk)) {
            Ok(store) => store,
            Err(error) => return vec![format!("it cannot be opened: {}", error.full_text())],
        };
        match self.promises.broken_by(&store) {
            Ok(findings) => findings,
            Err(error) => vec![format!("it cannot be read: {error:#}")],
        }
    }
}

/// The child; killed when dropped.
struct Writer {
    child: Child,
    lines: Receiver<String>,
}

impl Writer {
    fn start(data: &Path, lie: Lie) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg(writer::WRITER)
            .arg(data)
            .arg(lie.name())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let out = child.stdout.take().context("its output is piped")?;
        Ok(Self {
            child,
            lines: read(out),
        })
    }

    fn first_line(&mut self) -> anyhow::Result<Line> {
        match self.lines.recv_timeout(FIRST_LIMIT) {
            Ok(line) => line.parse(),
            Err(_) => bail!(
                "the writer says nothing; its end: {:?}",
                self.child.try_wait()?
            ),
        }
    }

    /// Returns once not one of its threads runs any more.
    fn freeze(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the writer ended by itself: {status}");
        }
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::STOP)?;
        let (_, status) =
            waitpid(Some(pid), WaitOptions::UNTRACED)?.context("it was waited for")?;
        anyhow::ensure!(status.stopped(), "the writer did not stop: {status:?}");
        Ok(())
    }

    /// Kills it; answers all that it had said.
    fn last_lines(mut self) -> anyhow::Result<Vec<Line>> {
        self.child.kill()?;
        self.child.wait()?;
        self.lines.iter().map(|line| line.parse()).collect()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // It may be dead already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of the writer. A last one that was cut off by its death has no end and is left out.
fn read(out: ChildStdout) -> Receiver<String> {
    let (send, lines) = channel();
    std::thread::spawn(move || {
        let mut out = BufReader::new(out);
        let mut line = String::new();
        while out.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
            let Some(whole) = line.strip_suffix('\n') else {
                return;
            };
            if send.send(whole.to_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
    lines
}
