//! Disks that can be filled and can lose their power. They need root, and a kernel and tools that not every machine
//! has; where that is missing the tests say "skipped:" and why.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fleet_controller::store::{Error, OpenMode};
use nix::mount::{MntFlags, MsFlags, mount, umount, umount2};

use crate::kit::{Backend, contents, put, wait};

/// Why a disk could not be made.
pub struct Skipped(pub String);

#[allow(unsafe_code)]
mod shutdown {
    nix::ioctl_read!(
        /// `FS_IOC_SHUTDOWN` (0x8004587d): reads the flags although its name says otherwise.
        fs_shutdown,
        b'X',
        125,
        u32
    );

    /// Drops what is not on the disk, including the open transaction of the file system's journal.
    pub fn without_log_flush(disk: &std::fs::File) -> nix::Result<()> {
        use std::os::fd::AsRawFd;
        const NOLOGFLUSH: u32 = 2;
        let mut flags = NOLOGFLUSH;
        // SAFETY: the descriptor is open, and the kernel reads one u32 from a pointer that is valid for the call.
        unsafe { fs_shutdown(disk.as_raw_fd(), &mut flags) }.map(drop)
    }
}

fn must_be_root() -> Result<(), Skipped> {
    if nix::unistd::geteuid().is_root() { Ok(()) } else { Err(Skipped("not root".into())) }
}

fn run(command: &mut Command) -> Result<(), Skipped> {
    let output = command.output().map_err(|e| Skipped(format!("no {:?}: {e}", command.get_program())))?;
    if !output.status.success() {
        return Err(Skipped(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    Ok(())
}

/// A mounted file system, unmounted when dropped, whatever happens.
struct Mounted {
    at: PathBuf,
}

/// Unmounts. A child of another test holds a copy of our open files between its fork and its exec, which nothing tells
/// us the end of; so this is tried again for up to 5 s.
fn unmount(at: &Path) -> nix::Result<()> {
    for _ in 0..500 {
        match umount(at) {
            Err(nix::errno::Errno::EBUSY) => std::thread::sleep(Duration::from_millis(10)),
            other => return other,
        }
    }
    umount(at)
}

impl Mounted {
    /// Forgets a mount that was undone.
    fn forget(self) {
        std::mem::forget(self);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if unmount(&self.at).is_err() {
            // Somebody still has a file open there; it goes away with them. The loop device clears itself.
            let _ = umount2(&self.at, MntFlags::MNT_DETACH);
        }
    }
}

/// An ext4 of 64 MiB in a file.
pub struct Ext4 {
    mounted: Option<Mounted>,
    image: PathBuf,
    at: PathBuf,
    _dir: tempfile::TempDir,
}

impl Ext4 {
    pub fn make() -> Result<Ext4, Skipped> {
        must_be_root()?;
        let dir = tempfile::tempdir().unwrap();
        let (image, at) = (dir.path().join("image"), dir.path().join("disk"));
        fs::create_dir(&at).unwrap();
        File::create(&image).unwrap().set_len(64 * 1024 * 1024).unwrap();
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
        let mut disk = Ext4 { mounted: None, image, at, _dir: dir };
        disk.mount()?;
        Ok(disk)
    }

    pub fn path(&self) -> &Path {
        &self.at
    }

    fn mount(&mut self) -> Result<(), Skipped> {
        run(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(&self.image).arg(&self.at))?;
        self.mounted = Some(Mounted { at: self.at.clone() });
        Ok(())
    }

    pub fn lose_power(&self) {
        shutdown::without_log_flush(&File::open(&self.at).unwrap()).unwrap();
    }

    /// Mounts again what had reached the disk. Nobody may have a file open.
    pub fn power_on(&mut self) {
        // Not left to the drop: that would detach a disk that is in use, and the power would not have been lost.
        unmount(&self.at).unwrap();
        if let Some(mounted) = self.mounted.take() {
            mounted.forget();
        }
        // Parallel mounts are offered the same free loop device, and only one of them gets it; so this is tried again
        // for up to 5 s.
        for _ in 0..500 {
            if self.mount().is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        if let Err(Skipped(why)) = self.mount() {
            panic!("the disk does not come back: {why}");
        }
    }
}

fn tmpfs(at: &Path, size: &str) -> Result<Mounted, Skipped> {
    must_be_root()?;
    mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::empty(), Some(size))
        .map_err(|e| Skipped(format!("cannot mount a tmpfs: {e}")))?;
    Ok(Mounted { at: at.into() })
}

/// Fills a disk with values of `bytes`; returns how many fitted.
fn fill(backend: Backend, size: &str, bytes: usize) -> Result<usize, Skipped> {
    let dir = tempfile::tempdir().unwrap();
    let _mounted = tmpfs(dir.path(), size)?;
    let home = dir.path().join("store");
    let store = backend.open(&home, OpenMode::Create).unwrap();
    // Something else takes room, and will give it back.
    let filler = dir.path().join("filler");
    fs::write(&filler, vec![1; 1024 * 1024]).unwrap();
    let commit = |n: usize| wait(store.commit(vec![put(&format!("k{n:04}"), vec![n as u8; bytes])]));
    let mut saved = 0;
    let refused = loop {
        match commit(saved) {
            Ok(_) => saved += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(&refused, Error::Full { dir } if *dir == home), "{backend:?} after {saved}: {refused}");
    let all: Vec<_> = contents(&*store).into_iter().map(|(_, entry)| entry.value).collect();
    let expected: Vec<_> = (0..saved).map(|n| vec![n as u8; bytes]).collect();
    assert_eq!(all, expected, "{backend:?}: everything that was saved can be read");
    assert!(matches!(commit(saved), Err(Error::Full { .. })), "still full");

    fs::remove_file(&filler).unwrap();
    commit(saved).unwrap();
    drop(store);
    let store = backend.open(&home, OpenMode::Existing).unwrap();
    assert_eq!(contents(&*store).len(), saved + 1);
    Ok(saved)
}

#[test]
fn a_full_disk_refuses_commits_keeps_reads_and_comes_back() {
    for backend in Backend::ALL {
        for (size, bytes, at_least) in [("size=4m", 3000, 40), ("size=16m", 60_000, 20)] {
            match fill(backend, size, bytes) {
                Ok(saved) => {
                    assert!(saved >= at_least, "{backend:?}: only {saved} commits of {bytes} bytes fit");
                    eprintln!("full disk with {}: {saved} commits of {bytes} bytes", backend.name());
                }
                Err(Skipped(why)) => return eprintln!("skipped: full disk: {why}"),
            }
        }
    }
}
