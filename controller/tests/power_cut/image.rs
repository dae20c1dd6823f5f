//! Disk images with ext4 in them, mounted by the kernel's loop device. Guards take down what they put up, however the test ends.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use tempfile::TempDir;

/// Room for the log's segments, sled's file and two snapshots, many times over.
const IMAGE_BYTES: u64 = 96 << 20;

/// Where images are made. Its directory goes last.
#[derive(Debug)]
pub struct Workshop {
    home: TempDir,
}

/// An image that is not mounted.
#[derive(Debug)]
pub struct Image {
    path: PathBuf,
}

/// A mounted image; unmounted when dropped, and its loop device with it.
#[derive(Debug)]
pub struct Mounted {
    point: PathBuf,
    image: PathBuf,
}

impl Workshop {
    /// Makes the first image and mounts it, to see that this works here.
    ///
    /// # Errors
    /// It does not: no right to mount, no loop device, no `mkfs.ext4`.
    pub fn open() -> anyhow::Result<Self> {
        // On the disk, not in a tmpfs: beside the test's own program.
        let own = std::env::current_exe()?;
        let beside = own.parent().context("a program lies in a directory")?;
        let home = tempfile::Builder::new()
            .prefix("power-cut-")
            .tempdir_in(beside)?;
        let workshop = Self { home };
        let template = workshop.template();
        File::create(&template)?.set_len(IMAGE_BYTES)?;
        run("mkfs.ext4", &["-q", "-F", &template.to_string_lossy()])?;
        drop(workshop.fresh("probe")?.mount()?);
        Ok(workshop)
    }

    fn template(&self) -> PathBuf {
        self.home.path().join("template.img")
    }

    /// An empty file system.
    pub fn fresh(&self, name: &str) -> anyhow::Result<Image> {
        self.copy(&self.template(), name)
    }

    /// The block device under a mounted file system, as it is now.
    pub fn cut(&self, mounted: &Mounted, name: &str) -> anyhow::Result<Image> {
        self.copy(&mounted.image, name)
    }

    fn copy(&self, from: &Path, name: &str) -> anyhow::Result<Image> {
        let path = self.home.path().join(format!("{name}.img"));
        run(
            "cp",
            &[
                "--sparse=always",
                &from.to_string_lossy(),
                &path.to_string_lossy(),
            ],
        )?;
        Ok(Image { path })
    }
}

impl Image {
    /// Mounts it; ext4 replays its journal.
    pub fn mount(self) -> anyhow::Result<Mounted> {
        let point = self.path.with_extension("mount");
        fs::create_dir_all(&point)?;
        let (image, at) = (self.path.to_string_lossy(), point.to_string_lossy());
        // The loop device is taken down by the kernel at the unmounting.
        run("mount", &["-t", "ext4", "-o", "loop", &image, &at])?;
        Ok(Mounted {
            point,
            image: self.path.clone(),
        })
    }
}

impl Mounted {
    /// The data directory in it.
    pub fn data(&self) -> PathBuf {
        self.point.join("data")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let point = self.point.to_string_lossy().into_owned();
        let done = run("umount", &[&point]).or_else(|_| run("umount", &["--lazy", &point]));
        if let Err(error) = done {
            eprintln!("{point} could not be unmounted: {error:#}");
            return;
        }
        if let Err(error) = fs::remove_file(&self.image) {
            eprintln!("{} could not be removed: {error}", self.image.display());
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("starting {program}"))?;
    ensure!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
