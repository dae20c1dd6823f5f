//! Images of the tests' own: one layer, made by the script that makes the product's.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

/// What goes into an image.
#[derive(Debug)]
pub struct Image {
    reference: String,
    entrypoint: Vec<String>,
    /// From where, to where below its root.
    files: Vec<(PathBuf, PathBuf)>,
    /// A link, and where it leads.
    links: Vec<(PathBuf, PathBuf)>,
}

impl Image {
    /// An empty one.
    pub fn new(reference: &str, entrypoint: &[&str]) -> Image {
        Image {
            reference: reference.to_owned(),
            entrypoint: entrypoint.iter().map(ToString::to_string).collect(),
            files: Vec::new(),
            links: Vec::new(),
        }
    }

    /// With a file.
    #[must_use]
    pub fn file(mut self, from: &Path, to: &str) -> Image {
        self.files.push((from.to_owned(), to.into()));
        self
    }

    /// With busybox, and a link to it for everything that it can do.
    ///
    /// # Errors
    /// It does not say what it can do.
    pub fn busybox(mut self, busybox: &Path) -> anyhow::Result<Image> {
        let said = Command::new(busybox).arg("--list").output()?;
        ensure!(said.status.success(), "busybox --list: {}", said.status);
        for applet in String::from_utf8(said.stdout)?.lines() {
            if applet != "busybox" {
                let link = Path::new("bin").join(applet);
                self.links.push((link, "busybox".into()));
            }
        }
        Ok(self.file(busybox, "bin/busybox"))
    }

    /// Makes the archive `<directory>/<name>.tar`.
    ///
    /// # Errors
    /// A file cannot be read, or the archive not be written.
    pub fn archive(&self, directory: &Path) -> anyhow::Result<PathBuf> {
        std::fs::create_dir_all(directory)?;
        let root = tempfile::tempdir_in(directory)?;
        for (from, to) in &self.files {
            let to = root.path().join(to);
            std::fs::create_dir_all(to.parent().context("it is below the root")?)?;
            std::fs::copy(from, &to).with_context(|| format!("copying {}", from.display()))?;
        }
        for (link, leads) in &self.links {
            let link = root.path().join(link);
            std::fs::create_dir_all(link.parent().context("it is below the root")?)?;
            symlink(leads, link)?;
        }
        let temporary = root.path().join("tmp");
        std::fs::create_dir_all(&temporary)?;
        std::fs::set_permissions(&temporary, PermissionsExt::from_mode(0o1777))?;
        std::fs::set_permissions(root.path(), PermissionsExt::from_mode(0o755))?;
        let name = self.reference.replace(['/', ':'], "-");
        let archive = directory.join(format!("{name}.tar"));
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cli/packaging/oci");
        let made = Command::new(script)
            .arg(root.path())
            .arg(&self.reference)
            .arg(&archive)
            .args(&self.entrypoint)
            .status()?;
        ensure!(
            made.success(),
            "the image {} cannot be made: {made}",
            self.reference
        );
        Ok(archive)
    }
}
