//! Starting a main process: its own session, nothing inherited from the agent but what is named here. That exec
//! itself failed is known to the caller, because std reports it through a pipe that exec closes.

use std::ffi::{CString, OsStr};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::SigSet;
use nix::unistd::{Gid, Uid, User, getgrouplist, setgid, setgroups, setsid, setuid};

use super::proc::{MARK_ATTEMPT, MARK_DEPLOYMENT, MARK_ERRAND, MARK_RELEASE, MARK_ROOT};
use crate::platform::{Errand, Launch, ProcessError};

/// Where a program is looked for when the environment of the service has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What reads the command line of an errand.
pub(super) const SHELL: &str = "/bin/sh";

/// Who a process becomes before it executes its program.
struct Person {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

/// The command that starts `launch`, ready to be spawned.
///
/// # Errors
/// The release, the program, the log or the user is not there or may not be used.
pub(super) fn command(launch: &Launch) -> Result<Command, ProcessError> {
    let written = launch.command.first().map(String::as_str).unwrap_or_default();
    let refuse = |reason: String| ProcessError::Start { program: written.to_owned(), reason };
    if written.is_empty() {
        return Err(refuse("the command of the service is empty; name a program".into()));
    }
    let directory = launch.place.release(&launch.release);
    if !directory.is_dir() {
        return Err(refuse(format!(
            "the release's directory {} is missing; fetch the release again",
            directory.display()
        )));
    }
    let program = find(written, &directory, launch.environment.get("PATH").map(String::as_str)).map_err(refuse)?;
    let person = launch.user.as_deref().map(person).transpose().map_err(refuse)?.flatten();
    let log = open_log(&launch.log)
        .map_err(|cause| refuse(format!("its log {} cannot be opened: {cause}", launch.log.display())))?;
    let errors = log.try_clone().map_err(|cause| refuse(format!("its log cannot be used twice: {cause}")))?;

    let mut command = Command::new(program);
    command.args(&launch.command[1..]).current_dir(&directory);
    command.env_clear().envs(&launch.environment);
    command.env(MARK_ROOT, &launch.place.root).env(MARK_RELEASE, launch.release.as_str());
    command.stdin(Stdio::null()).stdout(log).stderr(errors);
    leave_the_agent(&mut command, person);
    Ok(command)
}

/// The shell that runs `errand`, ready to be spawned. It carries its own mark and not the service's, so that it is
/// neither stopped with the service nor taken for it.
///
/// # Errors
/// The release, the output or the user is not there or may not be used.
pub(super) fn errand(errand: &Errand) -> Result<Command, ProcessError> {
    let refuse = |reason: String| ProcessError::Start { program: SHELL.to_owned(), reason };
    let directory = errand.place.release(&errand.release);
    if !directory.is_dir() {
        return Err(refuse(format!("the release's directory {} is missing", directory.display())));
    }
    let person = errand.user.as_deref().map(person).transpose().map_err(refuse)?.flatten();
    let output = open_log(&errand.output)
        .map_err(|cause| refuse(format!("its output {} cannot be opened: {cause}", errand.output.display())))?;
    let errors = output.try_clone().map_err(|cause| refuse(format!("its output cannot be used twice: {cause}")))?;
    let mut command = Command::new(SHELL);
    command.arg("-c").arg(&errand.command).current_dir(&directory);
    command.env_clear().envs(&errand.environment).env_remove(MARK_ROOT);
    command.env(MARK_DEPLOYMENT, errand.deployment.to_string()).env(MARK_ATTEMPT, errand.attempt.to_string());
    command.env(MARK_ERRAND, &errand.name).env(MARK_RELEASE, errand.release.as_str());
    command.stdin(Stdio::null()).stdout(output).stderr(errors);
    leave_the_agent(&mut command, person);
    Ok(command)
}

/// What exec's error means to the person who has to act on it.
pub(super) fn explain(cause: &io::Error, launch: &Launch) -> ProcessError {
    let program = launch.command.first().cloned().unwrap_or_default();
    let reason = match cause.raw_os_error() {
        Some(nix::libc::ENOENT) => "it names an interpreter or loader that is not on this machine; check its first line, or build it for this machine".to_owned(),
        Some(nix::libc::EACCES) => "it may not be executed: check its mode, the directories above it, the user, and whether the disk is mounted noexec".to_owned(),
        Some(nix::libc::ENOEXEC) => "it is not a program for this machine: check the architecture, or add a first line that names its interpreter".to_owned(),
        Some(nix::libc::ETXTBSY) => "it is still open for writing; another program writes into the release".to_owned(),
        _ => cause.to_string(),
    };
    ProcessError::Start { program, reason }
}

/// A program with '/' or that lies in the release is the release's; others are looked for in PATH.
fn find(written: &str, release: &Path, path: Option<&str>) -> Result<PathBuf, String> {
    let own = release.join(written);
    if own.is_file() {
        return Ok(own);
    }
    if written.contains('/') {
        return Err(format!("{} is not a file; check `command` against the files of the release", own.display()));
    }
    let path = path.unwrap_or(DEFAULT_PATH);
    let executable =
        |file: &PathBuf| file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    let mut found = std::env::split_paths(OsStr::new(path))
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(written));
    found
        .find(executable)
        .ok_or_else(|| format!("it is neither in the release nor in PATH ({path}); install it on the node or ship it"))
}

/// The log is the agent's file: never a link, a FIFO or a device that somebody put there.
fn open_log(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    // O_NONBLOCK only so that opening a FIFO returns; on a regular file it changes nothing.
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = OpenOptions::new().append(true).create(true).mode(0o640).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file; remove it"));
    }
    Ok(file)
}

/// Who `name` is; None when the agent is that user already.
fn person(name: &str) -> Result<Option<Person>, String> {
    let user = User::from_name(name).map_err(|cause| format!("looking up user {name}: {cause}"))?;
    let user = user.ok_or_else(|| format!("user {name} does not exist on this node; create it or change `user`"))?;
    let own = nix::unistd::geteuid();
    if user.uid == own && !own.is_root() {
        return Ok(None);
    }
    if !own.is_root() {
        return Err(format!("only an agent that runs as root can start it as user {name}; this one runs as uid {own}"));
    }
    let c_name = CString::new(name).map_err(|_| "the user's name has a NUL".to_owned())?;
    let groups =
        getgrouplist(&c_name, user.gid).map_err(|cause| format!("looking up the groups of {name}: {cause}"))?;
    Ok(Some(Person { uid: user.uid, gid: user.gid, groups }))
}

/// What the child does between fork and exec.
fn leave_the_agent(command: &mut Command, person: Option<Person>) {
    let steps = move || -> io::Result<()> {
        setsid()?;
        nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
        default_signals();
        close_the_rest();
        reset_oom_score();
        if let Some(person) = &person {
            setgroups(&person.groups)?;
            setgid(person.gid)?;
            setuid(person.uid)?;
        }
        nix::sys::prctl::set_no_new_privs()?;
        Ok(())
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed. The closure makes plain system calls
    // on values that were made before the fork; it neither allocates nor takes a lock.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(steps);
    }
}

/// Ignored signals stay ignored across exec (an agent under nohup), handlers do not; std unblocks, this resets.
fn default_signals() {
    /// Larger than the kernel's `struct sigaction` on any architecture; all zeros is the default action, no mask.
    const DEFAULT: [u64; 8] = [0; 8];
    for signal in 1..=64 {
        // SAFETY: the kernel only reads from a buffer that is large enough and constant, and the default action runs
        // no code of this process. Not through libc, which keeps the signals 32 and 33 to itself and leaves them
        // ignored. KILL and STOP refuse, as they should.
        #[allow(unsafe_code)]
        unsafe {
            nix::libc::syscall(
                nix::libc::SYS_rt_sigaction,
                signal,
                DEFAULT.as_ptr(),
                std::ptr::null_mut::<u64>(),
                8usize,
            );
        }
    }
    let _ = SigSet::empty().thread_set_mask();
}

/// Descriptors that the agent itself inherited without close-on-exec are not the service's.
fn close_the_rest() {
    const CLOSE_RANGE_CLOEXEC: nix::libc::c_uint = 4;
    // SAFETY: flags on descriptors; no memory is involved. Nothing is closed before exec, so std's pipe works on.
    #[allow(unsafe_code)]
    unsafe {
        if nix::libc::syscall(nix::libc::SYS_close_range, 3u32, u32::MAX, CLOSE_RANGE_CLOEXEC) != 0 {
            // Before Linux 5.11: one by one, as far as a usual descriptor table reaches.
            for descriptor in 3..4_096 {
                nix::libc::fcntl(descriptor, nix::libc::F_SETFD, nix::libc::FD_CLOEXEC);
            }
        }
    }
}

/// An agent that the OOM killer spares must not make its services unkillable. Refusal changes nothing of the start.
fn reset_oom_score() {
    use rustix::fs::{Mode, OFlags, open};
    if let Ok(file) = open(c"/proc/self/oom_score_adj", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
        let _ = rustix::io::write(&file, b"0");
    }
}
