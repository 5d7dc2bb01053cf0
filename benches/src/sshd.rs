//! An OpenSSH server on loopback with keys and configuration of its own, for the peer's second form. Whether OpenSSH is
//! installed is asked here; nothing of the user's or the machine's SSH configuration is read or changed.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::ansible::{Connection, Host};
use crate::{interrupt, process};

/// Keys are made and the server is up in less.
const LIMIT: Duration = Duration::from_secs(20);

/// A server that is stopped when it is dropped.
#[derive(Debug)]
pub struct Sshd {
    child: Child,
    log: PathBuf,
    /// The directory that was made for it outside of its own.
    made: Option<&'static Path>,
    /// How to reach it.
    pub connection: Connection,
}

impl Sshd {
    /// The end of its log.
    pub fn said(&self) -> String {
        process::tail(&self.log)
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // Sessions and connection masters are ended with all other descendants.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(made) = self.made {
            // Somebody else's server may use it meanwhile; then it is not empty, or that server's start made it again.
            let _ = fs::remove_dir(made);
        }
    }
}

/// Where OpenSSH's server is: outside of PATH for an ordinary user.
pub fn program() -> Option<PathBuf> {
    let usual = ["/usr/sbin/sshd", "/usr/local/sbin/sshd"].map(PathBuf::from);
    usual.into_iter().find(|path| path.is_file()).or_else(|| process::find("sshd"))
}

/// `sshd_config` for these hosts.
pub fn config(dir: &Path, hosts: &[Host], port: u16, sftp: Option<&Path>) -> String {
    let dir = dir.display();
    let listen: String = hosts.iter().map(|host| format!("ListenAddress {}:{port}\n", host.address())).collect();
    // Without sftp Ansible is a quarter slower.
    let sftp = sftp.map(|path| format!("Subsystem sftp {}\n", path.display())).unwrap_or_default();
    format!(
        "{listen}HostKey {dir}/host_key
AuthorizedKeysFile {dir}/authorized_keys
PidFile none
StrictModes no
UsePAM no
UseDNS no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
MaxSessions 100
{sftp}"
    )
}

/// Starts it and waits until it listens.
///
/// # Errors
/// A key cannot be made, or the server ends or does not listen in time.
pub fn start(sshd: &Path, dir: &Path, hosts: &[Host], port: u16) -> anyhow::Result<Sshd> {
    fs::DirBuilder::new().mode(0o700).create(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let keygen = process::find("ssh-keygen").context("ssh-keygen is not on PATH")?;
    process::find("ssh").context("ssh is not on PATH")?;
    for name in ["host_key", "user_key"] {
        let mut command = Command::new(&keygen);
        command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(dir.join(name));
        process::succeed(&mut command, &dir.join("keygen.log"), LIMIT)?;
    }
    let write = |name: &str, text: &str| {
        let path = dir.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    write("authorized_keys", &fs::read_to_string(dir.join("user_key.pub"))?)?;
    let public = fs::read_to_string(dir.join("host_key.pub"))?;
    let known: String = hosts.iter().map(|host| format!("[{}]:{port} {public}", host.address())).collect();
    write("known_hosts", &known)?;
    let prefix = sshd.parent().and_then(Path::parent).unwrap_or(Path::new("/usr"));
    let sftp = ["lib/openssh/sftp-server", "libexec/openssh/sftp-server", "libexec/sftp-server"];
    let sftp = sftp.map(|place| prefix.join(place)).into_iter().find(|path| path.is_file());
    write("sshd_config", &config(dir, hosts, port, sftp.as_deref()))?;
    let made = empty_directory()?;
    let log = dir.join("sshd.log");
    let mut command = Command::new(sshd);
    command.args(["-D", "-f"]).arg(dir.join("sshd_config")).arg("-E").arg(&log);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().with_context(|| format!("cannot start {}", sshd.display()))?;
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten().context("who am I?")?.name;
    let connection = Connection::Ssh { port, key: dir.join("user_key"), known_hosts: dir.join("known_hosts"), user };
    let mut sshd = Sshd { child, log, made, connection };
    let until = Instant::now() + LIMIT;
    while !hosts.iter().all(|host| TcpStream::connect((host.address(), port)).is_ok()) {
        interrupt::check()?;
        if sshd.child.try_wait().is_ok_and(|ended| ended.is_some()) || Instant::now() >= until {
            bail!("sshd does not listen: {}", sshd.said());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(sshd)
}

/// A root's sshd insists on its empty directory, which a package whose service never ran has not made.
fn empty_directory() -> anyhow::Result<Option<&'static Path>> {
    let place = Path::new("/run/sshd");
    if !nix::unistd::geteuid().is_root() || place.is_dir() {
        return Ok(None);
    }
    fs::DirBuilder::new().mode(0o755).create(place).context("cannot make /run/sshd, which sshd wants")?;
    Ok(Some(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_listens_on_loopback_only_and_takes_one_key_only() {
        let hosts: Vec<Host> = (1..=2).map(|n| Host { number: n, root: "/t".into(), port: 1 }).collect();
        let text = config(Path::new("/t/ssh"), &hosts, 22_000, Some(Path::new("/x/sftp-server")));
        let listen: Vec<&str> = text.lines().filter(|line| line.starts_with("ListenAddress")).collect();
        assert_eq!(listen, ["ListenAddress 127.0.0.1:22000", "ListenAddress 127.0.0.2:22000"]);
        for line in [
            "PasswordAuthentication no",
            "AuthorizedKeysFile /t/ssh/authorized_keys",
            "HostKey /t/ssh/host_key",
            "Subsystem sftp /x/sftp-server",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!config(Path::new("/t"), &hosts, 1, None).contains("Subsystem"));
    }
}
