//! A thread that waits for what the kernel tells of files and of programs that begin, and says that something was told.
//! What it was is taken in by the next look.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::watch;

use super::programs::{Began, Programs};
use super::watch::{Told, Watches};

/// Whoever copies a tree makes thousands of changes; this much of them makes one look.
const TOGETHER: Duration = Duration::from_millis(10);
/// Beginnings of programs that are told at once after a while without any. A machine that starts programs all day must
/// not have its agent look all day: beyond this they are told once in so long a time, and its rounds find the rest.
const PROGRAMS: Pace = Pace { at_once: 16, refill: Duration::from_millis(500) };
/// The same of interpreters, which begin far more often and are far less often old code.
const INTERPRETERS: Pace = Pace { at_once: 4, refill: Duration::from_secs(5) };

/// The thread ends when this is dropped.
#[derive(Debug)]
pub(super) struct Ears {
    _stop: OwnedFd,
}

impl Ears {
    /// # Errors
    /// No pipe or no thread is to be had.
    pub(super) fn open(
        watches: Option<Arc<Watches>>,
        programs: Option<Programs>,
        notice: watch::Sender<u64>,
    ) -> std::io::Result<Self> {
        let (stopped, stop) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let patience = |pace| Patience::new(pace, Instant::now());
        let (programs_heard, interpreters_heard) = (patience(PROGRAMS), patience(INTERPRETERS));
        let listener = Listener { watches, programs, programs_heard, interpreters_heard };
        std::thread::Builder::new().name("ears".to_owned()).stack_size(256 << 10).spawn(move || {
            listener.hear(&stopped, &notice);
        })?;
        Ok(Self { _stop: stop })
    }
}

struct Listener {
    watches: Option<Arc<Watches>>,
    programs: Option<Programs>,
    programs_heard: Patience,
    interpreters_heard: Patience,
}

impl Listener {
    fn hear(mut self, stopped: &OwnedFd, notice: &watch::Sender<u64>) {
        loop {
            // While nobody wants to hear of programs the kernel keeps, or drops, what it would tell of them.
            let pause = self.programs_heard.pause(Instant::now());
            let programs = self.programs.as_ref().filter(|_| pause.is_none());
            let sources =
                [self.watches.as_ref().map(|watches| watches.descriptor()), programs.map(Programs::descriptor)];
            let timeout = pause.filter(|_| self.programs.is_some());
            match wait(stopped, sources.into_iter().flatten(), timeout) {
                Ok(Waited::Stopped) => return,
                Ok(Waited::Out) => continue,
                Ok(Waited::Told) => {}
                Err(refused) => return tracing::error!("what the kernel tells cannot be waited for: {refused}"),
            }
            let first = self.files();
            let began = if pause.is_none() { self.began() } else { Began::Nothing };
            // The end of this wait is either its time or the end of the thread: nothing that is told can be missed by it.
            if matches!(wait(stopped, [], Some(TOGETHER)), Ok(Waited::Stopped)) {
                return;
            }
            let began = if pause.is_none() { began.max(self.began()) } else { began };
            let program = match began {
                Began::Nothing => false,
                Began::Interpreter => self.interpreters_heard.hears(Instant::now()),
                Began::Program => self.programs_heard.hears(Instant::now()),
            };
            if first == Told::Something || self.files() == Told::Something || program {
                notice.send_modify(|count| *count += 1);
            }
        }
    }

    fn files(&self) -> Told {
        self.watches.as_ref().map_or(Told::Nothing, |watches| watches.listen())
    }

    fn began(&self) -> Began {
        self.programs.as_ref().map_or(Began::Nothing, Programs::listen)
    }
}

enum Waited {
    Stopped,
    Told,
    Out,
}

fn wait<'a>(
    stopped: &'a OwnedFd,
    sources: impl IntoIterator<Item = BorrowedFd<'a>>,
    time: Option<Duration>,
) -> Result<Waited, Errno> {
    let wanted = |fd| PollFd::new(fd, PollFlags::POLLIN);
    let mut all: Vec<PollFd<'_>> = std::iter::once(stopped.as_fd()).chain(sources).map(wanted).collect();
    let timeout = time.map_or(PollTimeout::NONE, |time| PollTimeout::try_from(time).unwrap_or(PollTimeout::ZERO));
    let ready = match poll(&mut all, timeout) {
        Ok(ready) => ready,
        Err(Errno::EINTR) => return Ok(Waited::Out),
        Err(refused) => return Err(refused),
    };
    Ok(match ready {
        _ if all[0].any().unwrap_or(true) => Waited::Stopped,
        0 => Waited::Out,
        _ => Waited::Told,
    })
}

/// How many at once, and after which time one more.
#[derive(Debug, Clone, Copy)]
struct Pace {
    at_once: u32,
    refill: Duration,
}

/// What is left of a pace.
#[derive(Debug, Clone, Copy)]
struct Patience {
    pace: Pace,
    left: u32,
    refilled: Instant,
}

impl Patience {
    fn new(pace: Pace, now: Instant) -> Self {
        Self { pace, left: pace.at_once, refilled: now }
    }

    /// How long nothing is heard from now on, if so.
    fn pause(&mut self, now: Instant) -> Option<Duration> {
        let passed = now.saturating_duration_since(self.refilled);
        let more = u32::try_from(passed.as_nanos() / self.pace.refill.as_nanos()).unwrap_or(u32::MAX);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(self.pace.at_once);
            self.refilled = now;
        }
        let rest = self.pace.refill.saturating_sub(now.saturating_duration_since(self.refilled));
        (self.left == 0).then_some(rest)
    }

    /// Whether one more is heard.
    fn hears(&mut self, now: Instant) -> bool {
        let hears = self.pause(now).is_none();
        self.left = self.left.saturating_sub(1);
        hears
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_heard_at_once_and_a_storm_now_and_then() {
        let begin = Instant::now();
        let mut patience = Patience::new(PROGRAMS, begin);
        // Ten a second for a minute, of which two a second are heard.
        let heard = (0..600).filter(|tenth| patience.hears(begin + Duration::from_millis(100 * tenth))).count();
        assert!((125..=137).contains(&heard), "{heard}");
        let pause = patience.pause(begin + Duration::from_secs(60));
        assert!(pause.is_none_or(|pause| pause <= PROGRAMS.refill));
        // Quiet for long: all of them again, and no more.
        let later = begin + Duration::from_secs(3_600);
        assert!((0..PROGRAMS.at_once).all(|_| patience.hears(later)));
        assert!(!patience.hears(later));
    }
}
