//! The observer of Linux: puts together the files of the held release, `current`, and the processes.

use std::io;
use std::path::PathBuf;

use super::digests::Digests;
use super::processes::{Found, Watch};
use super::view::Home;
use super::{files, proc};
use crate::platform::{Look, Observer, Scope, Seen};

/// Sees through /proc what really runs, and on the disk what really lies there.
///
/// As an ordinary user it cannot see what other users' processes execute: those count only by parentage.
#[derive(Debug)]
pub struct LinuxObserver {
    watch: Watch,
    digests: Digests,
}

impl LinuxObserver {
    /// An observer of this boot. `services_root` is the directory below which the agent's services have their roots.
    ///
    /// # Errors
    /// /proc is not mounted or hides the boot id.
    pub fn new(scope: Scope, services_root: PathBuf) -> io::Result<Self> {
        let services_root = std::fs::canonicalize(&services_root).unwrap_or(services_root);
        let home = Home::new(&services_root);
        Ok(Self { watch: Watch { scope, services_root, boot_id: proc::boot_id()?, home }, digests: Digests::default() })
    }
}

impl Observer for LinuxObserver {
    fn look(&self, look: &Look<'_>) -> io::Result<Seen> {
        let files =
            look.held.map(|(held, manifest)| files::deviations(&look.place.root, held, manifest, &self.digests));
        let Found { processes, hidden, outside, outside_omitted } = self.watch.processes(look, &self.digests)?;
        let (files, files_omitted) = files.map_or((Vec::new(), 0), |found| (found.listed, found.omitted));
        Ok(Seen { files, files_omitted, processes, hidden, outside, outside_omitted, current: look.place.live() })
    }

    fn boot_id(&self) -> String {
        self.watch.boot_id.clone()
    }

    fn ticks_now(&self) -> u64 {
        proc::ticks_now()
    }
}
