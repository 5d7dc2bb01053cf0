//! The decoy of an alarm's self-test: old code on this node that nobody started for a service and that never executes an
//! instruction. It has to be found by the ordinary look; nothing here tells it what to find. It is an older release's
//! program, copied and executed under another name; or, where none lies here, one that was made for this test.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleet::manifest::{EntryKind, Manifest};
use fleet::{Digest, Millis, ReleaseId, ServiceName};

use crate::platform::ServicePlace;
use crate::platform::linux::Decoy;
use crate::releases::Releases;

/// The largest program that is copied: the node's disk is not the test's.
const LARGEST_PROGRAM: u64 = 256 << 20;
/// How a program begins that the kernel executes itself: of a script the interpreter would be executed, which is nobody's
/// old code.
const ELF: &[u8] = b"\x7fELF";
/// How often a copy that is still open for writing is tried again, and the pause before: a child that another thread
/// forked while it was written holds it open until it executes something itself, which nothing tells.
const MOST_RETRIES: usize = 100;
const RETRY_PAUSE: Duration = Duration::from_millis(10);
/// What makes a made program another than this one.
const MADE_BYTES: usize = 32;

/// A service under whose name a decoy can be planted.
#[derive(Debug, Clone)]
pub struct Ground {
    /// Where it lives.
    pub place: ServicePlace,
    /// What it runs now.
    pub live: ReleaseId,
    /// The files of that.
    pub manifest: Manifest,
}

/// A decoy that stands; dropped, it is gone.
#[derive(Debug)]
pub struct Planted {
    /// The process.
    pub decoy: Decoy,
    /// The service whose old code it is.
    pub service: ServiceName,
    /// The release it is of.
    pub release: ReleaseId,
    /// What it executes, if that was made for this test.
    pub made: Option<Digest>,
}

/// Plants a decoy. Blocking: it copies a program.
///
/// # Errors
/// Why it cannot be done here, and what would help.
pub fn plant(services_root: &Path, grounds: &[Ground], life: Millis) -> Result<Planted, String> {
    let Some(first) = grounds.first() else {
        return Err("no service holds its release here: deploy one first".to_owned());
    };
    let directory = Nest::make(services_root)
        .map_err(|cause| format!("no directory for the decoy can be made in {}: {cause}", services_root.display()))?;
    let program = directory.path.join("decoy");
    let stand = |life| {
        for _ in 0..MOST_RETRIES {
            match Decoy::plant(&program, services_root, life) {
                Err(cause) if cause.kind() == io::ErrorKind::ExecutableFileBusy => std::thread::sleep(RETRY_PAUSE),
                planted => return planted,
            }
        }
        Decoy::plant(&program, services_root, life)
    };
    let cannot = |cause: io::Error| {
        format!(
            "the decoy cannot be executed in {}: {cause}; is it mounted noexec, or is tracing processes forbidden?",
            services_root.display()
        )
    };
    for (ground, release, file) in grounds.iter().flat_map(old_programs) {
        if copy(&file, &program, &[]).is_ok()
            && let Ok(decoy) = stand(life)
        {
            return Ok(Planted { decoy, service: ground.place.service.clone(), release, made: None });
        }
    }
    let mut seed = [0; MADE_BYTES];
    getrandom::fill(&mut seed).map_err(|cause| format!("no random bytes: {cause}"))?;
    let own = std::env::current_exe().map_err(|cause| format!("the agent's own program is not found: {cause}"))?;
    copy(&own, &program, &seed).map_err(|cause| format!("the decoy cannot be written: {cause}"))?;
    let (digest, _) = File::open(&program)
        .and_then(|mut file| fleet_bundle::digest(&mut file))
        .map_err(|cause| format!("the decoy cannot be read back: {cause}"))?;
    let release = format!("r-{}", &digest.hex()[..12]).parse().map_err(|cause| format!("{cause}"))?;
    let decoy = stand(life).map_err(cannot)?;
    Ok(Planted { decoy, service: first.place.service.clone(), release, made: Some(digest) })
}

/// Programs of older releases of a service that its live release does not have, the smallest first.
fn old_programs(ground: &Ground) -> Vec<(&Ground, ReleaseId, PathBuf)> {
    let releases = Releases::new(ground.place.clone());
    let Ok(entries) = fs::read_dir(ground.place.root.join("releases")) else { return Vec::new() };
    let mut found = Vec::new();
    for release in entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<ReleaseId>().ok()) {
        if release == ground.live {
            continue;
        }
        let Ok(Some(descriptor)) = releases.descriptor(&release) else { continue };
        for entry in descriptor.manifest.entries() {
            let EntryKind::File { sha256, size } = &entry.kind else { continue };
            let path = ground.place.release(&release).join(entry.path.as_str());
            if entry.mode & 0o111 != 0
                && *size <= LARGEST_PROGRAM
                && !ground.manifest.has_digest(sha256)
                && is_program(&path)
            {
                found.push((*size, release.clone(), path));
            }
        }
    }
    found.sort();
    found.into_iter().map(|(_, release, path)| (ground, release, path)).collect()
}

fn is_program(path: &Path) -> bool {
    let mut begin = [0; ELF.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut begin)).is_ok() && begin == ELF
}

/// Copies a program, with something behind its end that nobody executes.
fn copy(from: &Path, to: &Path, behind: &[u8]) -> io::Result<()> {
    let mut from = File::open(from)?.take(LARGEST_PROGRAM);
    let mut to = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o700).open(to)?;
    io::copy(&mut from, &mut to)?;
    to.write_all(behind)
}

/// A directory that is removed again: the program is executed and needs no name after that.
struct Nest {
    path: PathBuf,
}

impl Nest {
    fn make(services_root: &Path) -> io::Result<Self> {
        // No service has such a name. What a killed agent left is taken away.
        let path = services_root.join(".fleet-decoy");
        match fs::remove_dir_all(&path) {
            Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
            _ => {}
        }
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path })
    }
}

impl Drop for Nest {
    fn drop(&mut self) {
        if let Err(cause) = fs::remove_dir_all(&self.path) {
            tracing::warn!("{} is left behind: {cause}", self.path.display());
        }
    }
}
