//! The command line of `fleet-bench`, read from values so that it can be tested without a process.

use std::ops::RangeInclusive;

use crate::workplace::Earnest;

/// What `--help` and a wrong argument print.
pub const USAGE: &str = "usage: fleet-bench BENCHMARK [--runs N] [-o table|json] ...

  b1            from a command to every node proven: fleetctl deploy against ansible-core
                  --nodes N        on each side, moved a quarter at a time (1 to 64) [default: 8]
  b7            full proof of 20,000 files, 1 GiB: the agent's against b3sum, sha256sum, AIDE and the floor
  b8            quiet sweep of the same, unchanged: against find, rsync, AIDE and the floor
  b9            from tampering with a node to the controller's ledger: against inotifywait + curl
                  --tamperings N   (1 to 2000) [default: 200]; --files N of the release [default: 1000]
                  --seed N         which tamperings, where [default: 1]
  b10           an idle agent that watches 20,000 files, and after deployments: against salt-minion
                  --seconds N      idle (10 to 3600) [default: 120]; --deployments N [default: 50]
  inventory     reading 5,500 hosts: fleetctl ansible inventory against ansible-inventory
  engine        CPU time of an event of deployments of 100, 1,000 and 10,000 nodes: it must not grow

  --runs N      pairs or repetitions that count, after one that does not (1 to 50) [default: 5]
  -o FORMAT     table or json [default: table]
  --rehearse    allow a debug build: everything is done, and the figures mean nothing";

/// More pairs would not make a noisy machine quieter.
const MOST_RUNS: u32 = 50;
/// Each node is an agent, a service and a port here; beyond this the machine measures itself.
const MOST_NODES: u32 = 64;
/// Ten hours.
const MOST_TAMPERINGS: u32 = 2_000;
/// A release has no more than 100,000 entries; a large part of them are directories.
const MOST_FILES: u32 = 50_000;
/// What is idle for an hour is idle.
const MOST_SECONDS: u32 = 3_600;
/// Growth that does not show in so many does not hurt.
const MOST_DEPLOYMENTS: u32 = 1_000;

/// What to measure of benchmark B1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Pairs that count.
    pub runs: u16,
    /// Nodes on each side.
    pub nodes: u16,
}

/// How the report looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// What the command line asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The usage.
    Help,
    /// A benchmark.
    Benchmark {
        /// Which.
        which: Benchmark,
        /// Whether its figures are wanted.
        earnest: Earnest,
        /// How to print it.
        format: Format,
    },
}

/// A benchmark and its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Benchmark {
    /// From a command to every node proven.
    B1(Wish),
    /// Full proof.
    B7 {
        /// Rounds that count.
        runs: u16,
    },
    /// Quiet sweep.
    B8 {
        /// Rounds that count.
        runs: u16,
    },
    /// From tampering to the ledger.
    B9 {
        /// How many.
        tamperings: u32,
        /// Files of the release beside the program.
        files: u32,
        /// Which.
        seed: u64,
    },
    /// An idle agent.
    B10 {
        /// For how long.
        seconds: u32,
        /// And after how many deployments.
        deployments: u32,
    },
    /// Reading an inventory.
    Inventory {
        /// Pairs that count.
        runs: u16,
    },
    /// The engine's law.
    Engine {
        /// Repetitions that count.
        runs: u16,
    },
}

/// Reads the arguments after the program's name.
///
/// # Errors
/// What is wrong, in one line.
pub fn read(words: impl IntoIterator<Item = String>) -> Result<Asked, String> {
    let mut words = words.into_iter();
    let mut which = match words.next().as_deref() {
        Some("b1") => Benchmark::B1(Wish { runs: 5, nodes: 8 }),
        Some("b7") => Benchmark::B7 { runs: 5 },
        Some("b8") => Benchmark::B8 { runs: 5 },
        Some("b9") => Benchmark::B9 { tamperings: 200, files: 1_000, seed: 1 },
        Some("b10") => Benchmark::B10 { seconds: 120, deployments: 50 },
        Some("inventory") => Benchmark::Inventory { runs: 5 },
        Some("engine") => Benchmark::Engine { runs: 5 },
        Some("-h" | "--help") => return Ok(Asked::Help),
        Some(other) => return Err(format!("there is no benchmark '{other}'")),
        None => return Err("which benchmark?".to_owned()),
    };
    let (mut format, mut earnest) = (Format::Table, Earnest::Measurement);
    while let Some(word) = words.next() {
        let (name, inline) = match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        let mut value = || inline.clone().or_else(|| words.next()).ok_or_else(|| format!("{name} needs a value"));
        match (name.as_str(), &mut which) {
            ("-h" | "--help", _) => return Ok(Asked::Help),
            ("--rehearse", _) => earnest = Earnest::Rehearsal,
            ("-o" | "--output", _) => {
                format = match value()?.as_str() {
                    "table" => Format::Table,
                    "json" => Format::Json,
                    other => return Err(format!("{name} {other}: table or json")),
                }
            }
            (
                "--runs",
                Benchmark::B1(Wish { runs, .. })
                | Benchmark::B7 { runs }
                | Benchmark::B8 { runs }
                | Benchmark::Inventory { runs }
                | Benchmark::Engine { runs },
            ) => *runs = number(&name, &value()?, 1..=MOST_RUNS)?,
            ("--nodes", Benchmark::B1(wish)) => wish.nodes = number(&name, &value()?, 1..=MOST_NODES)?,
            ("--tamperings", Benchmark::B9 { tamperings, .. }) => {
                *tamperings = number(&name, &value()?, 1..=MOST_TAMPERINGS)?;
            }
            ("--files", Benchmark::B9 { files, .. }) => *files = number(&name, &value()?, 1..=MOST_FILES)?,
            ("--seed", Benchmark::B9 { seed, .. }) => *seed = number(&name, &value()?, 0..=u32::MAX)?,
            ("--seconds", Benchmark::B10 { seconds, .. }) => *seconds = number(&name, &value()?, 10..=MOST_SECONDS)?,
            ("--deployments", Benchmark::B10 { deployments, .. }) => {
                *deployments = number(&name, &value()?, 0..=MOST_DEPLOYMENTS)?;
            }
            (_, _) => return Err(format!("unknown argument '{name}'")),
        }
    }
    Ok(Asked::Benchmark { which, earnest, format })
}

fn number<T: TryFrom<u32>>(name: &str, text: &str, within: RangeInclusive<u32>) -> Result<T, String> {
    let number = text.parse().ok().filter(|n| within.contains(n)).and_then(|n| n.try_into().ok());
    number.ok_or_else(|| format!("{name} {text}: a number from {} to {}", within.start(), within.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_line(line: &str) -> Result<Asked, String> {
        read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let asked = |which, format| Ok(Asked::Benchmark { which, earnest: Earnest::Measurement, format });
        let (table, json) = (Format::Table, Format::Json);
        assert_eq!(read_line("b1"), asked(Benchmark::B1(Wish { runs: 5, nodes: 8 }), table));
        let wish = Wish { runs: 2, nodes: 24 };
        assert_eq!(read_line("b1 --runs 2 --nodes=24 -o json"), asked(Benchmark::B1(wish), json));
        assert_eq!(read_line("engine"), asked(Benchmark::Engine { runs: 5 }, table));
        assert_eq!(read_line("engine --runs 9 -o json"), asked(Benchmark::Engine { runs: 9 }, json));
        assert_eq!(read_line("inventory --runs 9"), asked(Benchmark::Inventory { runs: 9 }, table));
        assert_eq!(read_line("b7 --runs 3"), asked(Benchmark::B7 { runs: 3 }, table));
        let b9 = Benchmark::B9 { tamperings: 20, files: 1_000, seed: 7 };
        assert_eq!(read_line("b9 --tamperings=20 --seed 7"), asked(b9, table));
        assert_eq!(
            read_line("b10 --rehearse --deployments 0"),
            Ok(Asked::Benchmark {
                which: Benchmark::B10 { seconds: 120, deployments: 0 },
                earnest: Earnest::Rehearsal,
                format: table
            })
        );
        assert_eq!(read_line("--help"), Ok(Asked::Help));
        assert_eq!(read_line("b1 --runs 3 -h"), Ok(Asked::Help));
    }

    #[test]
    fn wrong_arguments_are_named() {
        for (line, part) in [
            ("", "which benchmark"),
            ("b2", "'b2'"),
            ("b1 --runs 0", "1 to 50"),
            ("b1 --nodes 65", "1 to 64"),
            ("b1 --nodes", "--nodes needs"),
            ("b1 -o yaml", "table or json"),
            ("b1 --fast", "'--fast'"),
            ("b10 --seconds 9", "10 to 3600"),
            ("b9 --runs 5", "'--runs'"),
            // Its sizes are those of the law.
            ("engine --nodes 8", "'--nodes'"),
        ] {
            let error = read_line(line).expect_err("a wrong line is refused");
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
