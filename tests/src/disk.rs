//! Disks of their own for parts of a fleet: a loop-mounted ext4 whose power can be cut, and a small tmpfs that is full.
//! Only root can mount; a story that cannot says so loudly.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::output::words;
use crate::wait::until;

nix::ioctl_read!(
    /// FS_IOC_SHUTDOWN, `_IOR('X', 125, __u32)` = 0x8004587d; XFS_IOC_GOINGDOWN in older headers.
    fs_ioc_shutdown,
    b'X',
    125,
    u32
);
/// Shut down without flushing the log: what was not synced is lost, as when the power goes.
const NO_LOG_FLUSH: u32 = 2;

/// Says that a story was not told on this machine, also where the test runner hides what tests print.
pub fn skip(story: &str, why: &str) {
    let _closed = writeln!(std::io::stderr(), "SKIPPED: {story}: {why}");
}

/// Whether this process may mount.
pub fn may_mount() -> bool {
    nix::unistd::geteuid().is_root()
        && Command::new("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success())
}

/// An ext4 file system of its own, on a loop device.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    /// Where it is mounted.
    pub at: PathBuf,
}

impl Disk {
    /// Makes and mounts it.
    ///
    /// # Errors
    /// What mkfs or mount said.
    pub fn ext4(image: &Path, at: &Path, mebibytes: u64) -> Result<Disk, String> {
        File::create(image).and_then(|file| file.set_len(mebibytes << 20)).map_err(|error| error.to_string())?;
        try_run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image))?;
        fs::create_dir_all(at).map_err(|error| error.to_string())?;
        let disk = Disk { image: image.to_owned(), at: at.to_owned() };
        disk.mount()?;
        // Nobody who looks into a new directory expects this one.
        let _kept = fs::remove_dir(at.join("lost+found"));
        Ok(disk)
    }

    fn mount(&self) -> Result<(), String> {
        try_run(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.at))
    }

    /// Brings everything written until now to the disk: what belongs to the installation and not to the story.
    pub fn settle(&self) {
        try_run(Command::new("sync").arg("-f").arg(&self.at)).unwrap();
    }

    /// Cuts the power: from now on every access fails, and what was not synced is gone.
    ///
    /// # Errors
    /// What the kernel said.
    #[allow(unsafe_code)]
    pub fn cut(&self) -> Result<(), String> {
        let root = File::open(&self.at).map_err(|error| error.to_string())?;
        let mut flag = NO_LOG_FLUSH;
        // SAFETY: the descriptor is open for the call, and the kernel only reads four bytes at the pointer.
        unsafe { fs_ioc_shutdown(root.as_raw_fd(), &raw mut flag) }.map(|_| ()).map_err(|error| error.to_string())
    }

    /// The power is back: unmounts what is left and mounts the disk again. Whoever used it must be dead.
    #[track_caller]
    pub fn restore(&self) {
        until("the dead disk can be unmounted", || try_run(Command::new("umount").arg(&self.at)).ok());
        // Parallel mounts are offered the same free loop device, and only one of them gets it.
        until("the disk can be mounted again", || self.mount().ok());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(&self.at);
    }
}

/// A small file system in memory.
#[derive(Debug)]
pub struct Tmpfs {
    /// Where it is mounted.
    pub at: PathBuf,
}

impl Tmpfs {
    /// Mounts it.
    ///
    /// # Errors
    /// What mount said.
    pub fn mount(at: &Path, mebibytes: u64) -> Result<Tmpfs, String> {
        fs::create_dir_all(at).map_err(|error| error.to_string())?;
        try_run(
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m,mode=0755"), "none"]).arg(at),
        )?;
        Ok(Tmpfs { at: at.to_owned() })
    }

    /// Fills it up to about `left_kib` free, and returns the file that does it.
    pub fn fill(&self, left_kib: u64) -> PathBuf {
        let path = self.at.join("ballast");
        let mut file = File::create(&path).unwrap();
        let block = [0x5a_u8; 4096];
        while file.write_all(&block).is_ok() {}
        let length = file.metadata().unwrap().len();
        file.set_len(length.saturating_sub(left_kib << 10)).unwrap();
        path
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        unmount(&self.at);
    }
}

fn unmount(at: &Path) {
    // Lazily: a failed story may have left somebody inside.
    let _not_mounted =
        try_run(Command::new("umount").arg(at)).or_else(|_| try_run(Command::new("umount").arg("-l").arg(at)));
}

fn try_run(command: &mut Command) -> Result<(), String> {
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{}: {}", words(command), String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}
