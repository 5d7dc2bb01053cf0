//! The command line of `fleet-bench`, read from values so that it can be tested without a process.

/// What `--help` and a wrong argument print.
pub const USAGE: &str = "usage: fleet-bench b1 [--runs N] [--nodes N] [-o table|json]
       fleet-bench engine [--runs N] [-o table|json]
       fleet-bench inventory [--runs N] [-o table|json]

  b1            from a command to every node proven: fleetctl deploy against ansible-core
  engine        CPU time of an event of deployments of 100, 1,000 and 10,000 nodes: it must not grow
  inventory     reading 5,500 hosts: fleetctl ansible inventory against ansible-inventory
  --runs N      pairs or repetitions that count, after one that does not (1 to 50) [default: 5]
  --nodes N     nodes on each side, moved a quarter at a time (1 to 64) [default: 8]
  -o FORMAT     table or json [default: table]";

/// More pairs would not make a noisy machine quieter.
const MOST_RUNS: u16 = 50;
/// Each node is an agent, a service and a port here; beyond this the machine measures itself.
const MOST_NODES: u16 = 64;

/// What to measure.
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
    /// Benchmark B1.
    B1 {
        /// Its size.
        wish: Wish,
        /// How to print it.
        format: Format,
    },
    /// Reading an inventory.
    Inventory {
        /// Pairs that count.
        runs: u16,
        /// How to print it.
        format: Format,
    },
    /// The engine's law.
    Engine {
        /// Repetitions that count.
        runs: u16,
        /// How to print it.
        format: Format,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Benchmark {
    B1,
    Engine,
    Inventory,
}

/// Reads the arguments after the program's name.
///
/// # Errors
/// What is wrong, in one line.
pub fn read(words: impl IntoIterator<Item = String>) -> Result<Asked, String> {
    let mut words = words.into_iter();
    let benchmark = match words.next().as_deref() {
        Some("b1") => Benchmark::B1,
        Some("engine") => Benchmark::Engine,
        Some("inventory") => Benchmark::Inventory,
        Some("-h" | "--help") => return Ok(Asked::Help),
        Some(other) => return Err(format!("there is no benchmark '{other}'")),
        None => return Err("which benchmark?".to_owned()),
    };
    let mut wish = Wish { runs: 5, nodes: 8 };
    let mut format = Format::Table;
    while let Some(word) = words.next() {
        let (name, inline) = match word.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        let mut value = || inline.clone().or_else(|| words.next()).ok_or_else(|| format!("{name} needs a value"));
        match name.as_str() {
            "-h" | "--help" => return Ok(Asked::Help),
            "--runs" => wish.runs = number(&name, &value()?, MOST_RUNS)?,
            "--nodes" if benchmark == Benchmark::B1 => wish.nodes = number(&name, &value()?, MOST_NODES)?,
            "-o" | "--output" => {
                format = match value()?.as_str() {
                    "table" => Format::Table,
                    "json" => Format::Json,
                    other => return Err(format!("{name} {other}: table or json")),
                }
            }
            _ => return Err(format!("unknown argument '{name}'")),
        }
    }
    Ok(match benchmark {
        Benchmark::B1 => Asked::B1 { wish, format },
        Benchmark::Engine => Asked::Engine { runs: wish.runs, format },
        Benchmark::Inventory => Asked::Inventory { runs: wish.runs, format },
    })
}

fn number(name: &str, text: &str, most: u16) -> Result<u16, String> {
    let number = text.parse().ok().filter(|n| (1..=most).contains(n));
    number.ok_or_else(|| format!("{name} {text}: a number from 1 to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_line(line: &str) -> Result<Asked, String> {
        read(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let wish = Wish { runs: 5, nodes: 8 };
        assert_eq!(read_line("b1"), Ok(Asked::B1 { wish, format: Format::Table }));
        let wish = Wish { runs: 2, nodes: 24 };
        assert_eq!(read_line("b1 --runs 2 --nodes=24 -o json"), Ok(Asked::B1 { wish, format: Format::Json }));
        assert_eq!(read_line("engine"), Ok(Asked::Engine { runs: 5, format: Format::Table }));
        assert_eq!(read_line("engine --runs 9 -o json"), Ok(Asked::Engine { runs: 9, format: Format::Json }));
        assert_eq!(read_line("inventory"), Ok(Asked::Inventory { runs: 5, format: Format::Table }));
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
            // Its sizes are those of the law.
            ("engine --nodes 8", "'--nodes'"),
        ] {
            let error = read_line(line).expect_err("a wrong line is refused");
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
