//! Reading every file of what is held again in good time, because looks can deceive: a page that was mapped and already
//! dirty when it was read changes without a new change time, and root sets any clock. One file after the other, at the
//! lowest priority for processor and disk, within a share of one core. What differs is marked, and the next look sees it.

use std::hash::BuildHasher;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::watch;

use super::reading::{self, Content, Job};
use super::tree::{Print, Tree, Trust, Wanted};
use super::trees::{HeldTree, Slot, Trees, lock};
use super::{boot_clock, digests, verity};

/// A file that was read soon after it was changed is read once more after this: the kernel writes dirty pages back within
/// 30 s and looks for them every 5 s, and a page that was written back is told of again when it is written to.
const READ_AGAIN_AFTER_NANOS: i64 = 60_000_000_000;

/// The thread ends when this is dropped.
#[derive(Debug)]
pub(super) struct Rehash {
    _stop: OwnedFd,
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Going {
    On,
    Stopped,
}

impl Rehash {
    /// # Errors
    /// No pipe or no thread is to be had.
    pub(super) fn begin(trees: Arc<Trees>, notice: watch::Sender<u64>) -> std::io::Result<Self> {
        let (stopped, stop) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let work = move || {
            step_back();
            let look_every = trees.pace().rehash_look_every.to_std();
            let mut reader =
                SlowReader { trees: &trees, notice: &notice, stopped: &stopped, buffer: digests::buffer() };
            while reader.round() == Going::On && reader.pause(look_every) == Going::On {}
        };
        std::thread::Builder::new().name("rehash".to_owned()).stack_size(256 << 10).spawn(work)?;
        Ok(Self { _stop: stop })
    }
}

struct SlowReader<'a> {
    trees: &'a Trees,
    notice: &'a watch::Sender<u64>,
    stopped: &'a OwnedFd,
    buffer: Vec<u8>,
}

impl SlowReader<'_> {
    fn round(&mut self) -> Going {
        for slot in self.trees.slots() {
            let Some((number, due)) = self.due(&slot) else { continue };
            let began = boot_clock::now();
            let everything = due.everything;
            for job in due.jobs {
                if self.read_again(&slot, number, job) == Going::Stopped {
                    return Going::Stopped;
                }
            }
            if everything && let Some(held) = lock(&slot).as_mut().filter(|held| held.number == number) {
                held.tree.hashed = Some(began);
            }
        }
        Going::On
    }

    fn due(&self, slot: &Slot) -> Option<(u64, Due)> {
        let mut slot = lock(slot);
        let held = slot.as_mut()?;
        let pace = self.trees.pace().rehash_every.0;
        // Not all nodes of a fleet at once, nor all services of a node: between three quarters and all of the time.
        let spread = std::hash::RandomState::new().hash_one(held.number) % (pace / 4).max(1);
        let since = held.tree.hashed.map_or(u64::MAX, |hashed| boot_clock::since(hashed).0);
        let odd = std::mem::take(&mut held.tree.odd);
        let due = if odd || since >= pace - spread { Due::everything(&held.tree) } else { Due::young(&held.tree) };
        // A release without files is read in no time, but it is read.
        (due.everything || !due.jobs.is_empty()).then_some((held.number, due))
    }

    /// Opened under the lock and read without it, so that no look waits.
    fn read_again(&mut self, slot: &Slot, number: u64, job: Job) -> Going {
        let opened = lock(slot).as_ref().filter(|held| held.number == number).map(|held| open(held, job));
        let Some(opened) = opened else { return Going::On };
        let mut going = Going::On;
        let content = match opened {
            // It was read when it looked like this, and nobody can change it.
            Ok((file, Trust::Settled(print))) if verity::is_sealed(&file) && looks(&file) == Some(print) => {
                return going;
            }
            Ok((file, _)) => {
                let (stopped, percent) = (self.stopped, self.trees.pace().cpu_percent);
                let mut used = boot_clock::thread_nanos();
                let mut rest = || {
                    let now = boot_clock::thread_nanos();
                    let share = u64::from(percent.clamp(1, 100));
                    let pause = now.saturating_sub(used).saturating_mul(100 - share) / share;
                    used = now;
                    going = wait(stopped, Duration::from_nanos(pause));
                    if going == Going::Stopped { Err(std::io::Error::other("the agent stops")) } else { Ok(()) }
                };
                reading::content(&file, &mut self.buffer, &mut rest)
            }
            Err(refused) => Err(refused),
        };
        if going == Going::Stopped {
            return Going::Stopped;
        }
        if let Some(held) = lock(slot).as_mut().filter(|held| held.number == number) {
            self.learn(
                held,
                job,
                content.map_or_else(|e| Content::Refused(e.to_string()), |(d, t)| Content::Read(d, t)),
            );
        }
        going
    }

    fn learn(&self, held: &mut HeldTree, job: Job, content: Content) {
        let leaf = &mut held.tree.leaves[job.leaf as usize];
        // What differs or cannot be read by now was, if it is known to be so, said already.
        if leaf.trust == Trust::Nothing {
            return;
        }
        match (content, leaf.wanted) {
            (Content::Read(now, trust), Wanted::File { digest, .. }) if now == digest => leaf.trust = trust,
            (Content::Read(..) | Content::Refused(_), Wanted::File { .. }) => {
                leaf.trust = Trust::Nothing;
                self.trees.mark(held, job);
                self.notice.send_modify(|count| *count += 1);
            }
            (_, Wanted::Link(_)) => {}
        }
    }

    fn pause(&self, time: Duration) -> Going {
        wait(self.stopped, time)
    }
}

/// What is to be read.
struct Due {
    jobs: Vec<Job>,
    everything: bool,
}

impl Due {
    fn everything(tree: &Tree) -> Self {
        Self { jobs: jobs(tree, |_| true), everything: true }
    }

    /// What was read too soon after it was changed, and has lain there since.
    fn young(tree: &Tree) -> Self {
        let now = boot_clock::wall_nanos();
        let is_due = |trust: Trust| match trust {
            Trust::Fresh(print) => now.saturating_sub(print.changed()) >= READ_AGAIN_AFTER_NANOS,
            Trust::Settled(_) | Trust::Nothing => false,
        };
        Self { jobs: jobs(tree, is_due), everything: false }
    }
}

fn jobs(tree: &Tree, is_due: impl Fn(Trust) -> bool) -> Vec<Job> {
    let mut jobs = Vec::new();
    for (folder, known) in (0..).zip(&tree.folders) {
        for leaf in known.leaves.clone() {
            let its = &tree.leaves[leaf as usize];
            if matches!(its.wanted, Wanted::File { .. }) && is_due(its.trust) {
                jobs.push(Job { folder, leaf });
            }
        }
    }
    jobs
}

fn open(held: &HeldTree, job: Job) -> std::io::Result<(std::fs::File, Trust)> {
    let top = reading::open_release(&held.root, &held.tree.release)?;
    let file = reading::open_leaf(&held.tree, top.as_fd(), job)?;
    Ok((file, held.tree.leaves[job.leaf as usize].trust))
}

fn looks(file: &std::fs::File) -> Option<Print> {
    rustix::fs::fstat(file).ok().map(|found| Print::of(&found))
}

/// Waits, and is woken only by the end of the thread.
fn wait(stopped: &OwnedFd, time: Duration) -> Going {
    let mut end = [PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
    if poll(&mut end, timeout).is_ok_and(|ready| ready > 0) { Going::Stopped } else { Going::On }
}

/// Gives this thread the lowest priority: it reads when nobody else wants to.
fn step_back() {
    if let Err(refused) = rustix::process::setpriority_process(None, 19) {
        tracing::debug!("reading in the background keeps its priority: {refused}");
    }
    /// `IOPRIO_WHO_PROCESS` and `IOPRIO_CLASS_IDLE << IOPRIO_CLASS_SHIFT` of include/uapi/linux/ioprio.h.
    const THIS_THREAD: (i32, i32) = (1, 0);
    const IDLE: i32 = 3 << 13;
    // SAFETY: the call takes three integers and touches no memory of this process.
    #[allow(unsafe_code)]
    let refused = unsafe { nix::libc::syscall(nix::libc::SYS_ioprio_set, THIS_THREAD.0, THIS_THREAD.1, IDLE) } != 0;
    if refused {
        tracing::debug!("reading in the background keeps its priority for disks: {}", std::io::Error::last_os_error());
    }
}
