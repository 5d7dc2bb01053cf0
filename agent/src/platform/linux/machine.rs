//! What the agent asks of the operating system that concerns no service: free space, its own rights, its own end.
//! Processes of services are `platform`'s.

use std::io;
use std::path::Path;

use fleet::Millis;

/// Bytes that this process may still write below `path`, which must exist.
///
/// # Errors
/// The system's answer.
pub fn free_space(path: &Path) -> io::Result<u64> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    // The field types differ between platforms; u64 holds each of them.
    #[allow(clippy::useless_conversion)]
    Ok(u64::from(stat.blocks_available()).saturating_mul(u64::from(stat.fragment_size())))
}

/// Lets two paths of one file system change places, both at once.
///
/// # Errors
/// The system's answer; either both have changed places or none has.
pub fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    Ok(renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE)?)
}

/// How long this machine has been up, suspended time included: the clock by which processes have their ages.
pub fn up() -> Millis {
    use nix::time::{ClockId, clock_gettime};
    let Ok(since_boot) = clock_gettime(ClockId::CLOCK_BOOTTIME) else { return Millis(0) };
    let seconds = u64::try_from(since_boot.tv_sec()).unwrap_or(0);
    Millis(seconds.saturating_mul(1_000) + u64::try_from(since_boot.tv_nsec()).unwrap_or(0) / 1_000_000)
}

/// Whether this process has root's rights.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether a user of this name exists.
pub fn user_exists(name: &str) -> bool {
    matches!(nix::unistd::User::from_name(name), Ok(Some(_)))
}

/// The name of this machine, without the domain's trailing dot.
pub fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/etc/hostname").ok()?;
    let name = name.trim().trim_end_matches('.');
    (!name.is_empty()).then(|| name.to_owned())
}

/// Ends this process as `kill -9` does: nothing is flushed, nothing is told to anybody.
#[cfg(debug_assertions)]
pub fn die() -> ! {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
    std::process::abort()
}
