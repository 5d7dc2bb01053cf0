//! Breaking a node on purpose, in the ways that real nodes break, to see that it is found.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use fleet::release::Descriptor;

use super::layout::{Layout, Shape};
use super::process::{PidFile, start};
use super::{agents, down, ports, up};
use crate::failure::Failure;
use crate::output::text::count;

/// What to break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Breakage {
    /// A file of the current release gets another content.
    Drift,
    /// A file that no release knows appears in the current one.
    ExtraFile,
    /// A file of the current release becomes writable for everyone.
    Mode,
    /// The power goes: agent and service are killed.
    Down,
    /// Only the agent is killed; the service goes on.
    AgentDown,
    /// Somebody starts an older release by hand.
    StaleProcess,
    /// The service is killed.
    KillService,
}

/// Breaks it; returns what was done, for people.
///
/// # Errors
/// 1 if there is nothing of that kind to break.
pub fn inflict(layout: &Layout, node: &str, breakage: Breakage) -> Result<String, Failure> {
    match breakage {
        Breakage::Drift => {
            let file = pick_file(&current(layout, node)?)?;
            replace(&file, |mut content| {
                content.extend_from_slice(b"\n# changed by hand\n");
                content
            })?;
            Ok(format!("changed {}", file.display()))
        }
        Breakage::ExtraFile => {
            let file = current(layout, node)?.join("left-behind.txt");
            std::fs::write(&file, "nobody deployed this\n").map_err(|e| cannot("write", &file, &e))?;
            Ok(format!("wrote {}", file.display()))
        }
        Breakage::Mode => {
            let file = pick_file(&current(layout, node)?)?;
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o777))
                .map_err(|e| cannot("change the mode of", &file, &e))?;
            Ok(format!("made {} writable for everyone", file.display()))
        }
        Breakage::Down => {
            kill_agent(layout, node);
            let killed = kill_services(layout, node);
            Ok(format!("{node} has lost its power: the agent and {} were killed", count(killed, "service process")))
        }
        Breakage::AgentDown => match kill_agent(layout, node) {
            true => Ok(format!("killed the agent of {node}; its service goes on")),
            false => Err(Failure::failed(format!("the agent of {node} does not run"))),
        },
        Breakage::KillService => match kill_services(layout, node) {
            0 => Err(Failure::failed(format!("no service runs on {node}"))),
            killed => {
                Ok(format!("killed {} of {node}; its agent starts the service again", count(killed, "service process")))
            }
        },
        Breakage::StaleProcess => stale_process(layout, node),
    }
}

/// Starts the agent of a node again, and ends what was started by hand there.
///
/// # Errors
/// 1 if it cannot be started.
pub fn heal(layout: &Layout, shape: Shape, node: &str) -> Result<String, Failure> {
    let number =
        shape.nodes().find(|(_, name)| name == node).map(|(number, _)| number).ok_or_else(|| unknown(shape, node))?;
    let stray = PidFile::new(&layout.run(), &stray_record(node));
    let mut done = Vec::new();
    if let Some(process) = stray.running() {
        process.stop();
        done.push(format!("ended pid {} that was started by hand", process.pid));
    }
    stray.remove();
    if PidFile::new(&layout.run(), &up::agent(node)).running().is_some() {
        done.push(format!("the agent of {node} runs already; changed files are put right by deploying again"));
    } else {
        agents::start_one(layout, shape, number, node)?;
        done.push(format!("started the agent of {node}"));
    }
    Ok(done.join("; "))
}

/// The failure for a node that is not part of the fleet.
pub fn unknown(shape: Shape, node: &str) -> Failure {
    Failure::usage(format!("there is no node '{node}' in this fleet")).help(format!("n1 to n{}", shape.agents))
}

fn kill_agent(layout: &Layout, node: &str) -> bool {
    let process = PidFile::new(&layout.run(), &up::agent(node)).running();
    if let Some(process) = &process {
        process.kill();
    }
    process.is_some()
}

fn kill_services(layout: &Layout, node: &str) -> usize {
    let processes = down::services_of(layout, node);
    for process in &processes {
        process.kill();
    }
    processes.len()
}

/// The directory of the current release of the first service of a node.
fn current(layout: &Layout, node: &str) -> Result<PathBuf, Failure> {
    let link = service(layout, node)?.join("current");
    link.canonicalize().map_err(|e| cannot("find the current release of", &link, &e))
}

fn service(layout: &Layout, node: &str) -> Result<PathBuf, Failure> {
    let dir = layout.services(node);
    let mut services: Vec<PathBuf> = std::fs::read_dir(&dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.join("current").exists())
        .collect();
    services.sort();
    services.into_iter().next().ok_or_else(|| {
        Failure::failed(format!("nothing is deployed on {node}"))
            .help("deploy something first: fleetctl deploy examples/hello")
    })
}

/// A file to break: one that is not a program, if there is one, so that the service itself stays whole.
fn pick_file(release: &Path) -> Result<PathBuf, Failure> {
    let mut files = Vec::new();
    walk(release, &mut files);
    files.sort_by_key(|path| (std::fs::metadata(path).is_ok_and(|m| m.mode() & 0o111 != 0), path.clone()));
    files.into_iter().next().ok_or_else(|| Failure::failed(format!("there is no file in {}", release.display())))
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), files),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            Ok(_) | Err(_) => {}
        }
    }
}

/// Puts another content in a file's place by renaming over it: a running program cannot be written to.
fn replace(file: &Path, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Result<(), Failure> {
    let content = std::fs::read(file).map_err(|e| cannot("read", file, &e))?;
    let mode = std::fs::metadata(file).map_err(|e| cannot("read", file, &e))?.permissions();
    let beside = file.with_extension("changed");
    std::fs::write(&beside, change(content)).map_err(|e| cannot("write", &beside, &e))?;
    std::fs::set_permissions(&beside, mode).map_err(|e| cannot("change the mode of", &beside, &e))?;
    std::fs::rename(&beside, file).map_err(|e| cannot("replace", file, &e))
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("cannot {what} {}", path.display())).caused_by(error)
}

fn stray_record(node: &str) -> String {
    format!("stray-{node}")
}

/// Copies the program of an older release and starts it beside the real service, on a port of its own, as somebody
/// would who "just quickly" wants the old one back.
fn stale_process(layout: &Layout, node: &str) -> Result<String, Failure> {
    let service = service(layout, node)?;
    let release = older_release(&service)?;
    let id = release.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let descriptor = service.join(".fleet/releases").join(format!("{id}.json"));
    let text = std::fs::read(&descriptor).map_err(|e| cannot("read", &descriptor, &e))?;
    let run = Descriptor::from_json(&text)
        .map_err(|e| Failure::failed(format!("cannot read {}", descriptor.display())).caused_by(&e))?
        .run;
    let port = ports::any_free().ok_or_else(|| Failure::failed("there is no free port"))?;
    let words: Vec<String> = run.command.iter().map(|word| word.replace("${PORT}", &port.to_string())).collect();
    let (program, arguments) = words.split_first().ok_or_else(|| Failure::failed(format!("{id} has no command")))?;

    let stray = layout.node(node).join("stray");
    std::fs::create_dir_all(&stray).map_err(|e| cannot("make", &stray, &e))?;
    let own = release.join(program);
    let mut command = if own.is_file() {
        let copy = stray.join(own.file_name().unwrap_or_default());
        // A copy that runs cannot be written to, but it can be replaced.
        let _ = std::fs::remove_file(&copy);
        std::fs::copy(&own, &copy).map_err(|e| cannot("copy", &own, &e))?;
        std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755))
            .map_err(|e| cannot("change the mode of", &copy, &e))?;
        Command::new(copy)
    } else {
        // An interpreter from PATH, which finds its sources from the release's directory.
        Command::new(program)
    };
    command.args(arguments).envs(&run.environment).env("PORT", port.to_string()).current_dir(&release);
    let record = PidFile::new(&layout.run(), &stray_record(node));
    if let Some(process) = record.running() {
        process.kill();
    }
    let process = start(&mut command, &layout.log(&stray_record(node)), &record)?;
    Ok(format!("started {id} by hand on {node}: pid {}, port {port}", process.pid))
}

/// The newest release of a service that is not the current one.
fn older_release(service: &Path) -> Result<PathBuf, Failure> {
    let current = service.join("current").canonicalize().map_err(|e| cannot("find", &service.join("current"), &e))?;
    let dir = service.join("releases");
    let mut others: Vec<PathBuf> = std::fs::read_dir(&dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.is_dir() && p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("r-")))
        .filter(|p| p.canonicalize().is_ok_and(|real| real != current))
        .collect();
    others.sort_by_key(|path| std::fs::metadata(path).and_then(|m| m.modified()).ok());
    others.pop().ok_or_else(|| {
        Failure::failed(format!("{} holds no release but the current one", service.display()))
            .help("deploy another version first, so that this one is the older")
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn node_with_release() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::at(dir.path().to_owned());
        let service = layout.services("n1").join("shop");
        for release in ["r-000000000001", "r-000000000002"] {
            let place = service.join("releases").join(release);
            std::fs::create_dir_all(place.join("bin")).unwrap();
            std::fs::write(place.join("bin/shop"), "program").unwrap();
            std::fs::set_permissions(place.join("bin/shop"), std::fs::Permissions::from_mode(0o755)).unwrap();
            std::fs::write(place.join("shop.toml"), "a = 1").unwrap();
        }
        std::os::unix::fs::symlink("releases/r-000000000002", service.join("current")).unwrap();
        (dir, layout)
    }

    #[test]
    fn a_configuration_is_changed_rather_than_the_program() {
        let (_dir, layout) = node_with_release();
        inflict(&layout, "n1", Breakage::Drift).unwrap();
        let current = current(&layout, "n1").unwrap();
        assert!(std::fs::read_to_string(current.join("shop.toml")).unwrap().contains("changed by hand"));
        assert_eq!(std::fs::read_to_string(current.join("bin/shop")).unwrap(), "program");
        inflict(&layout, "n1", Breakage::Mode).unwrap();
        assert_eq!(std::fs::metadata(current.join("shop.toml")).unwrap().mode() & 0o777, 0o777);
        inflict(&layout, "n1", Breakage::ExtraFile).unwrap();
        assert!(current.join("left-behind.txt").is_file());
    }

    #[test]
    fn the_older_release_is_the_one_that_is_not_current() {
        let (_dir, layout) = node_with_release();
        let service = layout.services("n1").join("shop");
        assert!(older_release(&service).unwrap().ends_with("r-000000000001"));
        std::fs::remove_dir_all(service.join("releases/r-000000000001")).unwrap();
        // A second copy of what shall run is nothing that anybody would find.
        assert_eq!(older_release(&service).unwrap_err().exit, 1);
    }

    #[test]
    fn what_is_not_there_cannot_be_broken() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::at(dir.path().to_owned());
        for breakage in [Breakage::Drift, Breakage::AgentDown, Breakage::KillService, Breakage::StaleProcess] {
            assert_eq!(inflict(&layout, "n1", breakage).unwrap_err().exit, 1, "{breakage:?}");
        }
    }
}
