//! `fleetctl dev`: the words for a whole fleet on this machine. What they do is in `crate::dev`.

use std::path::PathBuf;

use fleet::Millis;
use fleet::outcome::exit;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::dev_break::Kind;
use super::session::Session;
use crate::balancer::ConfigError;
use crate::config::{self, ConfigFile, Confirm, Context};
use crate::dev::process::PidFile;
use crate::dev::{Layout, Shape, agents, breakage, down, up};
use crate::failure::Failure;
use crate::load::Load;
use crate::output::documents::{LoadReport, document};
use crate::output::format::Format;
use crate::output::screen::Accent;
use crate::output::table::Columns;
use crate::output::text::count;

/// The context that `dev up` makes.
const CONTEXT: &str = "dev";

/// Where the fleet lies.
#[derive(Debug, Clone, clap::Args)]
pub struct Place {
    /// Where the fleet lies [default: fleet/dev in the XDG data directory]
    #[arg(long, value_name = "DIR", env = "FLEET_DEV_DIR", hide_env_values = true)]
    dir: Option<PathBuf>,
}

/// What can be done with a development fleet.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Start a controller, agents and a balancer, or what is missing of them
    #[command(after_help = "Examples:
  fleetctl dev up
  fleetctl dev up --agents 4
  fleetctl dev up --dir /tmp/fleet --port-base 28080 --controller-port 27443")]
    Up {
        #[command(flatten)]
        place: Place,
        /// How many nodes [default: as it was, else 8]
        #[arg(long, value_name = "N")]
        agents: Option<u16>,
        /// The balancer's port; node ni serves on this + i [default: as it was, else 18080]
        #[arg(long, value_name = "PORT")]
        port_base: Option<u16>,
        /// The controller's port [default: as it was, else 7443]
        #[arg(long, value_name = "PORT")]
        controller_port: Option<u16>,
    },
    /// Stop everything, also what a crash has left behind
    #[command(after_help = "Examples:
  fleetctl dev down
  fleetctl dev down --purge                # and forget everything")]
    Down {
        #[command(flatten)]
        place: Place,
        /// Remove the fleet's directory too
        #[arg(long)]
        purge: bool,
    },
    /// Show what runs; ends with 1 if something does not
    #[command(after_help = "Examples:
  fleetctl dev status
  fleetctl dev status -o json")]
    Status {
        #[command(flatten)]
        place: Place,
    },
    /// Change the number of nodes
    #[command(after_help = "Examples:
  fleetctl dev scale 10
  fleetctl dev scale 4                     # the last nodes are removed from the fleet")]
    Scale {
        /// How many nodes
        #[arg(value_name = "N")]
        agents: u16,
        #[command(flatten)]
        place: Place,
    },
    /// Break a node on purpose
    #[command(after_help = "Examples:
  fleetctl dev break n3 --drift && fleetctl drift
  fleetctl dev break n5 --agent-down
  fleetctl dev break n2 --stale-process")]
    Break {
        /// The node
        node: String,
        #[command(flatten)]
        kind: Kind,
        #[command(flatten)]
        place: Place,
    },
    /// Start a node's agent again
    #[command(after_help = "Examples:
  fleetctl dev heal n5
  fleetctl dev heal n5 && fleetctl verify")]
    Heal {
        /// The node
        node: String,
        #[command(flatten)]
        place: Place,
    },
    /// Send requests through the balancer until the time is over or Ctrl-C; ends with 1 if one failed
    #[command(after_help = "Examples:
  fleetctl dev load --rate 50 --for 10s
  fleetctl dev load -o json")]
    Load {
        #[command(flatten)]
        place: Place,
        /// Requests per second
        #[arg(long, value_name = "N", default_value_t = 50)]
        rate: u32,
        /// How long [default: until Ctrl-C or SIGTERM]
        #[arg(long = "for", value_name = "DUR")]
        duration: Option<Millis>,
        /// Requests in flight at a time
        #[arg(long, value_name = "N", default_value_t = 16)]
        workers: u32,
        /// Where to [default: the balancer of this fleet]
        #[arg(long, value_name = "URL")]
        url: Option<String>,
    },
    /// Run the balancer of a development fleet in the foreground; 'dev up' does this by itself
    #[command(after_help = "Examples:
  fleetctl dev balancer --config ~/.local/share/fleet/dev/balancer.toml
  fleetctl dev balancer --config balancer.toml     # SIGHUP reads the file again, SIGTERM stops")]
    Balancer {
        /// Its configuration
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

pub(super) async fn run(session: &Session, verb: Verb) -> Result<u8, Failure> {
    match verb {
        Verb::Up { place, agents, port_base, controller_port } => {
            let layout = Layout::find(place.dir)?;
            let old = layout.shape()?;
            let before = old.unwrap_or_default();
            let shape = Shape {
                agents: agents.unwrap_or(before.agents),
                port_base: port_base.unwrap_or(before.port_base),
                controller_port: controller_port.unwrap_or(before.controller_port),
            };
            raise(session, &layout, old, shape.check()?).await
        }
        Verb::Scale { agents, place } => {
            let layout = Layout::find(place.dir)?;
            let old = layout.existing_shape()?;
            raise(session, &layout, Some(old), Shape { agents, ..old }.check()?).await
        }
        Verb::Down { place, purge } => lower(session, &Layout::find(place.dir)?, purge),
        Verb::Status { place } => status(session, &Layout::find(place.dir)?),
        Verb::Break { node, kind, place } => {
            let layout = Layout::find(place.dir)?;
            let shape = layout.existing_shape()?;
            let breakage = kind
                .breakage()
                .filter(|_| shape.nodes().any(|(_, name)| name == node))
                .ok_or_else(|| breakage::unknown(shape, &node))?;
            let done = breakage::inflict(&layout, &node, breakage)?;
            session.screen.say(&done);
            session.screen.say("See it found: fleetctl drift");
            Ok(exit::OK)
        }
        Verb::Heal { node, place } => {
            let layout = Layout::find(place.dir)?;
            let done = breakage::heal(&layout, layout.existing_shape()?, &node)?;
            session.screen.say(&done);
            Ok(exit::OK)
        }
        Verb::Load { place, rate, duration, workers, url } => {
            let url = match url {
                Some(url) => url,
                None => format!("http://{}/", Layout::find(place.dir)?.existing_shape()?.balancer()),
            };
            load(session, url, rate, workers, duration).await
        }
        Verb::Balancer { config } => {
            crate::balancer::run(&config).await.map_err(|error| {
                let failure = match error.downcast_ref::<ConfigError>() {
                    Some(_) => Failure::config("the balancer cannot start"),
                    None => Failure::failed("the balancer ended"),
                };
                failure.caused_by(error.as_ref())
            })?;
            Ok(exit::OK)
        }
    }
}

async fn raise(session: &Session, layout: &Layout, old: Option<Shape>, shape: Shape) -> Result<u8, Failure> {
    let _lock = layout.lock()?;
    if let Some(old) = old {
        let moved = old.port_base != shape.port_base || old.controller_port != shape.controller_port;
        let running = down::on_record(layout).iter().any(|name| PidFile::new(&layout.run(), name).running().is_some());
        if moved && running {
            return Err(Failure::usage("the ports of a running fleet cannot change").help("first: fleetctl dev down"));
        }
    }
    up::check_ports(layout, shape)?;
    let ok = session.screen.paint(Accent::Good, session.screen.glyphs.ok());
    let say = |what: &str| session.screen.say(&format!("{ok} {what}"));
    let (_, mut client) = up::controller(layout, shape).await?;
    say(&format!("controller  {}   ({})", shape.controller(), layout.root().display()));
    if let Some(old) = old {
        up::shrink(layout, old, shape, &mut client).await?;
    }
    layout.save_shape(shape)?;
    use_context(layout, shape)?;
    up::balancer(layout, shape)?;
    agents::raise(layout, shape, &mut client).await?;
    up::ready(layout, shape, &mut client).await?;
    for (number, name) in shape.nodes() {
        say(&format!("{:<11} {}  ready", format!("node {name}"), shape.node(number)));
    }
    say(&format!("balancer    http://{}   (built in, dev only)", shape.balancer()));
    session.screen.say(&format!("Context \"{CONTEXT}\" is now the current one. Stop with: fleetctl dev down"));
    session.screen.say("Next: fleetctl deploy examples/hello --segments 4");
    Ok(exit::OK)
}

fn use_context(layout: &Layout, shape: Shape) -> Result<(), Failure> {
    let target = up::target(layout, shape);
    let path = config::path()?;
    let mut file = ConfigFile::load(&path)?;
    let context = Context {
        controller: target.controller,
        server_name: Some(target.server_name),
        ca: target.ca,
        cert: target.cert,
        key: target.key,
        confirm: Confirm::Never,
    };
    let current = Some(CONTEXT.to_owned());
    if file.contexts.get(CONTEXT) == Some(&context) && file.current == current {
        return Ok(());
    }
    file.contexts.insert(CONTEXT.to_owned(), context);
    file.current = current;
    file.save(&path)
}

fn lower(session: &Session, layout: &Layout, purge: bool) -> Result<u8, Failure> {
    if !layout.root().exists() {
        session.screen.say(&format!("there is no development fleet in {}", layout.root().display()));
        return Ok(exit::OK);
    }
    // A directory that holds something else is never removed, whatever --dir says.
    let is_ours = layout.shape()?.is_some() || layout.run().is_dir();
    if !is_ours {
        return Err(Failure::usage(format!("{} is not the directory of a development fleet", layout.root().display())));
    }
    let lock = layout.lock()?;
    let stopped = down::all(layout)?;
    session.screen.say(&format!(
        "stopped {} and {}",
        count(stopped.programs, "program"),
        count(stopped.services, "service process")
    ));
    if purge {
        drop(lock);
        fleet_bundle::remove_tree(layout.root())
            .map_err(|e| Failure::failed(format!("cannot remove {}", layout.root().display())).caused_by(&e))?;
        forget_context(layout)?;
        session.screen.say(&format!("removed {}", layout.root().display()));
    }
    Ok(exit::OK)
}

/// Forgets the context, if it is the one of this fleet.
fn forget_context(layout: &Layout) -> Result<(), Failure> {
    let path = config::path()?;
    let mut file = ConfigFile::load(&path)?;
    if file.contexts.get(CONTEXT).is_some_and(|c| c.cert.starts_with(layout.root())) {
        file.contexts.remove(CONTEXT);
        if file.current.as_deref() == Some(CONTEXT) {
            file.current = None;
        }
        file.save(&path)?;
    }
    Ok(())
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DevStatus {
    dir: String,
    items: Vec<DevProgram>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct DevProgram {
    name: String,
    state: &'static str,
    pid: Option<i32>,
    address: String,
    services: usize,
    log: String,
}

fn status(session: &Session, layout: &Layout) -> Result<u8, Failure> {
    let format = session.format(&[Format::Table, Format::Wide, Format::Json], "dev status")?;
    let shape = layout.existing_shape()?;
    let program = |name: &str, record: &str, address: String, services: usize, log: PathBuf| {
        let process = PidFile::new(&layout.run(), record).running();
        let state = if process.is_some() { "running" } else { "stopped" };
        DevProgram {
            name: name.to_owned(),
            state,
            pid: process.map(|p| p.pid),
            address,
            services,
            log: log.display().to_string(),
        }
    };
    let mut items = vec![
        program("controller", up::CONTROLLER, shape.controller().to_string(), 0, layout.log(up::CONTROLLER)),
        program("balancer", up::BALANCER, format!("http://{}", shape.balancer()), 0, layout.log(up::BALANCER)),
    ];
    for (number, name) in shape.nodes() {
        items.push(program(
            &name,
            &up::agent(&name),
            shape.node(number).to_string(),
            down::services_of(layout, &name).len(),
            layout.agent_log(&name),
        ));
    }
    let code = if items.iter().all(|i| i.state == "running") { exit::OK } else { exit::FAILED };
    match format {
        Format::Json => {
            session.screen.out(&document("DevStatus", DevStatus { dir: layout.root().display().to_string(), items }))
        }
        _ => {
            let mut rows = Columns::new(&["NAME", "STATE", "PID", "ADDRESS", "SERVICE PROCESSES", "LOG"]);
            for i in items {
                let pid = i.pid.map_or_else(|| "-".to_owned(), |p| p.to_string());
                rows.row([i.name, i.state.to_owned(), pid, i.address, i.services.to_string(), i.log]);
            }
            session.screen.out(&rows.to_text());
        }
    }
    Ok(code)
}

async fn load(
    session: &Session,
    url: String,
    rate: u32,
    workers: u32,
    duration: Option<Millis>,
) -> Result<u8, Failure> {
    let format = session.format(&[Format::Table, Format::Json], "dev load")?;
    let cannot = |e: std::io::Error| Failure::failed("cannot wait for signals").caused_by(&e);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
    let stop = async move {
        let over = async {
            match duration {
                Some(duration) => tokio::time::sleep(duration.to_std()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! { () = over => {}, _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    };
    let load = Load { url: url.clone(), rate_per_second: rate, workers, stop };
    let report = crate::load::run(load).await.map_err(|e| Failure::usage(e.to_string()))?;
    let code = if report.failed == 0 && report.sent > 0 { exit::OK } else { exit::FAILED };
    if format == Format::Json {
        session.screen.out(&document("LoadReport", LoadReport::from(report)));
        return Ok(code);
    }
    let list = |map: &std::collections::BTreeMap<String, u64>| {
        map.iter().map(|(k, n)| format!("{k} {n}")).collect::<Vec<_>>().join(", ")
    };
    let ms = |us: u64| format!("{}.{}ms", us / 1_000, us % 1_000 / 100);
    session
        .screen
        .out(&format!("{} requests sent to {url}: {} ok, {} failed\n", report.sent, report.ok, report.failed));
    session.screen.out(&format!(
        "  versions  {}\n  servers   {}\n  latency   p50 {}, p99 {}\n",
        list(&report.by_version),
        list(&report.by_server),
        ms(report.p50_us),
        ms(report.p99_us)
    ));
    for failure in &report.first_failures {
        session.screen.out(&format!("  failed    {}\n", crate::output::text::plain(failure)));
    }
    Ok(code)
}
