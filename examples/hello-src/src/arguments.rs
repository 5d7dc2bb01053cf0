//! The command line of the example service, read from values so that it can be tested without a process.

use std::net::{IpAddr, Ipv4Addr};

/// What `--help` and a wrong argument print.
pub(crate) const USAGE: &str = "usage: hello --port N [--bind ADDRESS]   serve HTTP; PORT in the environment also works
       hello --worker                    serve nothing, wait for SIGTERM";

/// The arguments of one start.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// What to do.
    pub(crate) mode: Mode,
}

/// What the process is for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Print the usage.
    Help,
    /// Wait for SIGTERM without listening: an orphan of a release, for tests of drift.
    Worker,
    /// Serve HTTP.
    Server {
        /// The address to listen on.
        bind: IpAddr,
        /// The port to listen on; 0 lets the kernel choose.
        port: u16,
    },
}

impl Arguments {
    /// Reads the arguments after the program's name; `environment_port` is the value of `PORT`, which `--port` overrides.
    pub(crate) fn read(
        words: impl IntoIterator<Item = String>,
        environment_port: Option<String>,
    ) -> Result<Arguments, String> {
        let mut bind = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let mut port = None;
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let (name, inline) = match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word, None),
            };
            match name.as_str() {
                "-h" | "--help" => return Ok(Arguments { mode: Mode::Help }),
                "--worker" => return Ok(Arguments { mode: Mode::Worker }),
                "--port" => {
                    let value = inline.or_else(|| words.next()).ok_or("--port needs a number")?;
                    port = Some(parse_port(&value)?);
                }
                "--bind" => {
                    let value = inline.or_else(|| words.next()).ok_or("--bind needs an address")?;
                    bind = value.parse().map_err(|_| format!("--bind {value:?} is not an IP address"))?;
                }
                _ => return Err(format!("unknown argument {name:?}")),
            }
        }
        let port = match (port, environment_port) {
            (Some(port), _) => port,
            (None, Some(value)) => parse_port(&value)?,
            (None, None) => return Err("no port: give --port N or set PORT".to_owned()),
        };
        Ok(Arguments { mode: Mode::Server { bind, port } })
    }
}

fn parse_port(value: &str) -> Result<u16, String> {
    value.parse().map_err(|_| format!("port {value:?} is not a number from 0 to 65535"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str], port: Option<&str>) -> Result<Mode, String> {
        Arguments::read(words.iter().map(|word| (*word).to_owned()), port.map(str::to_owned))
            .map(|arguments| arguments.mode)
    }

    #[test]
    fn the_argument_wins_over_the_environment() {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(read(&["--port", "81"], Some("82")), Ok(Mode::Server { bind: loopback, port: 81 }));
        assert_eq!(read(&[], Some("82")), Ok(Mode::Server { bind: loopback, port: 82 }));
        assert_eq!(
            read(&["--port=83", "--bind=::1"], None).map(|mode| format!("{mode:?}")),
            Ok("Server { bind: ::1, port: 83 }".to_owned())
        );
        assert_eq!(read(&["--worker"], None), Ok(Mode::Worker));
    }

    #[test]
    fn wrong_arguments_are_named() {
        for (words, port, part) in [
            (&["--port", "70000"][..], None, "70000"),
            (&["--port"][..], None, "--port"),
            (&[][..], None, "PORT"),
            (&[][..], Some("x"), "\"x\""),
            (&["--bind", "here", "--port", "1"][..], None, "here"),
            (&["--prot", "1"][..], None, "--prot"),
        ] {
            let error = read(words, port).expect_err("a wrong argument is refused");
            assert!(error.contains(part), "{error}");
        }
    }
}
