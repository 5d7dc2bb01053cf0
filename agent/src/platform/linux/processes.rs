//! The processes of a service and everything on the node that runs something of its releases: by what they really
//! execute, not by what lies at a path. Whether that is as it should be is judged elsewhere.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fleet::evidence::{LinkState, Mapped, Parentage, Place, Process, Started};
use fleet::{Digest, Millis, ReleaseId};

use super::digests::Digests;
use super::errand;
use super::lineage::{Glimpse, Lineage, snapshot};
use super::maps::{self, Inode, Mapping, Mappings};
use super::proc;
use crate::platform::{Look, Scope};

/// Readings of a process that executes another program while it is read; after that the last reading stands.
const MOST_READINGS: usize = 3;

/// How long to leave a process that is in the middle of exec to itself before it is read again.
const EXEC_TAKES: Duration = Duration::from_millis(1);

/// Where to look, and at which boot.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) scope: Scope,
    pub(super) services_root: PathBuf,
    pub(super) boot_id: String,
}

/// One look of one service.
struct Round<'a> {
    watch: &'a Watch,
    look: &'a Look<'a>,
    lineage: Lineage<'a>,
    digests: &'a Digests,
    tree: BTreeSet<u32>,
    /// What this agent runs beside the service: no part of it, and no stray.
    errands: BTreeSet<u32>,
    now: u64,
    /// One file is mapped by many processes; within a round it is opened once.
    opened: HashMap<(PathBuf, Inode), Digest>,
    /// The roots of other services, as the kernel shows them in links.
    neighbours: Vec<PathBuf>,
    /// What the agent itself executes.
    own_program: Option<PathBuf>,
}

/// The executable of a process.
struct Executable {
    /// As the kernel shows it.
    shown: PathBuf,
    /// Its inode, where it could be opened.
    inode: Option<u64>,
    mapped: Mapped,
}

/// Something that may be code of the service and could not be read: it proves nothing, and spoils the proof.
fn unseen(path: String) -> Mapped {
    Mapped { path, digest: None, release: None, place: Place::Inside, link: LinkState::Linked }
}

impl Watch {
    /// Everything that belongs to the service, sorted by number.
    ///
    /// # Errors
    /// /proc could not be listed.
    pub(super) fn processes(&self, look: &Look<'_>, digests: &Digests) -> io::Result<Vec<Process>> {
        let snapshot = snapshot()?;
        let lineage = Lineage::new(look.place, look.running, &self.boot_id);
        let tree = lineage.tree(&snapshot, &BTreeSet::new());
        let own_program = fs::read_link("/proc/self/exe").ok();
        let mut round = Round {
            watch: self,
            look,
            lineage,
            digests,
            tree,
            errands: errand::own(&snapshot),
            now: proc::ticks_now(),
            opened: HashMap::new(),
            neighbours: look
                .neighbours
                .iter()
                .map(|root| fs::canonicalize(root).unwrap_or_else(|_| root.clone()))
                .collect(),
            own_program,
        };
        Ok(snapshot.into_values().filter_map(|glimpse| round.settled(glimpse)).collect())
    }
}

impl Round<'_> {
    /// Reads a process until it has stayed the same while it was read; None if it is gone or does not belong.
    fn settled(&mut self, mut glimpse: Glimpse) -> Option<Process> {
        let mut seen = None;
        for _ in 0..MOST_READINGS {
            let before = fs::read_link(glimpse.details.join("exe"));
            seen = self.read(&glimpse, before.as_deref().ok());
            let stat = proc::stat(glimpse.stat.identity.pid)
                .filter(|stat| stat.identity == glimpse.stat.identity && stat.executes())?;
            if proc::amid_exec(&glimpse.details) {
                std::thread::sleep(EXEC_TAKES);
            } else if fs::read_link(glimpse.details.join("exe")).ok() == before.ok() {
                break;
            }
            let details = stat.details();
            let marks = proc::marks(&details);
            glimpse = Glimpse { stat, details, marks };
        }
        seen
    }

    fn read(&mut self, glimpse: &Glimpse, shown: Option<&Path>) -> Option<Process> {
        if self.is_about_to_execute(glimpse, shown) {
            return None;
        }
        let cwd = proc::cwd(&glimpse.details);
        let in_tree = self.tree.contains(&glimpse.stat.identity.pid);
        let marked = self.lineage.marked(glimpse);
        let errand = self.errands.contains(&glimpse.stat.identity.pid) || errand::is_own(glimpse);
        if errand && !in_tree && !marked {
            return None;
        }
        if !in_tree && !marked && !self.in_scope(glimpse, shown, cwd.as_deref()) {
            return None;
        }
        let executable = self.executable(glimpse, shown);
        let mappings = maps::mappings(&glimpse.details);
        let unread = mappings.as_ref().err().map(|cause| format!("(mappings cannot be read: {cause})"));
        let mappings = mappings.unwrap_or_default();
        let below = |path: Option<&Path>| path.is_some_and(|path| path.starts_with(self.lineage.root()));
        let belongs = in_tree
            || marked
            || below(shown)
            || below(cwd.as_deref())
            || shown.is_some_and(|path| self.sets_aside(path));
        if !belongs && !self.runs_known(glimpse, &executable, &mappings) {
            return None;
        }
        let (mut mapped, outside) = self.mapped(glimpse, &executable, &mappings);
        // Not to be able to look is not to have seen nothing.
        mapped.extend(unread.map(unseen));
        Some(Process {
            pid: glimpse.stat.identity.pid,
            parentage: if in_tree || self.lineage.of_this_start(glimpse) {
                Parentage::Supervised
            } else {
                Parentage::Stray
            },
            age: Millis(
                self.now.saturating_sub(glimpse.stat.identity.start_ticks).saturating_mul(1_000)
                    / proc::ticks_per_second(),
            ),
            executable: executable.mapped,
            mappings: mapped,
            outside,
            marker: glimpse.marks.as_ref().filter(|_| marked).and_then(|marks| marks.release.clone()),
            cwd: cwd.and_then(|path| self.release_of(&path)),
            started: self.started(glimpse),
            command: proc::command(glimpse.stat.identity.pid),
        })
    }

    /// A child of the agent between fork and exec stands in the release's directory with the agent's program.
    fn is_about_to_execute(&self, glimpse: &Glimpse, shown: Option<&Path>) -> bool {
        glimpse.stat.parent == std::process::id()
            && glimpse.marks.is_none()
            && shown.is_some()
            && shown == self.own_program.as_deref()
    }

    fn in_scope(&self, glimpse: &Glimpse, shown: Option<&Path>, cwd: Option<&Path>) -> bool {
        let below = |path: Option<&Path>| path.is_some_and(|path| path.starts_with(&self.watch.services_root));
        match self.watch.scope {
            Scope::Machine => true,
            Scope::Root => {
                below(shown) || below(cwd) || below(glimpse.marks.as_ref().map(|marks| marks.root.as_path()))
            }
        }
    }

    /// Whether it executes or maps a file of a release that this node held. Files in another service's root are that
    /// service's, even where both ship the same bytes; beside the services' roots they are everyone's who knows them.
    fn runs_known(&mut self, glimpse: &Glimpse, executable: &Executable, mappings: &Mappings) -> bool {
        let known = self.look.known;
        let own = |path: &Path, digest: Option<Digest>, round: &Self| {
            digest.is_some_and(|digest| known.contains_key(&digest)) && !round.others(path)
        };
        if own(&executable.shown, executable.mapped.digest, self) {
            return true;
        }
        mappings.files.iter().any(|mapping| {
            let digest = self.digest(glimpse, mapping);
            own(&mapping.shown, digest, self)
        })
    }

    /// Whether a path lies in the root of another service that has an order here.
    fn others(&self, path: &Path) -> bool {
        self.neighbours.iter().any(|neighbour| path.starts_with(neighbour))
    }

    /// Whether a path lies in a copy of this service set aside under a name made of its own, such as `hello.bak` or
    /// `hello-old`: what is executed there is called this service's even where its bytes were never released. A
    /// service with a longer name that fits too has the better claim.
    fn sets_aside(&self, path: &Path) -> bool {
        let Some(beside) = path.strip_prefix(&self.watch.services_root).ok().and_then(|below| below.iter().next())
        else {
            return false;
        };
        let Some(beside) = beside.to_str().filter(|_| !self.others(path)) else { return false };
        let fits = |name: &str| {
            // `webmin` is no copy of `web`.
            beside.strip_prefix(name).is_some_and(|rest| rest.chars().next().is_some_and(|next| !next.is_alphabetic()))
        };
        let own = self.look.place.service.as_str();
        let better = |neighbour: &PathBuf| {
            neighbour
                .file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.len() > own.len() && fits(name))
        };
        fits(own) && !self.neighbours.iter().any(better)
    }

    fn executable(&self, glimpse: &Glimpse, shown: Option<&Path>) -> Executable {
        let Some(shown) = shown else {
            let mapped = Mapped {
                path: "(not permitted to read)".into(),
                digest: None,
                release: None,
                place: Place::Outside,
                link: LinkState::Linked,
            };
            return Executable { shown: PathBuf::new(), inode: None, mapped };
        };
        let file = File::open(glimpse.details.join("exe")).ok();
        let found = file.as_ref().and_then(|file| file.metadata().ok());
        let digest = file.as_ref().and_then(|file| self.digests.of(file).ok());
        let same = |other: fs::Metadata| {
            found.as_ref().is_some_and(|found| (found.dev(), found.ino()) == (other.dev(), other.ino()))
        };
        // A name may itself end in " (deleted)": then the file is still there under it.
        let (path, link) = match proc::without_deleted(shown) {
            Some(path) if !fs::metadata(shown).is_ok_and(same) => (path, LinkState::Deleted),
            _ => (shown.to_owned(), LinkState::Linked),
        };
        let mapped = self.describe(&path, digest, link);
        Executable { shown: shown.to_owned(), inode: found.map(|found| found.ino()), mapped }
    }

    /// The mappings to report, and the number of the others.
    fn mapped(&mut self, glimpse: &Glimpse, executable: &Executable, mappings: &Mappings) -> (Vec<Mapped>, u32) {
        let mut reported = Vec::new();
        let mut outside = mappings.anonymous;
        for mapping in &mappings.files {
            if mapping.shown == executable.shown && executable.inode.is_none_or(|inode| inode == mapping.inode.number) {
                continue;
            }
            let (path, deleted) = mapping.path();
            let ours = deleted || path.starts_with(self.lineage.root());
            // The distribution's libraries are read only where the whole machine is searched for known files.
            let digest = if ours || self.watch.scope == Scope::Machine { self.digest(glimpse, mapping) } else { None };
            let known = digest.is_some_and(|digest| self.look.known.contains_key(&digest));
            if ours || known {
                let link = if deleted { LinkState::Deleted } else { LinkState::Linked };
                reported.push(self.describe(&path, digest, link));
            } else {
                outside = outside.saturating_add(1);
            }
        }
        (reported, outside)
    }

    fn digest(&mut self, glimpse: &Glimpse, mapping: &Mapping) -> Option<Digest> {
        let key = (mapping.shown.clone(), mapping.inode);
        if let Some(digest) = self.opened.get(&key) {
            return Some(*digest);
        }
        // A failure is not kept: what this process may not show, the next may.
        let file = mapping.open(glimpse.stat.identity.pid).ok()?;
        let digest = self.digests.of(&file).ok()?;
        self.opened.insert(key, digest);
        Some(digest)
    }

    /// Code in a memfd has no place of its own. It counts as inside, so that it is held against the manifest.
    fn describe(&self, path: &Path, digest: Option<Digest>, link: LinkState) -> Mapped {
        let in_memory = path.as_os_str().as_encoded_bytes().starts_with(b"/memfd:");
        let place = if in_memory || path.starts_with(self.lineage.root()) { Place::Inside } else { Place::Outside };
        Mapped { path: path.to_string_lossy().into_owned(), digest, release: self.release_of(path), place, link }
    }

    /// The release in whose directory a path lies.
    fn release_of(&self, path: &Path) -> Option<ReleaseId> {
        let below = path.strip_prefix(self.lineage.root()).ok()?.strip_prefix("releases").ok()?;
        below.components().next()?.as_os_str().to_str()?.parse().ok()
    }

    fn started(&self, glimpse: &Glimpse) -> Started {
        match self.look.activated {
            None => Started::Unknown,
            // Whatever runs now was started after the boot, and so after an activation before it.
            Some((boot_id, _)) if boot_id != self.watch.boot_id => Started::AfterActivation,
            Some((_, ticks)) if glimpse.stat.identity.start_ticks >= ticks => Started::AfterActivation,
            Some(_) => Started::BeforeActivation,
        }
    }
}
