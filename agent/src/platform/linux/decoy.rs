//! A process that executes a given program and never an instruction of it: it is stopped by exec itself and stays in the
//! hand of the thread that traces it. Its executable, mappings and everything else in /proc are real. It ends with that
//! thread, so with the agent, and after its time.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread::JoinHandle;

use fleet::Millis;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::proc;

/// A planted process. Dropped, it is ended and gone.
#[derive(Debug)]
pub struct Decoy {
    /// Its number.
    pub pid: u32,
    /// How long the machine was up when it began.
    pub born: Millis,
    end: Option<mpsc::Sender<()>>,
    tracer: Option<JoinHandle<()>>,
}

impl Decoy {
    /// Plants a process of `program` that stands in `directory`, for no longer than `life`. It inherits nothing: no
    /// environment, no descriptors, no terminal. Blocking, for as long as exec takes.
    ///
    /// # Errors
    /// The system's answer: the program cannot be executed, or processes may not be traced here.
    pub fn plant(program: &Path, directory: &Path, life: Millis) -> io::Result<Self> {
        let (end, ended) = mpsc::channel();
        let (planted, report) = mpsc::channel();
        let mut command = command(program, directory);
        // Only the thread that made it may trace it.
        let tracing = move || match begin(&mut command) {
            Ok(pid) => {
                let _ = planted.send(born(pid).map(|born| (pid, born)));
                // Told, dropped, or its time is up: it is the same to the process.
                let _ = ended.recv_timeout(life.to_std());
                finish(pid);
            }
            Err(cause) => drop(planted.send(Err(cause))),
        };
        let tracer = std::thread::Builder::new().name("decoy".into()).spawn(tracing)?;
        let (pid, born) = report.recv().unwrap_or_else(|_| Err(io::Error::other("its thread ended")))?;
        Ok(Self { pid: pid.as_raw().unsigned_abs(), born, end: Some(end), tracer: Some(tracer) })
    }
}

impl Drop for Decoy {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(tracer) = self.tracer.take() {
            // A panic there has been logged, and ended the process as well.
            let _ = tracer.join();
        }
    }
}

fn command(program: &Path, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg0(program.file_name().unwrap_or(OsStr::new("decoy"))).current_dir(directory).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: between fork and exec only one system call is made, which is async-signal-safe.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(|| Ok(ptrace::traceme()?));
    }
    command
}

/// Starts it; when this returns it is stopped, and its program is in place.
fn begin(command: &mut Command) -> io::Result<Pid> {
    let child = command.spawn()?;
    let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    match waitpid(pid, None)? {
        WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
        other => {
            finish(pid);
            return Err(io::Error::other(format!("it did not stop at exec: {other:?}")));
        }
    }
    if let Err(cause) = ptrace::setoptions(pid, ptrace::Options::PTRACE_O_EXITKILL) {
        finish(pid);
        return Err(cause.into());
    }
    Ok(pid)
}

fn born(pid: Pid) -> io::Result<Millis> {
    let stat = proc::stat(pid.as_raw().unsigned_abs()).ok_or_else(|| io::Error::other("it is gone already"))?;
    Ok(Millis(stat.identity.start_ticks.saturating_mul(1_000) / proc::ticks_per_second()))
}

/// Ends it and takes its end in. It is the child of this thread, so its number is still its own.
fn finish(pid: Pid) {
    let _ = nix::sys::signal::kill(pid, Signal::SIGKILL);
    loop {
        match waitpid(pid, None) {
            Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) => return,
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}
