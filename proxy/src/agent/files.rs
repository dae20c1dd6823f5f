//! Certificate, key and roots as files for gRPC's `file_watcher`. The three names lead through one symbolic link to a
//! directory of a generation; moving the link changes all three at once, as Kubernetes does it with a volume.

use super::certificate;
use crate::controllers::Backoff;
use crate::identity::Credentials;
use crate::supervise::Pending;
use aws_lc_rs::digest::{Context, SHA256};
use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::warn;

/// Between attempts to write: a full disk, most of all.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The link to the generation in force.
const CURRENT: &str = "..current";
/// What the directories of generations begin with.
const GENERATION: &str = "..generation-";
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";
const ROOTS: &str = "roots.pem";

/// The files could not be written.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The directory is not ours or cannot be made.
    #[error(transparent)]
    Directory(#[from] crate::files::FileError),
    /// The system said no.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was attempted.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FilesError {
    let path = path.to_owned();
    move |source| FilesError::Io {
        doing,
        path,
        source,
    }
}

/// The directory that a gRPC program watches.
#[derive(Debug, Clone)]
pub struct Files {
    directory: PathBuf,
}

impl Files {
    /// Keeps them there.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Writes a generation and puts it in force: readers find the old three or the new three.
    pub fn write(&self, credentials: &Credentials) -> Result<(), FilesError> {
        crate::files::private_directory(&self.directory)?;
        let chain = certificate::chain(credentials);
        let key = certificate::key(credentials);
        let roots = certificate::roots(credentials);
        let files = [(CERTIFICATE, &chain), (KEY, &key), (ROOTS, &roots)];
        let name = generation(&files);
        let before = fs::read_link(self.path(CURRENT)).ok();
        if before.as_deref() != Some(Path::new(&name)) {
            self.fill(&name, &files)?;
            self.link(CURRENT, Path::new(&name))?;
        }
        for (file, _) in files {
            self.link(file, &Path::new(CURRENT).join(file))?;
        }
        // Whoever has just followed the link before still reads that one.
        let kept = [Some(PathBuf::from(&name)), before];
        self.remove_others(&kept);
        Ok(())
    }

    /// Writes them at every change. `written` is dropped after the first time.
    pub(super) async fn keep(
        self,
        mut credentials: watch::Receiver<Option<Arc<Credentials>>>,
        written: Pending,
    ) {
        let mut written = Some(written);
        let mut backoff = Backoff::new(PAUSE.0, PAUSE.1);
        loop {
            let current = credentials.borrow_and_update().clone();
            let again = match current.map(|current| self.write(&current)) {
                None => None,
                Some(Ok(())) => {
                    backoff.reset();
                    written.take();
                    None
                }
                Some(Err(error)) => {
                    let error = &error as &dyn std::error::Error;
                    warn!(error, "the certificate is not in its files yet");
                    Some(backoff.pause())
                }
            };
            tokio::select! {
                changed = credentials.changed() => if changed.is_err() { return },
                () = pause(again) => {}
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn fill(&self, name: &str, files: &[(&str, &String)]) -> Result<(), FilesError> {
        let directory = self.path(name);
        match DirBuilder::new().mode(0o700).create(&directory) {
            // It is left of a life that was cut short here.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => made.map_err(failed("make the directory", &directory))?,
        }
        for (file, text) in files {
            let path = directory.join(file);
            let mut options = File::options();
            options.write(true).create(true).truncate(true).mode(0o600);
            let mut file = options.open(&path).map_err(failed("make", &path))?;
            file.write_all(text.as_bytes())
                .map_err(failed("write", &path))?;
        }
        Ok(())
    }

    /// Points a link elsewhere in one step; one that already points there stays untouched.
    fn link(&self, name: &str, target: &Path) -> Result<(), FilesError> {
        let path = self.path(name);
        if fs::read_link(&path).is_ok_and(|found| found == target) {
            return Ok(());
        }
        let fresh = self.path(&format!("..new-{name}"));
        crate::files::remove(&fresh)?;
        symlink(target, &fresh).map_err(failed("make the link", &fresh))?;
        fs::rename(&fresh, &path).map_err(failed("put in place", &path))
    }

    fn remove_others(&self, kept: &[Option<PathBuf>]) {
        let entries = fs::read_dir(&self.directory).into_iter().flatten();
        let names = entries.flatten().map(|entry| entry.file_name());
        let generations = names.filter(|name| name.to_string_lossy().starts_with(GENERATION));
        let old =
            |name: &std::ffi::OsString| !kept.iter().flatten().any(|kept| kept.as_os_str() == name);
        for name in generations.filter(old) {
            let path = self.directory.join(name);
            if let Err(error) = fs::remove_dir_all(&path) {
                warn!(path = %path.display(), %error, "an old key is left behind");
            }
        }
    }
}

async fn pause(pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => std::future::pending().await,
    }
}

/// Equal content, equal name: a restart with the same certificate changes nothing.
fn generation(files: &[(&str, &String)]) -> String {
    let mut hash = Context::new(&SHA256);
    for (_, text) in files {
        hash.update(&text.len().to_be_bytes());
        hash.update(text.as_bytes());
    }
    format!("{GENERATION}{}", hex::encode(&hash.finish().as_ref()[..16]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::fakes::{Authority, spiffe};
    use std::os::unix::fs::MetadataExt;

    fn read(directory: &Path) -> [String; 3] {
        [CERTIFICATE, KEY, ROOTS].map(|name| fs::read_to_string(directory.join(name)).unwrap())
    }

    fn expected(credentials: &Credentials) -> [String; 3] {
        [
            certificate::chain(credentials),
            certificate::key(credentials).to_string(),
            certificate::roots(credentials),
        ]
    }

    fn generations(directory: &Path) -> usize {
        let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
        let names = entries.map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(GENERATION)).count()
    }

    #[test]
    fn the_three_files_change_together_and_only_their_owner_can_read_them() {
        let outer = tempfile::tempdir().unwrap();
        let directory = outer.path().join("files");
        let files = Files::new(directory.clone());
        let authority = Authority::new();
        for count in 1..=4 {
            let credentials = authority.credentials(&spiffe("shop", "web"));
            // Opened before the change: a reader that has followed the link once reads all of the old ones.
            let old = fs::read_link(directory.join(CURRENT)).map(|name| directory.join(name));
            let before = old.as_ref().map(|old| read(old)).ok();
            files.write(&credentials).unwrap();
            assert_eq!(read(&directory), expected(&credentials));
            assert_eq!(old.map(|old| read(&old)).ok(), before);
            assert_eq!(generations(&directory), count.min(2));
        }
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(&directory.join(CURRENT)), 0o700);
        assert_eq!(mode(&directory.join(KEY)), 0o600);
    }

    #[test]
    fn the_same_certificate_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let files = Files::new(directory.path().to_owned());
        let credentials = Authority::new().credentials(&spiffe("shop", "web"));
        let links = || {
            let names = [CURRENT, CERTIFICATE, KEY, ROOTS];
            names.map(|name| {
                fs::symlink_metadata(directory.path().join(name))
                    .unwrap()
                    .ino()
            })
        };
        files.write(&credentials).unwrap();
        let before = links();
        files.write(&credentials).unwrap();
        assert_eq!(links(), before);
    }

    #[test]
    fn files_of_another_hand_are_replaced() {
        let directory = tempfile::tempdir().unwrap();
        for name in [CERTIFICATE, KEY] {
            fs::write(directory.path().join(name), "of another hand").unwrap();
        }
        let credentials = Authority::new().credentials(&spiffe("shop", "web"));
        Files::new(directory.path().to_owned())
            .write(&credentials)
            .unwrap();
        assert_eq!(read(directory.path()), expected(&credentials));
    }
}
