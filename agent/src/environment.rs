//! The environment and the command line of a service, from what its release says and what the node's administrator
//! says. Whether the program exists is `platform`'s to find out.

use std::collections::BTreeMap;

use fleet::release::Run;

/// What a service is run with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// Program and arguments, variables replaced.
    pub command: Vec<String>,
    /// The whole environment.
    pub environment: BTreeMap<String, String>,
    /// Whom to run as; None keeps the agent's own user.
    pub user: Option<String>,
}

/// Whether the agent has root's rights, which a service never gets by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// It has.
    Root,
    /// It is an ordinary user.
    Ordinary,
}

/// Search path of a service that declares none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Whom a service runs as when nobody named anybody and the agent is root: never root.
const NOBODY: &str = "nobody";

/// The environment: the node's own values win, since `PORT` is the node's to give.
pub fn environment(run: &Run, node: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut environment = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
    environment.extend(run.environment.clone());
    environment.extend(node.clone());
    environment
}

/// Puts together what a service is run with.
///
/// # Errors
/// A variable that nobody sets, or a command that is empty.
pub fn prepare(
    run: &Run,
    node: &BTreeMap<String, String>,
    service_user: Option<&str>,
    rights: Rights,
) -> Result<Prepared, String> {
    let environment = environment(run, node);
    let command = run.command.iter().map(|word| expand(word, &environment)).collect::<Result<Vec<_>, _>>()?;
    if command.is_empty() {
        return Err("the release's run.command is empty".to_owned());
    }
    Ok(Prepared { command, environment, user: user(run, service_user, rights) })
}

/// Whom to run as; None keeps the agent's own user.
pub fn user(run: &Run, service_user: Option<&str>, rights: Rights) -> Option<String> {
    let named = run.user.as_deref().or(service_user);
    match rights {
        Rights::Root => Some(named.unwrap_or(NOBODY).to_owned()),
        // The release's wish is passed on, so that its impossibility is told and not ignored.
        Rights::Ordinary => run.user.clone(),
    }
}

/// Replaces `${NAME}`; `$${` stands for `${` itself.
///
/// # Errors
/// A name that is not set, or a `${` without its end.
pub fn expand(text: &str, environment: &BTreeMap<String, String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if at > 0 && rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let after = &rest[at + 2..];
        let end = after.find('}').ok_or_else(|| format!("'{}' has a ${{ without its }}", text.escape_default()))?;
        let name = &after[..end];
        let value = environment.get(name).ok_or_else(|| {
            format!(
                "'{}' needs the variable {}, which neither the release nor agent.toml sets",
                text.escape_default(),
                name.escape_default()
            )
        })?;
        out.push_str(value);
        rest = &after[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use fleet::Millis;

    fn run(command: &[&str], user: Option<&str>) -> Run {
        Run {
            command: command.iter().map(ToString::to_string).collect(),
            environment: BTreeMap::from([("A".into(), "1".into()), ("PORT".into(), "1".into())]),
            user: user.map(Into::into),
            stop_timeout: Millis(1),
        }
    }

    #[test]
    fn variables_are_replaced_and_never_guessed() {
        let node = BTreeMap::from([("PORT".to_owned(), "18081".to_owned())]);
        let prepared =
            prepare(&run(&["bin/x", "--port=${PORT}", "${A}${A}", "$${A}", "$5"], None), &node, None, Rights::Ordinary)
                .unwrap();
        assert_eq!(prepared.command, ["bin/x", "--port=18081", "11", "${A}", "$5"]);
        assert_eq!(prepared.environment["PORT"], "18081", "the node gives the port");
        for bad in ["${B}", "${A"] {
            assert!(prepare(&run(&[bad], None), &node, None, Rights::Ordinary).is_err(), "{bad}");
        }
        assert!(prepare(&run(&[], None), &node, None, Rights::Ordinary).is_err());
    }

    #[test]
    fn nobody_becomes_root_by_default() {
        let user = |release: Option<&str>, node: Option<&str>, rights| {
            prepare(&run(&["x"], release), &BTreeMap::new(), node, rights).unwrap().user
        };
        assert_eq!(user(None, None, Rights::Root).as_deref(), Some("nobody"));
        assert_eq!(user(None, Some("svc"), Rights::Root).as_deref(), Some("svc"));
        assert_eq!(user(Some("root"), Some("svc"), Rights::Root).as_deref(), Some("root"), "named by the release");
        assert_eq!(user(None, Some("svc"), Rights::Ordinary), None);
        assert_eq!(user(Some("shop"), None, Rights::Ordinary).as_deref(), Some("shop"));
    }
}
