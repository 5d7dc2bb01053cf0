//! A thread that waits for what the kernel tells of files and of programs that begin, and says that something was told.
//! What it was is taken in by the next look.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::watch;

use super::programs::Programs;
use super::watch::{Told, Watches};

/// Whoever copies a tree makes thousands of changes; this much of them makes one look.
const TOGETHER: Duration = Duration::from_millis(10);
/// Beginnings of programs that are told at once after a while without any. A machine that starts programs all day must
/// not have its agent look all day: beyond this it is told once in [`REFILL`], and its rounds find the rest.
const AT_ONCE: u32 = 16;
const REFILL: Duration = Duration::from_millis(500);

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
        let listener = Listener { watches, programs, patience: Patience::new(Instant::now()) };
        std::thread::Builder::new().name("ears".to_owned()).stack_size(256 << 10).spawn(move || {
            listener.hear(&stopped, &notice);
        })?;
        Ok(Self { _stop: stop })
    }
}

struct Listener {
    watches: Option<Arc<Watches>>,
    programs: Option<Programs>,
    patience: Patience,
}

impl Listener {
    fn hear(mut self, stopped: &OwnedFd, notice: &watch::Sender<u64>) {
        loop {
            // While nobody wants to hear of programs the kernel keeps, or drops, what it would tell of them.
            let (hears, until) = self.patience.hears(Instant::now());
            let programs = self.programs.as_ref().filter(|_| hears);
            let sources =
                [self.watches.as_ref().map(|watches| watches.descriptor()), programs.map(Programs::descriptor)];
            let timeout = until.filter(|_| self.programs.is_some() && !hears);
            match wait(stopped, sources.into_iter().flatten(), timeout) {
                Ok(Waited::Stopped) => return,
                Ok(Waited::Out) => continue,
                Ok(Waited::Told) => {}
                Err(refused) => return tracing::error!("what the kernel tells cannot be waited for: {refused}"),
            }
            let first = self.files();
            let began = if hears { self.began() } else { Told::Nothing };
            // The end of this wait is either its time or the end of the thread: nothing that is told can be missed by it.
            if matches!(wait(stopped, [], Some(TOGETHER)), Ok(Waited::Stopped)) {
                return;
            }
            let second = if hears { self.began() } else { Told::Nothing };
            let programs = [began, second].contains(&Told::Something);
            if programs {
                self.patience.was_told();
            }
            if programs || first == Told::Something || self.files() == Told::Something {
                notice.send_modify(|count| *count += 1);
            }
        }
    }

    fn files(&self) -> Told {
        self.watches.as_ref().map_or(Told::Nothing, |watches| watches.listen())
    }

    fn began(&self) -> Told {
        self.programs.as_ref().map_or(Told::Nothing, Programs::listen)
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

/// How often it is said that a program began: at once a few times, then no more often than once in a while.
#[derive(Debug, Clone, Copy)]
struct Patience {
    left: u32,
    refilled: Instant,
}

impl Patience {
    fn new(now: Instant) -> Self {
        Self { left: AT_ONCE, refilled: now }
    }

    /// Whether it is wanted to be heard, and if not, how long not.
    fn hears(&mut self, now: Instant) -> (bool, Option<Duration>) {
        let passed = now.saturating_duration_since(self.refilled);
        let more = u32::try_from(passed.as_nanos() / REFILL.as_nanos()).unwrap_or(u32::MAX);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(AT_ONCE);
            self.refilled = now;
        }
        let until = REFILL.saturating_sub(now.saturating_duration_since(self.refilled));
        if self.left > 0 { (true, None) } else { (false, Some(until)) }
    }

    fn was_told(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_heard_at_once_and_a_storm_twice_a_second() {
        let begin = Instant::now();
        let mut patience = Patience::new(begin);
        let mut heard = 0;
        // Ten a second for a minute.
        for tenth in 0..600 {
            if patience.hears(begin + Duration::from_millis(100 * tenth)).0 {
                patience.was_told();
                heard += 1;
            }
        }
        assert!((AT_ONCE + 110..=AT_ONCE + 121).contains(&heard), "{heard}");
        let (hears, until) = patience.hears(begin + Duration::from_secs(60));
        assert!(hears || until.is_some_and(|until| until <= REFILL));
        // Quiet for long: all of them again, and no more.
        let later = begin + Duration::from_secs(3_600);
        for _ in 0..AT_ONCE {
            assert!(patience.hears(later).0);
            patience.was_told();
        }
        assert!(!patience.hears(later).0);
    }
}
