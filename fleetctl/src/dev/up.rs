//! Bringing a development fleet up, or into another shape. Everything is asked first and done only where it is missing,
//! so that doing it again changes nothing.

use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fleet_proto::v1;
use serde::Serialize;

use super::layout::{Layout, ROLE, Shape, write};
use super::process::{PidFile, start, tail};
use super::{down, ports, programs};
use crate::balancer::{AdminAddress, Backend, Config, Server};
use crate::client::{CALL_DEADLINE, Controller, Operator, answer};
use crate::config::{Confirm, Target};
use crate::failure::Failure;

/// How long the whole fleet may take to be ready.
pub const READY_WITHIN: Duration = Duration::from_secs(20);
/// How often it is asked whether it is.
const ASK_INTERVAL: Duration = Duration::from_millis(100);
/// How long a join token can be used: it is used at once.
const TOKEN_TTL_MS: u64 = 600_000;
/// How many nodes join at a time: each makes a key and a connection.
const JOINS_AT_A_TIME: usize = 8;
/// How long draining may take: the requests of an example take milliseconds.
const DRAIN_TIMEOUT: &str = "10s";

/// The name of the controller's pid file and log.
pub const CONTROLLER: &str = "controller";
/// The name of the balancer's.
pub const BALANCER: &str = "balancer";

/// The name of an agent's pid file.
pub fn agent(node: &str) -> String {
    format!("agent-{node}")
}

/// One line about something that is up.
pub type Say<'a> = &'a dyn Fn(&str);

/// What a command talks to in this fleet.
pub fn target(layout: &Layout, shape: Shape) -> Target {
    let admin = layout.admin();
    Target {
        context: Some("dev".to_owned()),
        controller: shape.controller().to_string(),
        server_name: "localhost".to_owned(),
        ca: admin.join("ca.pem"),
        cert: admin.join("cert.pem"),
        key: admin.join("key.pem"),
        confirm: Confirm::Never,
    }
}

/// Starts the controller, if it does not run, and connects to it.
///
/// # Errors
/// 1 with the tail of its log if it does not answer; 78 if its program is missing.
pub async fn controller(layout: &Layout, shape: Shape) -> Result<(Controller, Operator), Failure> {
    let record = PidFile::new(&layout.run(), CONTROLLER);
    let log = layout.log(CONTROLLER);
    if record.running().is_none() {
        ports::check_free(shape.controller(), "the controller")?;
        let program = programs::find(programs::CONTROLLER)?;
        let mut init = Command::new(&program);
        init.arg("init").arg("--data-dir").arg(layout.controller()).args(["--name", "localhost"]);
        run(&mut init, "fleet-controller init")?;
        let config = layout.controller().join("controller.toml");
        #[derive(Serialize)]
        struct ControllerToml {
            data_dir: std::path::PathBuf,
            listen: String,
        }
        let text =
            toml::to_string(&ControllerToml { data_dir: layout.controller(), listen: shape.controller().to_string() })
                .unwrap_or_default();
        write(&config, &text)?;
        let mut serve = Command::new(&program);
        serve.arg("serve").arg("--config").arg(&config).env_remove("FLEET_CONTROLLER_CONFIG");
        start(&mut serve, &log, &record)?;
    }
    let controller = Controller::new(target(layout, shape))?;
    let until = Instant::now() + READY_WITHIN;
    loop {
        match controller.connect().await {
            Ok(client) => return Ok((controller, client)),
            Err(failure) if record.running().is_none() => {
                return Err(Failure::failed("the controller ended")
                    .because(failure.what)
                    .because(tail(&log))
                    .help(format!("its log: {}", log.display())));
            }
            Err(failure) if Instant::now() >= until => {
                return Err(Failure::failed("the controller does not answer")
                    .because(failure.what)
                    .because(tail(&log))
                    .help(format!("its log: {}", log.display())));
            }
            Err(_) => tokio::time::sleep(ASK_INTERVAL).await,
        }
    }
}

/// Joins and starts every node of the shape that does not run yet.
///
/// # Errors
/// 1 with what the program said.
pub async fn agents(layout: &Layout, shape: Shape, client: &mut Operator) -> Result<(), Failure> {
    let program = programs::find(programs::AGENT)?;
    let stopped: Vec<(u16, String)> =
        shape.nodes().filter(|(_, name)| PidFile::new(&layout.run(), &agent(name)).running().is_none()).collect();
    for (number, name) in &stopped {
        if down::services_of(layout, name).is_empty() {
            ports::check_free(shape.node(*number), &format!("node {name}"))?;
        }
    }
    join(layout, shape, client, &program, &stopped).await?;
    for (number, name) in &stopped {
        start_agent(layout, shape, *number, name)?;
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
pub fn start_agent(layout: &Layout, shape: Shape, number: u16, name: &str) -> Result<(), Failure> {
    let config = layout.node(name).join("agent.toml");
    write(&config, &agent_toml(layout, shape, number, name))?;
    let mut command = Command::new(programs::find(programs::AGENT)?);
    command.arg("run").arg("--config").arg(&config);
    without_agent_environment(&mut command);
    start(&mut command, &layout.agent_log(name), &PidFile::new(&layout.run(), &agent(name)))?;
    Ok(())
}

/// Starts the balancer, or lets it read its new configuration.
///
/// # Errors
/// 1 if its port is in use or it cannot be started.
pub fn balancer(layout: &Layout, shape: Shape) -> Result<(), Failure> {
    let admin = layout.balancer_admin(shape);
    let admin =
        AdminAddress::try_from(admin).map_err(|e| Failure::config("the balancer's address is wrong").because(e))?;
    let servers =
        shape.nodes().map(|(number, name)| Server { name, address: shape.node(number), weight: 100 }).collect();
    let config = Config {
        listen: shape.balancer(),
        admin: admin.clone(),
        state_file: layout.root().join("balancer.state"),
        backends: vec![Backend { name: ROLE.to_owned(), listen: None, servers }],
    };
    let text = toml::to_string(&config)
        .map_err(|e| Failure::config("the balancer's configuration cannot be written").caused_by(&e))?;
    let record = PidFile::new(&layout.run(), BALANCER);
    let before = std::fs::read_to_string(layout.balancer_config()).unwrap_or_default();
    write(&layout.balancer_config(), &text)?;
    if let Some(running) = record.running() {
        if before != text {
            running.signal(nix::sys::signal::Signal::SIGHUP);
        }
        return Ok(());
    }
    ports::check_free(shape.balancer(), "the balancer")?;
    if let AdminAddress::Tcp(address) = admin {
        ports::check_free(address, "the balancer's runtime API")?;
    }
    let mut command = Command::new(programs::own()?);
    command.args(["dev", "balancer", "--config"]).arg(layout.balancer_config()).env("FLEETCTL_LOG", "info");
    start(&mut command, &layout.log(BALANCER), &record)?;
    Ok(())
}

/// Waits until the balancer answers and every node is ready.
///
/// # Errors
/// 1 with the tail of the log of what is not.
pub async fn ready(layout: &Layout, shape: Shape, client: &mut Operator) -> Result<(), Failure> {
    let until = Instant::now() + READY_WITHIN;
    loop {
        let list = answer(CALL_DEADLINE, client.list_nodes(v1::ListNodesRequest {})).await?.nodes;
        let late: Vec<(String, String)> = shape
            .nodes()
            .filter_map(|(_, name)| match list.iter().find(|n| n.name == name) {
                Some(node) if is_up(&node.state) => None,
                Some(node) => Some((name, node.state.clone())),
                None => Some((name, "not enrolled".to_owned())),
            })
            .collect();
        let ended = late.iter().find(|(name, _)| PidFile::new(&layout.run(), &agent(name)).running().is_none());
        let balancing = std::net::TcpStream::connect_timeout(&shape.balancer(), Duration::from_secs(1)).is_ok();
        if late.is_empty() && balancing {
            return Ok(());
        }
        if PidFile::new(&layout.run(), BALANCER).running().is_none() {
            return Err(ended_with("the balancer", &layout.log(BALANCER)));
        }
        if let Some((name, _)) = ended {
            return Err(ended_with(&format!("the agent of {name}"), &layout.agent_log(name)));
        }
        if Instant::now() >= until {
            return Err(match late.first() {
                Some((name, state)) => {
                    let names: Vec<&str> = late.iter().map(|(n, _)| n.as_str()).collect();
                    let log = layout.agent_log(name);
                    Failure::failed(format!("not ready after {} s: {}", READY_WITHIN.as_secs(), names.join(" ")))
                        .because(format!("{name} is {state}"))
                        .because(tail(&log))
                        .help(format!("its log: {}", log.display()))
                }
                None => Failure::failed(format!("the balancer does not answer at {}", shape.balancer()))
                    .because(tail(&layout.log(BALANCER))),
            });
        }
        tokio::time::sleep(ASK_INTERVAL).await;
    }
}

/// A node that answers: what it runs may still differ from what it shall.
fn is_up(state: &str) -> bool {
    matches!(state, "ready" | "deploying" | "drifted")
}

fn ended_with(what: &str, log: &Path) -> Failure {
    Failure::failed(format!("{what} ended")).because(tail(log)).help(format!("its log: {}", log.display()))
}

/// Takes the nodes beyond `shape` out of the fleet and removes what was theirs.
///
/// # Errors
/// 1 if something cannot be stopped or removed.
pub async fn shrink(layout: &Layout, old: Shape, shape: Shape, client: &mut Operator) -> Result<(), Failure> {
    for (_, name) in old.nodes().filter(|(number, _)| *number > shape.agents) {
        down::node(layout, &name)?;
        let request = v1::RemoveNodeRequest { name: name.clone(), reason: "fleetctl dev scale".to_owned() };
        match client.remove_node(request).await {
            Ok(_) => {}
            Err(status) if status.code() == tonic::Code::NotFound => {}
            Err(status) => return Err(crate::client::status_failure(&status)),
        }
        let dir = layout.node(&name);
        fleet_bundle::remove_tree(&dir)
            .map_err(|e| Failure::failed(format!("cannot remove {}", dir.display())).caused_by(&e))?;
    }
    Ok(())
}

/// Runs a program to its end; what it said becomes the failure's causes.
fn run(command: &mut Command, what: &str) -> Result<(), Failure> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| Failure::failed(format!("cannot run {what}")).caused_by(&e))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<String> = said.trim().lines().map(crate::output::text::plain).collect();
    Err(Failure::failed(format!("{what} failed ({})", output.status)).because(said.join("\n")))
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
