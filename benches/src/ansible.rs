//! The peer's files: configuration, inventory and playbook. Written as an experienced user would write them, with every
//! setting that makes Ansible faster and is safe; running it is `peer`'s.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

/// The version that is measured.
pub const VERSION: &str = "2.17.14";

/// How Ansible reaches its hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connection {
    /// No connection at all: modules are started on this machine. The best case, which no real fleet has.
    Local,
    /// OpenSSH on loopback, one address per host, so that each has a connection of its own.
    Ssh {
        /// Where every sshd listens.
        port: u16,
        /// The private key.
        key: PathBuf,
        /// The servers' public key.
        known_hosts: PathBuf,
        /// Whom to log in as.
        user: String,
    },
}

/// One host: a directory and a port of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its number, from 1.
    pub number: u16,
    /// Where its files lie.
    pub root: PathBuf,
    /// Where its service listens.
    pub port: u16,
}

impl Host {
    /// Its name in the inventory.
    pub fn name(&self) -> String {
        format!("h{}", self.number)
    }

    /// Its own address; the whole of 127.0.0.0/8 is this machine.
    pub fn address(&self) -> Ipv4Addr {
        let [high, low] = self.number.to_be_bytes();
        Ipv4Addr::new(127, 0, high, low)
    }
}

/// `ansible.cfg`.
pub fn config(dir: &Path, forks: u16) -> String {
    let dir = dir.display();
    format!(
        "[defaults]
forks = {forks}
gathering = explicit
host_key_checking = True
local_tmp = {dir}/local
remote_tmp = {dir}/remote
nocows = True
retry_files_enabled = False
pipelining = True

[ssh_connection]
pipelining = True
control_path_dir = {dir}/cp
"
    )
}

/// The inventory, in YAML (a JSON string is a YAML string, so every value is quoted as one).
pub fn inventory(hosts: &[Host], connection: &Connection, python: &Path) -> String {
    let mut text = String::from("all:\n  vars:\n");
    let var = |text: &mut String, name: &str, value: &str| {
        let _ = writeln!(text, "    {name}: {}", quoted(value));
    };
    // Named, so that Ansible does not have to search for it on each host.
    var(&mut text, "ansible_python_interpreter", &python.display().to_string());
    match connection {
        Connection::Local => var(&mut text, "ansible_connection", "local"),
        Connection::Ssh { port, key, known_hosts, user } => {
            var(&mut text, "ansible_connection", "ssh");
            let _ = writeln!(text, "    ansible_port: {port}");
            var(&mut text, "ansible_user", user);
            var(&mut text, "ansible_ssh_private_key_file", &key.display().to_string());
            // No -C, unlike Ansible's default: compressing random bytes would only cost it time. The connections last
            // longer than the pauses between runs, so that each run but the first finds them open.
            let args = format!(
                "-F /dev/null -o ControlMaster=auto -o ControlPersist=600s -o IdentitiesOnly=yes -o UserKnownHostsFile={}",
                known_hosts.display()
            );
            var(&mut text, "ansible_ssh_args", &args);
        }
    }
    text.push_str("  hosts:\n");
    for host in hosts {
        let _ = writeln!(
            text,
            "    {}: {{ansible_host: {}, root: {}, service_port: {}}}",
            host.name(),
            quoted(&host.address().to_string()),
            quoted(&host.root.display().to_string()),
            host.port
        );
    }
    text
}

/// The playbook: copy, restart, wait until healthy, `serial` hosts at a time; the first failure ends it.
pub fn playbook(payload: &Path, serial: u16) -> String {
    format!(
        r#"- hosts: all
  gather_facts: false
  serial: {serial}
  any_errors_fatal: true
  tasks:
    - name: the payload
      ansible.builtin.copy:
        src: {payload}
        dest: "{{{{ root }}}}/payload.bin"
        mode: "0644"
    - name: restart
      ansible.builtin.shell:
        chdir: "{{{{ root }}}}"
        cmd: |
          if [ -s service.pid ]; then
            old=$(cat service.pid)
            kill -TERM "$old" 2>/dev/null
            while kill -0 "$old" 2>/dev/null; do sleep 0.01; done
          fi
          setsid ./bin/hello --port {{{{ service_port }}}} </dev/null >service.log 2>&1 &
          echo $! >service.pid
    - name: healthy
      ansible.builtin.uri:
        url: "http://127.0.0.1:{{{{ service_port }}}}/healthz"
        status_code: 200
      register: health
      until: health.status == 200
      retries: 300
      delay: 0.05
"#,
        payload = quoted(&payload.display().to_string())
    )
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> Vec<Host> {
        (1..=2).map(|n| Host { number: n, root: format!("/t/a \"b\"/h{n}").into(), port: 21_000 + n }).collect()
    }

    #[test]
    fn a_local_inventory_names_each_directory_and_port() {
        let text = inventory(&hosts(), &Connection::Local, Path::new("/v/bin/python"));
        assert_eq!(
            text,
            r#"all:
  vars:
    ansible_python_interpreter: "/v/bin/python"
    ansible_connection: "local"
  hosts:
    h1: {ansible_host: "127.0.0.1", root: "/t/a \"b\"/h1", service_port: 21001}
    h2: {ansible_host: "127.0.0.2", root: "/t/a \"b\"/h2", service_port: 21002}
"#
        );
    }

    #[test]
    fn over_ssh_every_host_has_an_address_and_the_server_is_known() {
        let connection =
            Connection::Ssh { port: 22_000, key: "/t/key".into(), known_hosts: "/t/known".into(), user: "me".into() };
        let text = inventory(&hosts(), &connection, Path::new("/v/bin/python"));
        for part in [
            "ansible_connection: \"ssh\"\n",
            "ansible_port: 22000\n",
            "ansible_user: \"me\"\n",
            "ansible_ssh_private_key_file: \"/t/key\"\n",
            "-o ControlPersist=600s",
            "-o UserKnownHostsFile=/t/known\"\n",
            "h2: {ansible_host: \"127.0.0.2\"",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        let far = Host { number: 300, root: "/x".into(), port: 1 };
        assert_eq!(far.address(), Ipv4Addr::new(127, 0, 1, 44));
    }

    #[test]
    fn the_playbook_moves_a_batch_at_a_time_and_keeps_ansibles_own_braces() {
        let text = playbook(Path::new("/t/payload \"1\".bin"), 2);
        for part in [
            "\n  serial: 2\n",
            "\n  any_errors_fatal: true\n",
            "src: \"/t/payload \\\"1\\\".bin\"\n",
            "dest: \"{{ root }}/payload.bin\"\n",
            "--port {{ service_port }} <",
            "/healthz\"\n",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains("{{{") && !text.contains("}}}"));
    }

    #[test]
    fn pipelining_is_on_for_every_connection() {
        let text = config(Path::new("/t"), 8);
        let (defaults, ssh) = text.split_once("[ssh_connection]").unwrap_or_default();
        assert!(defaults.contains("\npipelining = True\n") && ssh.contains("\npipelining = True\n"), "{text}");
        assert!(defaults.contains("\nforks = 8\n"));
    }
}
