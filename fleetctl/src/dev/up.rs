//! Bringing a development fleet up, or into another shape. Everything is asked first and done only where it is missing,
//! so that doing it again changes nothing.

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
pub const READY_WITHIN: Duration = Duration::from_secs(90);
/// How often it is asked whether it is.
const ASK_INTERVAL: Duration = Duration::from_millis(100);

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

/// Makes sure that every port is free that something will want which does not run yet, before anything is changed.
///
/// # Errors
/// 1, naming the first port that is not.
pub fn check_ports(layout: &Layout, shape: Shape) -> Result<(), Failure> {
    let runs = |name: &str| PidFile::new(&layout.run(), name).running().is_some();
    if !runs(CONTROLLER) {
        ports::check_free(shape.controller(), "the controller")?;
    }
    if !runs(BALANCER) {
        ports::check_free(shape.balancer(), "the balancer")?;
        if let Ok(admin) = layout.balancer_admin(shape).parse() {
            ports::check_free(admin, "the balancer's runtime API")?;
        }
    }
    for (number, name) in shape.nodes() {
        // A service that outlived its agent holds the port rightly, and its agent will find it again.
        if !runs(&agent(&name)) && down::services_of(layout, &name).is_empty() {
            ports::check_free(shape.node(number), &format!("node {name}"))?;
        }
    }
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
        admin,
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
pub(super) fn run(command: &mut Command, what: &str) -> Result<(), Failure> {
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
