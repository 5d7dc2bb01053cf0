//! The simulator: stories of what users of other tools report as broken, played against the real engine, each with its
//! transcript written down beside it; scripts that are wrong, each with its one clear error; and the exit codes of the
//! real program.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fleetctl::simulate::{LARGEST_SCRIPT, Played, parse, play};

fn stories() -> Vec<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simulate");
    let mut paths: Vec<PathBuf> = fs::read_dir(here).unwrap().map(|item| item.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "story"));
    paths.sort();
    paths
}

fn told(script: &str) -> Played {
    play(&parse(Path::new("x.story"), script).unwrap())
}

#[test]
fn every_story_is_played_as_it_is_written_down() {
    let mut wrong = Vec::new();
    let stories = stories();
    assert!(stories.len() >= 30, "only {} stories were found", stories.len());
    for path in stories {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.lines().count() < 80, "{}: a story is short", path.display());
        assert!(text.starts_with("# ") && text.contains("\nexpect "), "{}: it says why, and what for", path.display());
        let played = play(&parse(&path, &text).unwrap_or_else(|error| panic!("{error}")));
        if played.unmet > 0 {
            wrong.push(format!("{}: {} of what is expected does not hold", path.display(), played.unmet));
        }
        let golden = path.with_extension("transcript");
        // Written anew with FLEET_BLESS=1; the difference is for people to read.
        if std::env::var_os("FLEET_BLESS").is_some() {
            fs::write(&golden, &played.transcript).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        if played.transcript != expected {
            let (found, line) = (&played.transcript, first_difference(&played.transcript, &expected));
            wrong.push(format!("{}: from line {line} on it is another story:\n{found}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn first_difference(one: &str, other: &str) -> usize {
    one.lines().zip(other.lines()).take_while(|(a, b)| a == b).count() + 1
}

#[test]
fn the_same_script_gives_the_same_transcript() {
    for path in stories() {
        let text = fs::read_to_string(&path).unwrap();
        let story = parse(&path, &text).unwrap();
        assert_eq!(play(&story).transcript, play(&story).transcript, "{}", path.display());
    }
}

/// The beginning of a good script, so that only what follows can be wrong.
const BEGIN: &str = "fleet 4 nodes\nservice web 1.0.0 -> 2.0.0\ndeploy --gate test\n";

#[test]
fn a_wrong_line_is_named_with_what_why_and_how() {
    for (line, error) in [
        ("flet 3 nodes", "x.story:4: 'flet' is not a statement\n  help: did you mean 'fleet'?"),
        (
            "expect outcome \"converged",
            "x.story:4: a quote is not closed\n  help: end the text with \" on the same line",
        ),
        ("fleet 3 nodes", "x.story:4: there is a fleet already\n  help: write one 'fleet' line"),
        ("deploy --segmets 4", "x.story:4: '--segmets' is not a flag of deploy\n  help: did you mean '--segments'?"),
        ("deploy --min-healthy 101%", "x.story:4: --min-healthy: '101%' is not a number of healthy nodes"),
        (
            "deploy --pause-after 0",
            "x.story:4: --pause-after: '0' is not the number of a segment\n  help: segments are counted from 1",
        ),
        ("deploy --deadline 0s", "x.story:4: --deadline is zero: nothing would be in time"),
        (
            "deploy --migrate-place first",
            "x.story:4: --migrate-place: 'first' is not a place for a migration: write before:N or after:N",
        ),
        ("deploy --waive n3", "x.story:4: --waive needs a node and a reason\n  help: --waive n3=\"disk replaced\""),
        ("deploy --bake", "x.story:4: --bake is missing at the end of the line\n  help: deploy --segments 4"),
        (
            "node n3 refusess",
            "x.story:4: 'refusess' is not a way for a node to behave\n  help: did you mean 'refuses'?",
        ),
        ("node n3 slow 5", "x.story:4: the time: '5' is not a duration: write a number with a unit"),
        ("node n3 crashes every 1ms", "x.story:4: a service that dies more than once a second was never up"),
        ("node n3 lies at 5s", "x.story:4: 'at' is too much on this line\n  help: node n3 refuses after 3s"),
        (
            "node n5 lies",
            "x.story:4: there is no node 'n5' in this story\n  help: the fleet has n1 to n4; others must join: at 12s: join n5",
        ),
        ("at 5s: lose n5", "x.story:4: there is no node 'n5' in this story"),
        ("expect n5 holds 1.0.0", "x.story:4: there is no node 'n5' in this story"),
        ("at 5s pause", "x.story:4: the time must end with a colon\n  help: at 12s: pause by alice"),
        ("at soon: pause", "x.story:4: the time: 'soon' is not a duration"),
        ("at 5s: pauze", "x.story:4: 'pauze' is not something that happens\n  help: did you mean 'pause'?"),
        ("at 5s: crash n1", "x.story:4: 'for' is missing\n  help: at 12s: crash n2 for 10s"),
        ("at 5s: node n1 unhealthy", "x.story:4: 'unhealthy' says how a node is at the beginning, not later"),
        ("gate smoke fails", "x.story:4: there is no gate 'smoke' in this story\n  help: ask it: deploy --gate smoke"),
        ("at 5s: gate smoke fails", "x.story:4: there is no gate 'smoke' in this story"),
        (
            "gate test maybe",
            "x.story:4: 'maybe' is not an answer to a gate\n  help: write one of: passes, fails, inconclusive, silent",
        ),
        (
            "run until tomorrow",
            "x.story:4: 'finished' is expected here, not 'tomorrow'\n  help: run until finished, or run 60s",
        ),
        ("run 400d", "x.story:4: the time: '400d' is longer than 366 days"),
        ("expect outcome success", "x.story:4: 'success' is not an outcome\n  help: write one of: converged,"),
        ("expect n1 is happy", "x.story:4: 'happy' is not a state of a node"),
        (
            "expect exit 0 at 5s",
            "x.story:4: this is expected of the whole story, not of a moment\n  help: leave 'at' away",
        ),
        ("expect miracles", "x.story:4: 'miracles' is not something that can be expected"),
        ("service web 2.0.0", "x.story:4: there is a service already"),
    ] {
        let refused = parse(Path::new("x.story"), &format!("{BEGIN}{line}\n")).unwrap_err().to_string();
        assert!(refused.starts_with(error), "{line}:\n{refused}\n{error}");
        assert!(refused.contains("\n  help: "), "{line}: {refused}");
    }
}

#[test]
fn what_a_story_lacks_is_said() {
    for (script, error) in [
        ("", "x.story:1: the story has no 'service' line\n  help: service web 1.0.0 -> 2.0.0"),
        ("service web 1.0.0 -> 2.0.0", "x.story:1: the story has no 'fleet' line\n  help: fleet 8 nodes"),
        ("service web -> 1.0.0\nfleet 1 node", "x.story:2: the story has no 'deploy' line"),
        ("service web 1.0.0", "x.story:1: '->' is missing at the end of the line"),
        ("fleet 0 nodes", "x.story:1: 0 nodes cannot be played\n  help: write 1 to 500 nodes"),
        ("fleet 501 nodes", "x.story:1: 501 nodes cannot be played"),
        ("fleet 4 nodes az", "x.story:1: 'az' is not a label with values"),
    ] {
        let refused = parse(Path::new("x.story"), script).unwrap_err().to_string();
        assert!(refused.starts_with(error), "{refused}");
    }
    let long = "#".repeat(LARGEST_SCRIPT + 1);
    assert!(parse(Path::new("x.story"), &long).unwrap_err().what.contains("262144 are read at most"));
    assert!(parse(Path::new("x.story"), &"\n".repeat(5_001)).unwrap_err().what.contains("more than 5000 lines"));
}

/// An expectation that could not fail would be worth nothing: each kind fails here, and says what is there instead.
#[test]
fn what_does_not_hold_is_said_with_what_is_there_instead() {
    for (expectation, instead) in [
        ("outcome converged", "it is rolled-back"),
        ("outcome refused", "it is rolled-back"),
        ("outcome rolled-back at 1s", "it is running"),
        ("outcome running", "it is rolled-back"),
        ("exit 0", "it is 3"),
        ("n1,n2 hold 2.0.0", "n1 runs 1.0.0"),
        ("n1 holds nothing", "n1 runs 1.0.0"),
        ("n1 holds 1.0.0 at 1s", "n1 is being changed"),
        ("n2 is verified at 4s", "n2 is pending"),
        ("fact \"converged\"", "no fact says so"),
        ("never \"rolled_back\"", "a fact says: ROLLED_BACK"),
        ("order \"rolling back\" then \"segment 1/2: started\"", "'segment 1/2: started' comes first"),
        ("order \"segment 3\" then \"started\"", "no fact says 'segment 3'"),
        ("order \"started\" then \"segment 3\"", "no fact says 'segment 3'"),
        ("said \"hold 3.0.0\"", "no line says so"),
        ("waiting \"the bake\"", "it never did"),
        ("waiting \"the bake\" at 1s", "it waits for: segment 1: proof from n1 (at work)"),
        ("serving at least 2", "once only 1 served"),
        ("migration runs 1", "it was begun 0 times"),
        ("outcome rolled-back at 1h", "the story was over before 1h"),
    ] {
        let script = format!(
            "fleet 2 nodes\nservice web 1.0.0 -> 2.0.0\ndeploy --segments 2\nnode n1 refuses after 5s\nexpect {expectation}\n"
        );
        let played = told(&script);
        let line = format!("FAILED  expect {expectation} (line 5): {instead}\n");
        assert_eq!(played.unmet, 1, "{expectation}: {}", played.transcript);
        assert!(played.transcript.contains(&line), "{line}{}", played.transcript);
    }
}

#[test]
fn nothing_that_comes_from_a_script_moves_the_cursor() {
    let script = format!("{BEGIN}node n1 refuses after 1s \"\u{1b}[2Jgone\"\nexpect never \"\u{1b}[2J\"\n");
    assert!(!told(&script).transcript.contains('\u{1b}'));
    let refused = parse(Path::new("x.story"), "\u{1b}[2J").unwrap_err();
    assert!(!refused.to_string().contains('\u{1b}'));
}

#[test]
fn a_story_without_an_end_is_broken_off() {
    let played = told("fleet 500 nodes\nservice web 1.0.0 -> 2.0.0\ndeploy --segments 1\nrun 90d\nexpect exit 0\n");
    assert!(played.transcript.contains("broken off after 1000000 looks at nodes"), "{}", played.transcript);
    assert_eq!(played.unmet, 0, "what was played is judged all the same");
}

#[test]
fn the_program_ends_with_0_1_or_65() {
    let dir = tempfile::tempdir().unwrap();
    let run = |name: &str, script: Option<&str>| {
        let path = dir.path().join(name);
        if let Some(script) = script {
            fs::write(&path, script).unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleetctl"));
        command.arg("simulate").arg(&path).env_clear().env("HOME", dir.path()).env("LANG", "C.UTF-8");
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, err) = run("good.story", Some(&format!("{BEGIN}expect outcome converged\n")));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.ends_with("expect  ok      expect outcome converged\n"), "{out}");
    let (code, out, err) = run("bad.story", Some(&format!("{BEGIN}expect exit 3\n")));
    assert_eq!((code, err.as_str()), (Some(1), "error: 1 of what was expected does not hold\n"));
    assert!(out.contains("FAILED  expect exit 3 (line 4): it is 0"), "{out}");
    let (code, out, err) = run("wrong.story", Some("fleet 4 noodles\n"));
    assert_eq!((code, out.as_str()), (Some(65), ""));
    assert!(err.contains("wrong.story:1: 'node' is expected here, not 'noodles'\n  help: fleet 8 nodes"), "{err}");
    let (code, _, err) = run("missing.story", None);
    assert_eq!(code, Some(65), "{err}");
}
