//! From the tree to a [`ServiceFile`]: types, limits and defaults of every key; `deploy:` and `hooks:` are `rollout`'s.
//! What lies on disk is not looked at.

use std::collections::BTreeMap;
use std::path::Path;

use fleet::Millis;
use fleet::release::{Grade, MOST_PINNED, MOST_PINS, Pin, Probe, Run};

use super::command;
use super::error::Problem;
use super::keys::{self, Section};
use super::rollout;
use super::scalar::{MOST_ITEMS, duration, integer, list, parsed, text, texts};
use super::version::VersionSource;
use super::yaml::{Node, Value, shown};
use super::{DeployDefaults, FileRule, Placement, ServiceFile};

/// The only `apiVersion` there is.
const API_VERSION: &str = "fleet/v1";
/// How long a service may take to stop before it is killed.
const STOP_TIMEOUT: Millis = Millis::from_secs(30);
/// Time between two health checks.
const INTERVAL: Millis = Millis::from_secs(1);
/// How long a service may take to become healthy.
const HEALTH_TIMEOUT: Millis = Millis::from_secs(60);
/// Checking more often than this is load, not care.
const SHORTEST_INTERVAL: Millis = Millis(100);

pub(super) fn service_file(path: &Path, root: Node) -> Result<ServiceFile, Problem> {
    let mut top = Section::open(root, &keys::FILE)?;
    let api = top.require("apiVersion", "apiVersion: fleet/v1")?;
    let found = text(&api, "apiVersion")?;
    if found != API_VERSION {
        return Err(Problem::new(
            api.place,
            format!("apiVersion '{}' is not known to this version of fleetctl", shown(&found)),
        )
        .help("write apiVersion: fleet/v1, or use a newer fleetctl"));
    }
    let service = parsed(&top.require("service", "service: hello")?, "service")?;
    let description = top.take("description")?.map(|node| text(&node, "description")).transpose()?;
    let owners = top.take("owners")?.map(|node| texts(node, "owners")).transpose()?.unwrap_or_default();
    let version = release(top.take("release")?)?;
    let nodes = top.take("nodes")?.map(|node| labels(&node)).transpose()?.unwrap_or_default();
    let user = top.take("user")?.map(|node| user(&node)).transpose()?;
    let files = files(top.require("files", "files: [{source: bin/hello, destination: bin/hello, mode: \"0755\"}]")?)?;
    let run_node = top.require("run", "run: bin/hello --port ${PORT}")?;
    let run_place = run_node.place;
    let run = Run { user, ..run(run_node)? };
    let health = top.take("health")?.map(health).transpose()?;
    let (minimum_grade, pins) = top.take("proof")?.map(proof).transpose()?.unwrap_or((Grade::Digest, Vec::new()));
    let migrate = top.take("hooks")?.map(rollout::hooks).transpose()?.flatten();
    let deploy = top.take("deploy")?.map(rollout::deploy).transpose()?.unwrap_or_default();
    let deploy = DeployDefaults { migrate, ..deploy };
    Ok(ServiceFile {
        file: path.to_owned(),
        service,
        description,
        owners,
        version,
        nodes,
        files,
        run,
        health,
        minimum_grade,
        pins,
        deploy,
        run_place,
    })
}

fn release(node: Option<Node>) -> Result<VersionSource, Problem> {
    let Some(node) = node else { return Ok(VersionSource::GitDescribe) };
    let Some(node) = Section::open(node, &keys::RELEASE)?.take("version")? else {
        return Ok(VersionSource::GitDescribe);
    };
    let found = text(&node, "release.version")?;
    if found == "git-describe" {
        return Ok(VersionSource::GitDescribe);
    }
    match found.strip_prefix("file:") {
        Some("") => Err(Problem::new(node.place, "'release.version' names no file").help("write file:VERSION")),
        Some(path) => Ok(VersionSource::File { path: path.to_owned(), place: node.place }),
        None => Ok(VersionSource::Literal(parsed(&node, "release.version")?)),
    }
}

fn labels(node: &Node) -> Result<BTreeMap<String, String>, Problem> {
    let found =
        text(node, "nodes").map_err(|problem| problem.help("write label requirements: nodes: role=web,az=a"))?;
    if found.starts_with("ansible:") {
        return Err(Problem::new(node.place, "'nodes: ansible:…' is known, but not supported by this version yet")
            .help("use labels: nodes: role=web"));
    }
    let mut labels = BTreeMap::new();
    for part in found.split(',').map(str::trim) {
        let plain = |s: &str| {
            !s.is_empty() && s.len() <= 63 && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b))
        };
        let Some((name, value)) = part
            .split_once('=')
            .map(|(name, value)| (name.trim(), value.trim()))
            .filter(|(name, value)| plain(name) && plain(value))
        else {
            return Err(Problem::new(node.place, format!("'{}' is not a label requirement", shown(part)))
                .help("write name=value, several with commas: role=web,az=a"));
        };
        if labels.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(Problem::new(
                node.place,
                format!("'nodes' asks for label '{name}' twice, which no node can meet"),
            )
            .help("keep one of the two"));
        }
    }
    Ok(labels)
}

fn user(node: &Node) -> Result<String, Problem> {
    let name = text(node, "user")?;
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
    if !first
        || name.len() > 32
        || !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-".contains(&b))
    {
        return Err(Problem::new(node.place, format!("'{}' is not a user name", shown(&name)))
            .help("use a lower-case name of at most 32 letters, digits, '_' and '-'"));
    }
    Ok(name)
}

fn files(node: Node) -> Result<Vec<FileRule>, Problem> {
    let place = node.place;
    let items = list(node, "files", "- {source: bin/hello, destination: bin/hello, mode: \"0755\"}")?;
    if items.is_empty() {
        return Err(Problem::new(place, "'files' is empty, so there is nothing to release")
            .help("add an item: - {source: bin/hello, destination: bin/hello, mode: \"0755\"}"));
    }
    items.into_iter().map(file_rule).collect()
}

fn file_rule(node: Node) -> Result<FileRule, Problem> {
    let mut section = Section::open(node, &keys::FILES)?;
    let source = section.require("source", "source: bin/hello")?;
    let destination = section.require("destination", "destination: bin/hello")?;
    let mode = section.take("mode")?.map(|node| mode(&node)).transpose()?;
    let from =
        relative(&text(&source, "source")?, &source, "source", "sources lie beside the service file or below it")?;
    let to = text(&destination, "destination")?;
    if to.starts_with('/') {
        let problem = Problem::new(
            destination.place,
            format!(
                "destination '{}' is absolute: files outside the release are known, but not supported by this version yet",
                shown(&to)
            ),
        );
        return Err(problem.help("write a path relative to the release, such as etc/app.toml"));
    }
    let placement = if to.ends_with('/') || to == "." { Placement::Into } else { Placement::As };
    let to = relative(&to, &destination, "destination", "files stay inside the release")?;
    Ok(FileRule { source: from, destination: to, placement, mode, place: source.place })
}

/// A path without `./` and the last `/`; one that leads elsewhere is refused.
fn relative(path: &str, node: &Node, what: &str, rule: &str) -> Result<String, Problem> {
    if path.starts_with('/') || path.split('/').any(|part| part == "..") {
        return Err(Problem::new(node.place, format!("{what} '{}' leads elsewhere: {rule}", shown(path)))
            .help("write a relative path without '..'"));
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    Ok(parts.join("/"))
}

fn mode(node: &Node) -> Result<u32, Problem> {
    let found = match &node.value {
        Value::Plain(text) => {
            let problem = Problem::new(
                node.place,
                format!("mode {} must be in quotes: without them YAML 1.1 reads octal, YAML 1.2 decimal", shown(text)),
            );
            let digits = text.trim_start_matches("0o").trim_start_matches('0');
            return Err(problem.help(format!("write mode: \"{:0>4}\"", shown(digits))));
        }
        _ => text(node, "mode")?,
    };
    let bits = (matches!(found.len(), 3 | 4)).then(|| u32::from_str_radix(&found, 8).ok()).flatten();
    let Some(bits) = bits.filter(|_| found.bytes().all(|b| b.is_ascii_digit())) else {
        return Err(Problem::new(node.place, format!("'{}' is not a mode", shown(&found)))
            .help("write three or four octal digits in quotes: \"0755\""));
    };
    if bits > 0o777 {
        return Err(Problem::new(
            node.place,
            format!("mode \"{found}\" has set-uid, set-gid or sticky bits, which are not accepted"),
        )
        .help("a release needs none of them; write \"0755\""));
    }
    if bits & 0o400 == 0 {
        return Err(Problem::new(
            node.place,
            format!("mode \"{found}\" keeps its owner from reading, so the agent could not verify the file"),
        )
        .help("add 0400, for example \"0755\" or \"0440\""));
    }
    Ok(bits)
}

fn run(node: Node) -> Result<Run, Problem> {
    let plain = |command| Run { command, environment: BTreeMap::new(), user: None, stop_timeout: STOP_TIMEOUT };
    if !matches!(node.value, Value::Map(_)) {
        return Ok(plain(argv(node, "run")?));
    }
    let mut section = Section::open(node, &keys::RUN)?;
    let command = argv(section.require("command", "command: bin/hello --port ${PORT}")?, "run.command")?;
    let stop_timeout = section
        .take("stop_timeout")?
        .map(|node| duration(&node, "run.stop_timeout"))
        .transpose()?
        .unwrap_or(STOP_TIMEOUT);
    let environment = section.take("environment")?.map(environment).transpose()?.unwrap_or_default();
    Ok(Run { environment, stop_timeout, ..plain(command) })
}

fn argv(node: Node, what: &str) -> Result<Vec<String>, Problem> {
    let place = node.place;
    let words = match &node.value {
        Value::List(_) => texts(node, what)?,
        _ => command::split(&text(&node, what)?)
            .map_err(|(message, help)| Problem::new(place, format!("'{what}': {message}")).help(help))?,
    };
    if words.first().is_none_or(String::is_empty) {
        return Err(Problem::new(place, format!("'{what}' names no program"))
            .help("for example: run: bin/hello --port ${PORT}"));
    }
    Ok(words)
}

fn environment(node: Node) -> Result<BTreeMap<String, String>, Problem> {
    let Value::Map(entries) = node.value else {
        return Err(Problem::new(
            node.place,
            format!("'run.environment' must be a mapping (NAME: value), found {}", node.what()),
        ));
    };
    if entries.len() > MOST_ITEMS {
        return Err(Problem::new(
            node.place,
            format!("'run.environment' has {} names, more than the {MOST_ITEMS} accepted", entries.len()),
        ));
    }
    let mut found = BTreeMap::new();
    for (key, value) in entries {
        let named = key.name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && key.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !named {
            return Err(Problem::new(
                key.place,
                format!("'{}' is not a name for an environment variable", shown(&key.name)),
            )
            .help("use letters, digits and '_'"));
        }
        if key.name.starts_with("FLEET_") {
            return Err(Problem::new(
                key.place,
                format!("'{}' is set by the agent: names with FLEET_ are its own", key.name),
            )
            .help("use another name"));
        }
        let what = format!("run.environment.{}", key.name);
        let text = match &value.value {
            Value::Quoted(text) if text.is_empty() => String::new(),
            _ => text(&value, &what)?,
        };
        found.insert(key.name, text);
    }
    Ok(found)
}

fn health(node: Node) -> Result<Probe, Problem> {
    let mut section = Section::open(node, &keys::HEALTH)?;
    let (http, status) = http(section.require("http", "health: {http: \"/healthz\"}")?)?;
    let interval_node = section.take("interval")?;
    let interval =
        interval_node.as_ref().map(|node| duration(node, "health.interval")).transpose()?.unwrap_or(INTERVAL);
    let successes =
        section.take("successes")?.map(|node| integer(&node, "health.successes", 1..=100)).transpose()?.unwrap_or(1);
    let timeout_node = section.take("timeout")?;
    let timeout =
        timeout_node.as_ref().map(|node| duration(node, "health.timeout")).transpose()?.unwrap_or(HEALTH_TIMEOUT);
    if let Some(node) = interval_node.as_ref().filter(|_| interval < SHORTEST_INTERVAL) {
        return Err(Problem::new(
            node.place,
            format!("'health.interval' is {interval}, less than the {SHORTEST_INTERVAL} accepted"),
        )
        .help("write 1s"));
    }
    if let Some(node) =
        timeout_node.or(interval_node).filter(|_| timeout.0 < interval.0.saturating_mul(u64::from(successes)))
    {
        let problem = Problem::new(
            node.place,
            format!(
                "no service can become healthy: {successes} times {interval} do not fit into the timeout of {timeout}"
            ),
        );
        return Err(problem.help("raise health.timeout, or lower health.interval or health.successes"));
    }
    Ok(Probe { http, status, interval, successes, timeout })
}

/// The URL or path, and the status expected.
fn http(node: Node) -> Result<(String, u16), Problem> {
    if !matches!(node.value, Value::Map(_)) {
        return Ok((address(&node, "health.http")?, 200));
    }
    let place = node.place;
    let mut section = Section::open(node, &keys::HTTP)?;
    let (url, path) = (section.take("url")?, section.take("path")?);
    let status =
        section.take("status")?.map(|node| integer(&node, "health.http.status", 100..=599)).transpose()?.unwrap_or(200);
    let status = u16::try_from(status).unwrap_or(200);
    match (url, path) {
        (Some(node), None) => Ok((address(&node, "health.http.url")?, status)),
        (None, Some(node)) => Ok((address(&node, "health.http.path")?, status)),
        (Some(_), Some(node)) => {
            Err(Problem::new(node.place, "'health.http' has both 'url' and 'path'").help("keep one of the two"))
        }
        (None, None) => Err(Problem::new(place, "'health.http' has neither 'url' nor 'path'")
            .help("for example: http: {path: /healthz, status: 200}")),
    }
}

fn address(node: &Node, what: &str) -> Result<String, Problem> {
    let found = text(node, what)?;
    let host = found.strip_prefix("http://").is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
    if found.chars().any(char::is_whitespace) || !(host || found.starts_with('/')) {
        let problem = Problem::new(
            node.place,
            format!("'{what}' is '{}', which is neither a path nor an http:// URL", shown(&found)),
        );
        return Err(
            problem.help("write \"/healthz\", asked on 127.0.0.1:${PORT}, or \"http://127.0.0.1:8080/healthz\"")
        );
    }
    Ok(found)
}

fn proof(node: Node) -> Result<(Grade, Vec<Pin>), Problem> {
    let mut section = Section::open(node, &keys::PROOF)?;
    let grade = section.take("minimum_grade")?.map(|node| parsed(&node, "proof.minimum_grade")).transpose()?;
    let pins = section.take("pin")?.map(pins).transpose()?.unwrap_or_default();
    Ok((grade.unwrap_or(Grade::Digest), pins))
}

/// What `sha256sum` prints, with its name before it.
const DIGEST_EXAMPLE: &str = "digest: \"sha256:…64 hexadecimal digits…\"";
/// What `dpkg-query -W` prints.
const VERSION_EXAMPLE: &str = "version: \"3.0.19-1~deb12u1\"";

fn pins(node: Node) -> Result<Vec<Pin>, Problem> {
    let place = node.place;
    let items = list(node, "proof.pin", "- {path: /usr/lib/*/libssl.so.3, digest: \"sha256:…\"}")?;
    if items.len() > MOST_PINS {
        return Err(Problem::new(
            place,
            format!("'proof.pin' has {} items, more than the {MOST_PINS} accepted", items.len()),
        ));
    }
    let mut pins: Vec<Pin> = Vec::new();
    for item in items {
        let place = item.place;
        let pin = pin(item)?;
        let is_same = |earlier: &Pin| match (earlier, &pin) {
            (Pin::Package { package, .. }, Pin::Package { package: again, .. }) => package == again,
            (Pin::File { path, .. }, Pin::File { path: again, .. }) => path == again,
            (Pin::Package { .. } | Pin::File { .. }, _) => false,
        };
        if pins.iter().any(is_same) {
            return Err(Problem::new(place, "'proof.pin' speaks of this twice, and no file can be both")
                .help("list what is allowed in one item: version: [\"1.0-1\", \"1.0-2\"]"));
        }
        pins.push(pin);
    }
    Ok(pins)
}

fn pin(node: Node) -> Result<Pin, Problem> {
    let mut section = Section::open(node, &keys::PIN)?;
    match section.take("package")? {
        Some(package) => package_pin(section, &package),
        None => file_pin(section),
    }
}

fn file_pin(mut section: Section) -> Result<Pin, Problem> {
    let path_node = section.require("path", "path: /usr/lib/*/libssl.so.3")?;
    let path = text(&path_node, "proof.pin.path")?;
    if !path.starts_with('/') || path.split('/').skip(1).any(|part| matches!(part, "" | "." | ".." | "**")) {
        return Err(Problem::new(
            path_node.place,
            format!("'proof.pin.path' is '{}', which is no plain absolute path", shown(&path)),
        )
        .help("write the path as the kernel shows it, where * stands for anything but '/': /usr/lib/*/libssl.so.3"));
    }
    refuse_beside(&mut section, "version", "a file is pinned by 'digest'; 'version' belongs to 'package'")?;
    let nodes = alternatives(section.require("digest", DIGEST_EXAMPLE)?, "proof.pin.digest", DIGEST_EXAMPLE)?;
    let digests = nodes.iter().map(|node| parsed(node, "proof.pin.digest")).collect::<Result<_, _>>()?;
    Ok(Pin::File { path, digests })
}

fn package_pin(mut section: Section, package_node: &Node) -> Result<Pin, Problem> {
    let package = text(package_node, "proof.pin.package")?;
    // deb-control(5): what else a name has is an architecture behind a colon, which is not compared.
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte);
    if package.is_empty() || !package.bytes().all(is_name) {
        return Err(Problem::new(
            package_node.place,
            format!("'proof.pin.package' is '{}', which is no name of a package", shown(&package)),
        )
        .help("write the name as `dpkg -S FILE` tells it, without an architecture: libssl3"));
    }
    for key in ["path", "digest"] {
        refuse_beside(&mut section, key, "a package is pinned by 'version'; files are pinned by 'path' and 'digest'")?;
    }
    let nodes = alternatives(section.require("version", VERSION_EXAMPLE)?, "proof.pin.version", VERSION_EXAMPLE)?;
    let versions = nodes
        .iter()
        .map(|node| {
            let version = text(node, "proof.pin.version")?;
            if version.is_empty() || version.contains(|character: char| character.is_whitespace()) {
                let problem = format!("'proof.pin.version' is '{}', which is no version", shown(&version));
                return Err(Problem::new(node.place, problem).help("dpkg-query -W PACKAGE tells what is installed"));
            }
            Ok(version)
        })
        .collect::<Result<_, _>>()?;
    Ok(Pin::Package { package, versions })
}

/// Refuses a key that says something else than what the rest of the mapping is about.
fn refuse_beside(section: &mut Section, key: &str, rule: &str) -> Result<(), Problem> {
    match section.take(key)? {
        Some(node) => Err(Problem::new(node.place, format!("'proof.pin.{key}' does not belong here")).help(rule)),
        None => Ok(()),
    }
}

/// One value, or a list of a few.
fn alternatives(node: Node, name: &str, example: &'static str) -> Result<Vec<Node>, Problem> {
    let place = node.place;
    let nodes = match &node.value {
        Value::List(_) => list(node, name, example)?,
        _ => vec![node],
    };
    if nodes.is_empty() || nodes.len() > MOST_PINNED {
        return Err(Problem::new(
            place,
            format!("'{name}' has {} items, and 1 to {MOST_PINNED} are accepted", nodes.len()),
        ));
    }
    Ok(nodes)
}
