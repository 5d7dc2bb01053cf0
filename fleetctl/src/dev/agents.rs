//! The nodes of a development fleet: each joins once, gets its `agent.toml`, and its agent is started.

use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::Command;

use fleet_proto::v1;
use serde::Serialize;

use super::layout::{Layout, ROLE, Shape, write};
use super::process::{PidFile, start};
use super::programs;
use super::up::{agent, run};
use crate::client::{CALL_DEADLINE, Operator, answer};
use crate::failure::Failure;

/// How long a join token can be used: it is used at once.
const TOKEN_TTL_MS: u64 = 600_000;
/// How many nodes join at a time: each makes a key and a connection.
const JOINS_AT_A_TIME: usize = 8;
/// How long draining may take: the requests of an example take milliseconds.
const DRAIN_TIMEOUT: &str = "10s";

/// Joins and starts every node of the shape that does not run yet.
///
/// # Errors
/// 1 with what the program said.
pub async fn raise(layout: &Layout, shape: Shape, client: &mut Operator) -> Result<(), Failure> {
    let program = programs::find(programs::AGENT)?;
    let stopped: Vec<(u16, String)> =
        shape.nodes().filter(|(_, name)| PidFile::new(&layout.run(), &agent(name)).running().is_none()).collect();
    join(layout, shape, client, &program, &stopped).await?;
    for (number, name) in &stopped {
        start_one(layout, shape, *number, name)?;
    }
    Ok(())
}

async fn join(
    layout: &Layout,
    shape: Shape,
    client: &mut Operator,
    program: &Path,
    nodes: &[(u16, String)],
) -> Result<(), Failure> {
    let strangers: Vec<&String> = nodes.iter().map(|(_, name)| name).filter(|name| !layout.has_joined(name)).collect();
    let Some(uses) = u32::try_from(strangers.len()).ok().filter(|&n| n > 0) else { return Ok(()) };
    let labels = [("role".to_owned(), ROLE.to_owned())].into();
    let request =
        v1::CreateTokenRequest { ttl_ms: TOKEN_TTL_MS, uses, labels, role: "node".to_owned(), name: String::new() };
    let token = answer(CALL_DEADLINE, client.create_token(request)).await?.token;
    for group in strangers.chunks(JOINS_AT_A_TIME) {
        let mut joining = tokio::task::JoinSet::new();
        for name in group {
            let dir = layout.node(name);
            for sub in ["services", "state"] {
                std::fs::create_dir_all(dir.join(sub))
                    .map_err(|e| Failure::config(format!("cannot make {}", dir.display())).caused_by(&e))?;
            }
            let token_file = dir.join("token");
            write_private(&token_file, &token)?;
            let mut command = Command::new(program);
            command.arg("join").arg(shape.controller().to_string());
            command.arg("--token-file").arg(&token_file).args([
                "--name",
                name,
                "--label",
                &format!("role={ROLE}"),
                "--controller-name",
                "localhost",
            ]);
            command.arg("--state-dir").arg(dir.join("state"));
            without_agent_environment(&mut command);
            let what = format!("fleet-agent join of {name}");
            joining.spawn_blocking(move || {
                let result = run(&mut command, &what);
                // The agent removes it after use; after a failure nobody needs it any more.
                let _ = std::fs::remove_file(&token_file);
                result
            });
        }
        while let Some(result) = joining.join_next().await {
            result.map_err(|e| Failure::failed("joining was interrupted").because(e))??;
        }
    }
    Ok(())
}

fn write_private(path: &Path, text: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    let cannot = |e: std::io::Error| Failure::config(format!("cannot write {}", path.display())).caused_by(&e);
    let mut file =
        std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path).map_err(cannot)?;
    file.write_all(text.as_bytes()).map_err(cannot)
}

fn without_agent_environment(command: &mut Command) {
    for name in ["FLEET_AGENT_CONFIG", "FLEET_AGENT_CONTROLLER", "FLEET_AGENT_TOKEN_FILE"] {
        command.env_remove(name);
    }
}

/// `agent.toml`, as the agent reads it.
#[derive(Debug, Serialize)]
struct AgentToml<'a> {
    node: &'a str,
    controller: String,
    controller_name: &'a str,
    state_dir: std::path::PathBuf,
    services_root: std::path::PathBuf,
    scope: &'a str,
    selftest: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_user: Option<&'a str>,
    environment: std::collections::BTreeMap<&'a str, String>,
    balancer: BalancerToml<'a>,
}

#[derive(Debug, Serialize)]
struct BalancerToml<'a> {
    drain_timeout: &'a str,
    haproxy: HaproxyToml<'a>,
}

#[derive(Debug, Serialize)]
struct HaproxyToml<'a> {
    socket: String,
    backend: &'a str,
    server: &'a str,
}

fn agent_toml(layout: &Layout, shape: Shape, number: u16, name: &str) -> String {
    let dir = layout.node(name);
    let config = AgentToml {
        node: name,
        controller: shape.controller().to_string(),
        controller_name: "localhost",
        state_dir: dir.join("state"),
        services_root: dir.join("services"),
        scope: "root",
        selftest: true,
        service_user: service_user(&dir),
        environment: [("PORT", shape.node(number).port().to_string())].into(),
        balancer: BalancerToml {
            drain_timeout: DRAIN_TIMEOUT,
            haproxy: HaproxyToml { socket: layout.balancer_admin(shape), backend: ROLE, server: name },
        },
    };
    toml::to_string(&config).unwrap_or_default()
}

/// Whom services run as. An agent of root's would give them to `nobody`; where nobody cannot even enter the directory
/// (root's home), they run as root: it is one person's fleet on that person's machine.
fn service_user(dir: &Path) -> Option<&'static str> {
    let is_open = |place: &Path| std::fs::metadata(place).is_ok_and(|m| m.mode() & 0o001 != 0);
    (nix::unistd::geteuid().is_root() && !dir.ancestors().all(is_open)).then_some("root")
}

/// Starts the agent of a node that has joined.
///
/// # Errors
/// 1 if it cannot be started.
pub fn start_one(layout: &Layout, shape: Shape, number: u16, name: &str) -> Result<(), Failure> {
    let config = layout.node(name).join("agent.toml");
    write(&config, &agent_toml(layout, shape, number, name))?;
    let mut command = Command::new(programs::find(programs::AGENT)?);
    command.arg("run").arg("--config").arg(&config);
    without_agent_environment(&mut command);
    start(&mut command, &layout.agent_log(name), &PidFile::new(&layout.run(), &agent(name)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_agents_file_has_the_agreed_keys() {
        let layout = Layout::at("/d".into());
        let text = agent_toml(&layout, Shape::default(), 3, "n3");
        let toml: toml::Table = text.parse().unwrap();
        assert_eq!(toml["node"].as_str(), Some("n3"));
        assert_eq!(toml["controller"].as_str(), Some("127.0.0.1:7443"));
        assert_eq!(toml["controller_name"].as_str(), Some("localhost"));
        assert_eq!(toml["services_root"].as_str(), Some("/d/nodes/n3/services"));
        assert_eq!(toml["state_dir"].as_str(), Some("/d/nodes/n3/state"));
        assert_eq!(toml["scope"].as_str(), Some("root"));
        assert_eq!(toml["environment"]["PORT"].as_str(), Some("18083"));
        assert_eq!(toml["balancer"]["haproxy"]["socket"].as_str(), Some("/d/balancer.sock"));
        assert_eq!(toml["balancer"]["haproxy"]["server"].as_str(), Some("n3"));
    }
}
