//! Where a development fleet lies, and the shape it has: how many nodes, which ports.

use std::fs::{File, TryLockError};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::config;
use crate::failure::Failure;

/// The most nodes on one machine: each is a process, a service and a port.
pub const MOST_AGENTS: u16 = 200;
/// The longest path of a unix socket, in bytes, with its final zero (unix(7)).
const LONGEST_SOCKET_PATH: usize = 108;
/// The backend of the balancer, and the label of every node.
pub const ROLE: &str = "web";

/// How many nodes, and which ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shape {
    /// How many nodes: n1, n2, …
    pub agents: u16,
    /// The balancer's port; the node ni serves on `port_base + i`.
    pub port_base: u16,
    /// The controller's port.
    pub controller_port: u16,
}

impl Default for Shape {
    fn default() -> Self {
        Self { agents: 8, port_base: 18_080, controller_port: 7_443 }
    }
}

impl Shape {
    /// Refuses ports that cannot be.
    ///
    /// # Errors
    /// 64 with the number that is wrong.
    pub fn check(self) -> Result<Self, Failure> {
        if self.agents == 0 || self.agents > MOST_AGENTS {
            return Err(Failure::usage(format!("{} agents: 1 to {MOST_AGENTS} fit on one machine", self.agents)));
        }
        let highest = u32::from(self.port_base) + u32::from(self.agents);
        if self.port_base < 1_025 || highest > 65_535 {
            return Err(Failure::usage(format!(
                "--port-base {}: the ports {} to {highest} must lie between 1024 and 65535",
                self.port_base,
                u32::from(self.port_base).saturating_sub(1)
            )));
        }
        if (u32::from(self.port_base) - 1..=highest).contains(&u32::from(self.controller_port)) {
            return Err(Failure::usage(format!(
                "--controller-port {} lies among the ports of the nodes",
                self.controller_port
            )));
        }
        Ok(self)
    }

    /// The controller's address.
    pub fn controller(self) -> SocketAddr {
        loopback(self.controller_port)
    }

    /// The balancer's address.
    pub fn balancer(self) -> SocketAddr {
        loopback(self.port_base)
    }

    /// The address of the service on a node; nodes count from 1.
    pub fn node(self, number: u16) -> SocketAddr {
        loopback(self.port_base + number)
    }

    /// The names of the nodes, with their numbers.
    pub fn nodes(self) -> impl Iterator<Item = (u16, String)> {
        (1..=self.agents).map(|number| (number, format!("n{number}")))
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// The directory of a development fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

/// The lock that makes one command at a time change a development fleet; released when it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Layout {
    /// In `dir`, else `$FLEET_DEV_DIR`, else below the XDG data directory; made absolute.
    ///
    /// # Errors
    /// 78 if there is no home directory.
    pub fn find(dir: Option<PathBuf>) -> Result<Self, Failure> {
        let dir = match dir {
            Some(dir) => dir,
            None => config::data_home()?.join("fleet/dev"),
        };
        let root = std::path::absolute(&dir)
            .map_err(|e| Failure::config(format!("'{}' is not a directory's name", dir.display())).caused_by(&e))?;
        Ok(Self { root })
    }

    /// At an absolute path.
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the pid files lie.
    pub fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// Where the logs of controller and balancer lie.
    pub fn log(&self, program: &str) -> PathBuf {
        self.root.join("log").join(format!("{program}.log"))
    }

    /// The controller's directory.
    pub fn controller(&self) -> PathBuf {
        self.root.join("controller")
    }

    /// The first operator's identity, made by `fleet-controller init`.
    pub fn admin(&self) -> PathBuf {
        self.controller().join("admin")
    }

    /// All nodes.
    pub fn nodes(&self) -> PathBuf {
        self.root.join("nodes")
    }

    /// One node.
    pub fn node(&self, name: &str) -> PathBuf {
        self.nodes().join(name)
    }

    /// Where a node's services lie.
    pub fn services(&self, name: &str) -> PathBuf {
        self.node(name).join("services")
    }

    /// Where an agent logs.
    pub fn agent_log(&self, name: &str) -> PathBuf {
        self.node(name).join("agent.log")
    }

    /// Whether a node has an identity.
    pub fn has_joined(&self, name: &str) -> bool {
        self.node(name).join("state/identity/cert.pem").is_file()
    }

    /// The balancer's configuration.
    pub fn balancer_config(&self) -> PathBuf {
        self.root.join("balancer.toml")
    }

    /// Where the balancer takes commands: a unix socket, or a port where the path is too long for one.
    pub fn balancer_admin(&self, shape: Shape) -> String {
        let socket = self.root.join("balancer.sock");
        match socket.to_str() {
            Some(path) if path.len() < LONGEST_SOCKET_PATH => path.to_owned(),
            _ => loopback(shape.port_base - 1).to_string(),
        }
    }

    fn shape_file(&self) -> PathBuf {
        self.root.join("dev.toml")
    }

    /// The shape of the fleet that lies here; none if there is none.
    ///
    /// # Errors
    /// 78 if it cannot be read.
    pub fn shape(&self) -> Result<Option<Shape>, Failure> {
        let path = self.shape_file();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::config(format!("cannot read {}", path.display())).because(error)),
        };
        toml::from_str(&text).map(Some).map_err(|error| {
            Failure::config(format!("{} is not valid", path.display()))
                .because(error)
                .help("start anew: fleetctl dev down --purge")
        })
    }

    /// The shape of the fleet that lies here.
    ///
    /// # Errors
    /// As [`Self::shape`], and 1 if there is none.
    pub fn existing_shape(&self) -> Result<Shape, Failure> {
        self.shape()?.ok_or_else(|| {
            Failure::failed(format!("there is no development fleet in {}", self.root.display()))
                .help("start one: fleetctl dev up")
        })
    }

    /// Remembers the shape.
    ///
    /// # Errors
    /// 78 if it cannot be written.
    pub fn save_shape(&self, shape: Shape) -> Result<(), Failure> {
        let text = toml::to_string(&shape).unwrap_or_default();
        write(&self.shape_file(), &text)
    }

    /// Makes the directories and takes the lock.
    ///
    /// # Errors
    /// 75 if another command holds it, 78 if a directory cannot be made.
    pub fn lock(&self) -> Result<Lock, Failure> {
        for dir in [self.root.clone(), self.run(), self.root.join("log"), self.nodes()] {
            std::fs::create_dir_all(&dir)
                .map_err(|e| Failure::config(format!("cannot make the directory {}", dir.display())).caused_by(&e))?;
        }
        let path = self.root.join("lock");
        let cannot = |e: std::io::Error| Failure::config(format!("cannot lock {}", path.display())).caused_by(&e);
        let file = File::create(&path).map_err(cannot)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Failure::new(
                fleet::outcome::exit::BUSY,
                format!("another 'fleetctl dev' is working on {}", self.root.display()),
            )
            .help("wait until it is done")),
            Err(TryLockError::Error(error)) => Err(cannot(error)),
        }
    }
}

/// Writes a file of a development fleet.
///
/// # Errors
/// 78 if it cannot be written.
pub fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|e| Failure::config(format!("cannot write {}", path.display())).caused_by(&e))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ports_follow_from_the_base() {
        let shape = Shape::default().check().unwrap();
        assert_eq!(shape.balancer().to_string(), "127.0.0.1:18080");
        assert_eq!(shape.node(1).to_string(), "127.0.0.1:18081");
        assert_eq!(shape.nodes().last().unwrap(), (8, "n8".to_owned()));
        for wrong in [
            Shape { agents: 0, ..shape },
            Shape { agents: 999, ..shape },
            Shape { port_base: 80, ..shape },
            Shape { port_base: 65_530, ..shape },
            Shape { controller_port: 18_083, ..shape },
        ] {
            assert_eq!(wrong.check().unwrap_err().exit, 64, "{wrong:?}");
        }
    }

    #[test]
    fn a_long_path_gets_a_port_instead_of_a_socket() {
        let short = Layout::at("/d".into());
        assert_eq!(short.balancer_admin(Shape::default()), "/d/balancer.sock");
        let long = Layout::at(PathBuf::from(format!("/{}", "x".repeat(100))));
        assert_eq!(long.balancer_admin(Shape::default()), "127.0.0.1:18079");
    }

    #[test]
    fn one_command_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::at(dir.path().to_owned());
        let held = layout.lock().unwrap();
        assert_eq!(layout.lock().unwrap_err().exit, 75);
        drop(held);
        layout.lock().unwrap();
        assert_eq!(layout.shape().unwrap(), None);
        layout.save_shape(Shape::default()).unwrap();
        assert_eq!(layout.existing_shape().unwrap(), Shape::default());
    }
}
