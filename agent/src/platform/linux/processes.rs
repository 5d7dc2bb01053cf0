//! The processes of a service and everything on the node that runs something of its releases: by what they really
//! execute, not by what lies at a path. Whether that is as it should be is judged elsewhere.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use fleet::evidence::{LinkState, Mapped, Owner, Parentage, Place, Process, Started};
use fleet::{Digest, Millis, ReleaseId};

use super::descriptors::{Descriptors, descriptors};
use super::digests::Digests;
use super::errand;
use super::interpreter::{self, Named};
use super::lineage::{Glimpse, Lineage, glimpses, snapshot};
use super::maps::{self, Inode, Mapping, Mappings};
use super::origin;
use super::outside::{self, Bytes, Outside};
use super::packages::Packages;
use super::proc;
use super::view::{self, Home, View, is_same};
use crate::platform::{Look, Scope};

/// Readings of a process that executes another program while it is read; after that the last reading stands.
const MOST_READINGS: usize = 3;

/// Files of releases told for one process. Those that the held release does not have come first, so that what the limit
/// leaves out is what is as it should be.
const MOST_FILES: usize = 256;

/// Where to look, and at which boot.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) scope: Scope,
    pub(super) services_root: PathBuf,
    pub(super) boot_id: String,
    pub(super) home: Home,
    pub(super) packages: Packages,
}

/// What a look at the processes of the node found.
pub(super) struct Found {
    /// Everything that belongs to the service, sorted by number.
    pub(super) processes: Vec<Process>,
    /// Processes that this agent may not look into.
    pub(super) hidden: u32,
    /// Code outside the release in supervised processes.
    pub(super) outside: Vec<Mapped>,
    /// More of that.
    pub(super) outside_omitted: u32,
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
    hidden: u32,
    /// Each file once: by path and digest, since one path may have been several files.
    outside: BTreeMap<(String, Option<Digest>), Outside>,
}

/// What a process is by the kernel's word, to be compared before and after it is read.
#[derive(PartialEq, Eq)]
struct Face {
    executable: Option<PathBuf>,
    inode: Option<(u64, u64)>,
    command: String,
}

impl Face {
    fn of(glimpse: &Glimpse) -> Self {
        let exe = glimpse.details.join("exe");
        Self {
            executable: fs::read_link(&exe).ok(),
            // A path may have become another file's between two programs executed by it.
            inode: fs::metadata(&exe).ok().map(|found| (found.dev(), found.ino())),
            command: proc::command(glimpse.stat.identity.pid),
        }
    }
}

/// A process as it was read once, and what it maps of the distribution.
struct Reading {
    process: Process,
    outside: Vec<Outside>,
}

/// The executable of a process.
struct Executable {
    /// As the kernel shows it.
    shown: PathBuf,
    /// What it is called here, without the mark of deletion.
    path: PathBuf,
    /// Its inode, where it could be opened.
    inode: Option<u64>,
    mapped: Mapped,
}

/// Something that may be code of the service and could not be read: it proves nothing, and spoils the proof.
fn unseen(path: String) -> Mapped {
    Mapped { path, digest: None, release: None, place: Place::Inside, link: LinkState::Linked, owner: Owner::Unknown }
}

/// Whose details are read in a look.
#[derive(Debug)]
pub(super) enum Among {
    /// Every process of the node.
    Everybody,
    /// These, and nobody else has come since they were found to be the service's.
    Members(BTreeSet<u32>),
    /// These, where some may be anybody's child.
    Newcomers(BTreeSet<u32>),
}

impl Watch {
    /// Looks at processes of the node.
    ///
    /// # Errors
    /// /proc could not be listed.
    pub(super) fn processes(&self, look: &Look<'_>, digests: &Digests, among: Among) -> io::Result<Found> {
        let snapshot = match &among {
            Among::Everybody | Among::Newcomers(_) => snapshot()?,
            Among::Members(members) => glimpses(members),
        };
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
            hidden: 0,
            outside: BTreeMap::new(),
        };
        let is_meant = |pid: &u32| match &among {
            Among::Everybody => true,
            Among::Members(meant) | Among::Newcomers(meant) => meant.contains(pid),
        };
        let meant = snapshot.into_iter().filter(|(pid, _)| is_meant(pid));
        let processes = meant.filter_map(|(_, glimpse)| round.settled(glimpse)).collect();
        let (outside, outside_omitted) = outside::told(round.outside.into_values().collect(), &self.packages);
        Ok(Found { processes, hidden: round.hidden, outside, outside_omitted })
    }
}

impl Round<'_> {
    /// Reads a process until it has stayed the same while it was read; None if it is gone or does not belong.
    fn settled(&mut self, mut glimpse: Glimpse) -> Option<Process> {
        let mut seen = None;
        for _ in 0..MOST_READINGS {
            let before = Face::of(&glimpse);
            seen = self.read(&glimpse, before.executable.as_deref());
            let stat = proc::stat(glimpse.stat.identity.pid)
                .filter(|stat| stat.identity == glimpse.stat.identity && stat.executes())?;
            if proc::amid_exec(&glimpse.details) {
                std::thread::sleep(proc::EXEC_TAKES);
            } else if Face::of(&glimpse) == before {
                break;
            }
            let details = stat.details();
            let marks = proc::marks(&details);
            glimpse = Glimpse { stat, details, marks };
        }
        let Some(Reading { process, outside }) = seen else {
            self.hidden += u32::from(self.watch.scope == Scope::Machine && is_hidden(&glimpse));
            return None;
        };
        if process.parentage == Parentage::Supervised {
            let key = |outside: &Outside| (outside.mapped.path.clone(), outside.mapped.digest);
            self.outside.extend(outside.into_iter().map(|outside| (key(&outside), outside)));
        }
        Some(process)
    }

    fn read(&mut self, glimpse: &Glimpse, shown: Option<&Path>) -> Option<Reading> {
        if self.is_about_to_execute(glimpse, shown) {
            return None;
        }
        let view = self.watch.home.view(&glimpse.details);
        let cwd = view::cwd(&view, &glimpse.details);
        let in_tree = self.tree.contains(&glimpse.stat.identity.pid);
        let marked = self.lineage.marked(glimpse);
        let errand = self.errands.contains(&glimpse.stat.identity.pid) || errand::is_own(glimpse);
        if errand && !in_tree && !marked {
            return None;
        }
        let path = shown.map(|shown| self.called(glimpse, &view, shown));
        let named = match &path {
            Some(path) if interpreter::is_interpreter(path) => self.named(glimpse, &view),
            Some(_) | None => Vec::new(),
        };
        if !in_tree && !marked && !self.in_scope(glimpse, path.as_deref(), cwd.as_deref(), &named) {
            return None;
        }
        let executable = self.executable(glimpse, shown, path.clone());
        let mappings = maps::mappings(&glimpse.details);
        let unread = mappings.as_ref().err().map(|cause| format!("(mappings cannot be read: {cause})"));
        let mappings = mappings.unwrap_or_default();
        let below = |path: Option<&Path>| path.is_some_and(|path| path.starts_with(self.lineage.root()));
        let belongs = in_tree
            || marked
            || below(path.as_deref())
            || below(cwd.as_deref())
            || path.as_deref().is_some_and(|path| self.sets_aside(path));
        if !belongs && !self.runs_known(glimpse, &view, &executable, &mappings) && !self.runs_old(&named) {
            return None;
        }
        let parentage =
            if in_tree || self.lineage.of_this_start(glimpse) { Parentage::Supervised } else { Parentage::Stray };
        let (mut mapped, outside) = self.mapped(glimpse, &view, &executable, &mappings, parentage);
        // Not to be able to look is not to have seen nothing.
        mapped.extend(unread.map(unseen));
        let (open, open_omitted) = self.open(glimpse, &view, &mappings, &named);
        let named = with_open(named, &open);
        let process = Process {
            pid: glimpse.stat.identity.pid,
            parentage,
            age: Millis(
                self.now.saturating_sub(glimpse.stat.identity.start_ticks).saturating_mul(1_000)
                    / proc::ticks_per_second(),
            ),
            executable: executable.mapped,
            mappings: mapped,
            open: self.limited(open),
            named: self.limited(named),
            open_omitted,
            outside: u32::try_from(outside.len()).unwrap_or(u32::MAX).saturating_add(mappings.anonymous),
            marker: glimpse.marks.as_ref().filter(|_| marked).and_then(|marks| marks.release.clone()),
            cwd: cwd.and_then(|path| self.release_of(&path)),
            started: self.started(glimpse),
            command: proc::command(glimpse.stat.identity.pid),
            by: (parentage == Parentage::Stray)
                .then(|| origin::of_process(glimpse.stat.identity.pid, glimpse.stat.parent))
                .flatten(),
        };
        let interpreter =
            Some(&process.executable).filter(|mapped| mapped.place == Place::Outside && mapped.path.starts_with('/'));
        let interpreter =
            interpreter.cloned().map(|mapped| Outside { mapped, bytes: Bytes::Executed(glimpse.details.join("exe")) });
        Some(Reading { outside: outside.into_iter().chain(interpreter).collect(), process })
    }

    /// A child of the agent between fork and exec stands in the release's directory with the agent's program.
    fn is_about_to_execute(&self, glimpse: &Glimpse, shown: Option<&Path>) -> bool {
        glimpse.stat.parent == std::process::id()
            && glimpse.marks.is_none()
            && shown.is_some()
            && shown == self.own_program.as_deref()
    }

    /// What the file that the process executes is called here, without the mark of deletion.
    fn called(&self, glimpse: &Glimpse, view: &View<'_>, shown: &Path) -> PathBuf {
        let found = fs::metadata(glimpse.details.join("exe")).ok();
        let kept = proc::without_deleted(shown);
        let is_it = |here: &fs::Metadata| found.as_ref().is_some_and(|found| is_same(found, here));
        // A name may itself end in " (deleted)": then the file is still there under it.
        match kept {
            Some(kept) if !fs::metadata(shown).is_ok_and(|here| is_it(&here)) => view.here(&kept, is_it),
            Some(_) | None => view.here(shown, is_it),
        }
    }

    fn in_scope(&self, glimpse: &Glimpse, path: Option<&Path>, cwd: Option<&Path>, named: &[Mapped]) -> bool {
        let below = |path: Option<&Path>| path.is_some_and(|path| path.starts_with(&self.watch.services_root));
        match self.watch.scope {
            Scope::Machine => true,
            Scope::Root => {
                below(path)
                    || below(cwd)
                    || below(glimpse.marks.as_ref().map(|marks| marks.root.as_path()))
                    || named.iter().any(|named| below(Some(Path::new(&named.path))))
            }
        }
    }

    /// Whether it executes or maps a file of a release that this node held. Files in another service's root are that
    /// service's, even where both ship the same bytes; beside the services' roots they are everyone's who knows them.
    fn runs_known(&mut self, glimpse: &Glimpse, view: &View<'_>, executable: &Executable, mappings: &Mappings) -> bool {
        let known = self.look.known;
        let own = |path: &Path, digest: Option<Digest>, round: &Self| {
            digest.is_some_and(|digest| known.contains(&digest)) && !round.others(path)
        };
        if own(&executable.path, executable.mapped.digest, self) {
            return true;
        }
        mappings.files.iter().any(|mapping| {
            let digest = self.digest(glimpse, mapping);
            own(&located(view, mapping), digest, self)
        })
    }

    /// Whether an interpreter was told to run a file of a release that this node held, and not of the one that it holds:
    /// what somebody runs by hand of that is no old code.
    fn runs_old(&self, named: &[Mapped]) -> bool {
        let current = |digest: &Digest| self.look.held.is_some_and(|(_, manifest)| manifest.has_digest(digest));
        named.iter().any(|named| {
            let known = named.digest.filter(|digest| self.look.known.contains(digest));
            known.is_some_and(|digest| !current(&digest)) && !self.others(Path::new(&named.path))
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

    fn executable(&self, glimpse: &Glimpse, shown: Option<&Path>, path: Option<PathBuf>) -> Executable {
        let (Some(shown), Some(path)) = (shown, path) else {
            let mapped = Mapped {
                path: "(not permitted to read)".into(),
                digest: None,
                release: None,
                place: Place::Outside,
                link: LinkState::Linked,
                owner: Owner::Unknown,
            };
            return Executable { shown: PathBuf::new(), path: PathBuf::new(), inode: None, mapped };
        };
        let file = File::open(glimpse.details.join("exe")).ok();
        let found = file.as_ref().and_then(|file| file.metadata().ok());
        let digest = file.as_ref().and_then(|file| self.digests.of(file).ok());
        let same = |other: fs::Metadata| found.as_ref().is_some_and(|found| is_same(found, &other));
        // A name may itself end in " (deleted)": then the file is still there under it.
        let link = match proc::without_deleted(shown) {
            Some(_) if !fs::metadata(shown).is_ok_and(same) => LinkState::Deleted,
            Some(_) | None => LinkState::Linked,
        };
        let mapped = self.describe(&path, digest, link);
        Executable { shown: shown.to_owned(), path, inode: found.map(|found| found.ino()), mapped }
    }

    /// The executable mappings of the service or of no place, and those of the distribution.
    fn mapped(
        &mut self,
        glimpse: &Glimpse,
        view: &View<'_>,
        executable: &Executable,
        mappings: &Mappings,
        parentage: Parentage,
    ) -> (Vec<Mapped>, Vec<Outside>) {
        let (mut reported, mut outside) = (Vec::new(), Vec::new());
        for mapping in &mappings.files {
            if mapping.shown == executable.shown && executable.inode.is_none_or(|inode| inode == mapping.inode.number) {
                continue;
            }
            let (_, deleted) = mapping.path();
            let path = located(view, mapping);
            let ours = deleted || self.is_ours(&path);
            // The distribution's libraries are read where the whole machine is searched for known files, and where the
            // service itself runs them.
            let read = ours || self.watch.scope == Scope::Machine || parentage == Parentage::Supervised;
            let digest = if read { self.digest(glimpse, mapping) } else { None };
            let link = if deleted { LinkState::Deleted } else { LinkState::Linked };
            let described = self.describe(&path, digest, link);
            if described.place == Place::Outside {
                let pid = glimpse.stat.identity.pid;
                outside.push(Outside { mapped: described.clone(), bytes: Bytes::Mapped(pid, mapping.clone()) });
            }
            if ours || digest.is_some_and(|digest| self.look.known.contains(&digest)) {
                reported.push(described);
            }
        }
        (reported, outside)
    }

    /// The files of releases that are open for reading or mapped without being executed, and how many descriptors were
    /// not looked at.
    fn open(
        &mut self,
        glimpse: &Glimpse,
        view: &View<'_>,
        mappings: &Mappings,
        named: &[Mapped],
    ) -> (Vec<Mapped>, u32) {
        // Whoever shows no descriptors shows no executable either, and that is said there.
        let Descriptors { found, omitted } = descriptors(&glimpse.details).unwrap_or_default();
        let mut open: Vec<Mapped> = Vec::new();
        for descriptor in found {
            let (kept, deleted) = match proc::without_deleted(&descriptor.shown) {
                Some(kept) if fs::symlink_metadata(&descriptor.shown).is_err() => (kept, true),
                Some(_) | None => (descriptor.shown.clone(), false),
            };
            let is_it = |here: &fs::Metadata| fs::metadata(&descriptor.link).is_ok_and(|open| is_same(&open, here));
            let path = view.here(&kept, is_it);
            let is_named = || named.iter().any(|named| Path::new(&named.path) == path);
            if !(self.release_of(&path).is_some() || is_named()) || !descriptor.is_read_only() {
                continue;
            }
            let digest = File::open(&descriptor.link).ok().and_then(|file| self.digests.of(&file).ok());
            let link = if deleted { LinkState::Deleted } else { LinkState::Linked };
            open.push(self.describe(&path, digest, link));
        }
        for mapping in &mappings.read {
            let (_, deleted) = mapping.path();
            let path = located(view, mapping);
            if self.release_of(&path).is_some() {
                let digest = self.digest(glimpse, mapping);
                let link = if deleted { LinkState::Deleted } else { LinkState::Linked };
                open.push(self.describe(&path, digest, link));
            }
        }
        open.sort_by(|a, b| (&a.path, a.digest).cmp(&(&b.path, b.digest)));
        open.dedup();
        (open, omitted)
    }

    /// The files that an interpreter's command line names and that are a release's: by their place, or by their bytes.
    fn named(&self, glimpse: &Glimpse, view: &View<'_>) -> Vec<Mapped> {
        let mut named = Vec::new();
        for Named { path, file } in interpreter::named(&glimpse.details) {
            let found = file.as_ref().and_then(|file| file.metadata().ok());
            let path = view.here(&path, |here| found.as_ref().is_some_and(|found| is_same(found, here)));
            // `current` and other links lead to a release; what is open shows which, and is compared by digest.
            let path =
                if path.starts_with(self.lineage.root()) { fs::canonicalize(&path).unwrap_or(path) } else { path };
            let digest = file.and_then(|file| self.digests.of(&file).ok());
            let known = digest.is_some_and(|digest| self.look.known.contains(&digest));
            // What is not there any more may still be open: kept until that is known.
            if known || self.release_of(&path).is_some() || found.is_none() {
                let link = if found.is_some() { LinkState::Linked } else { LinkState::Deleted };
                named.push(self.describe(&path, digest, link));
            }
        }
        named
    }

    /// As many as are told: those first that the held release does not have.
    fn limited(&self, mut files: Vec<Mapped>) -> Vec<Mapped> {
        let held = self.look.held.map(|(_, manifest)| manifest);
        files.sort_by_key(|file| {
            file.digest.is_some_and(|digest| held.is_some_and(|manifest| manifest.has_digest(&digest)))
        });
        files.truncate(MOST_FILES);
        files
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

    fn describe(&self, path: &Path, digest: Option<Digest>, link: LinkState) -> Mapped {
        let place = if self.is_ours(path) { Place::Inside } else { Place::Outside };
        Mapped {
            path: path.to_string_lossy().into_owned(),
            digest,
            release: self.release_of(path),
            place,
            link,
            owner: Owner::Unknown,
        }
    }

    /// Whether a file is to be held against the manifest: it lies below the service's root, or has no place of its own
    /// (code in a memfd), or one that cannot be told.
    fn is_ours(&self, path: &Path) -> bool {
        let in_memory = path.as_os_str().as_encoded_bytes().starts_with(b"/memfd:");
        in_memory || view::is_unplaced(path) || path.starts_with(self.lineage.root())
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

/// The named files that are there or open; what is open under a name that is gone gives it its digest.
fn with_open(named: Vec<Mapped>, open: &[Mapped]) -> Vec<Mapped> {
    let with_digest = |file: Mapped| match file.digest {
        Some(_) => Some(file),
        None => open.iter().find(|open| open.path == file.path).map(|open| Mapped { digest: open.digest, ..file }),
    };
    named.into_iter().filter_map(with_digest).collect()
}

/// What a mapped file is called here, without the mark of deletion.
fn located(view: &View<'_>, mapping: &Mapping) -> PathBuf {
    view.here(&mapping.path().0, |here| mapping.inode.is_of(here))
}

/// Whether the process may not be looked into.
fn is_hidden(glimpse: &Glimpse) -> bool {
    let refused = |cause: io::Error| cause.kind() == io::ErrorKind::PermissionDenied;
    fs::read_link(glimpse.details.join("exe")).is_err_and(refused)
}
