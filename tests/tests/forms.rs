//! The forms of the drift report, made by a real fleet and judged by the programs that read them: what is well, what
//! differs, a name as an enemy would choose it, a silent node, old data, no controller. In none of them does not knowing
//! look like nothing to see. And the ready-made files for cron, systemd, Icinga and Prometheus.
#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use fleet_tests::readers::{self, Perf};
use fleet_tests::workspace::Workspace;
use fleet_tests::{Fleet, Output, Switch, promised, until};
use nix::sys::signal::Signal;

/// What a file could be called by somebody who wants to be overlooked.
const HOSTILE: &[u8] = b"a|b\"c'd\ne<f>\xff`g` &amp; [x](y)";

fn examples() -> PathBuf {
    Workspace::built().root.join("examples/monitoring")
}

/// Every form of one state of the fleet, each judged by its reader; `flags` go to every call.
struct Forms {
    json: Output,
    jsonl: Output,
    csv: Output,
    markdown: Output,
    junit: Output,
    nagios: Output,
    metrics: Output,
}

impl Forms {
    #[track_caller]
    fn of(fleet: &Fleet, flags: &[&str]) -> Forms {
        let form = |name: &str| fleet.ctl(["drift", "-o", name].iter().chain(flags));
        let forms = Forms {
            json: form("json"),
            jsonl: form("jsonl"),
            csv: form("csv"),
            markdown: form("markdown"),
            junit: form("junit"),
            nagios: form("nagios"),
            metrics: form("prometheus"),
        };
        readers::xmllint_junit(&forms.junit.stdout);
        readers::promtool_metrics(&forms.metrics.stdout);
        if forms.json.code != 69 {
            readers::jsonschema("drift-report.schema.json", &forms.json.json());
            readers::python_csv(&forms.csv.stdout);
            let last = forms.jsonl.stdout.lines().last().unwrap();
            assert!(last.starts_with(r#"{"type":"summary","#), "{}", forms.jsonl);
        }
        for line in forms.markdown.stdout.lines().filter(|line| line.starts_with('|')) {
            let bars = line.replace("\\\\", "").replace("\\|", "").matches('|').count();
            assert_eq!(bars, 10, "nine columns: {line}");
        }
        forms
    }

    fn all(&self) -> [&Output; 6] {
        [&self.json, &self.jsonl, &self.csv, &self.markdown, &self.junit, &self.metrics]
    }

    /// Every exit code but the plugin's.
    #[track_caller]
    fn end_with(&self, code: i32) -> &Self {
        for output in self.all() {
            assert_eq!(output.code, code, "exit code of {output}");
        }
        self
    }

    /// Nobody knows: said in each of them, by each of them alone.
    #[track_caller]
    fn know_nothing(&self, plugin: &[i32]) {
        for output in [&self.json, &self.jsonl] {
            assert!(output.stdout.contains("\"fresh\":false"), "{output}");
        }
        assert!(self.csv.stdout.contains("\r\n,,unknown,"), "{}", self.csv);
        self.know_nothing_without_report(plugin);
    }

    #[track_caller]
    fn know_nothing_without_report(&self, plugin: &[i32]) {
        assert!(self.markdown.stdout.contains("**UNKNOWN**"), "{}", self.markdown);
        assert!(!self.markdown.stdout.contains("drift: OK"), "{}", self.markdown);
        assert!(
            !self.junit.stdout.contains(" errors=\"0\" skipped=\"0\" time=\"0\">\n  <testsuite name=\"the report\"")
        );
        assert!(self.junit.stdout.contains(">UNKNOWN</error>"), "{}", self.junit);
        assert!(self.metrics.stdout.contains("\nfleet_drift_up 0\n"), "{}", self.metrics);
        let zero = |line: &str| line.starts_with("fleet_drift_nodes") && line.ends_with(" 0");
        assert!(!self.metrics.stdout.lines().any(zero), "{}", self.metrics);
        assert!(plugin.contains(&self.nagios.code), "{}", self.nagios);
        if self.nagios.code == 3 {
            assert!(self.nagios.stdout.starts_with("FLEET DRIFT UNKNOWN - "), "{}", self.nagios);
        }
    }
}

#[track_caller]
fn value(perfs: &[Perf], label: &str) -> Vec<String> {
    let found = perfs.iter().find(|perf| perf.label == label);
    found.unwrap_or_else(|| panic!("no {label} in {perfs:?}")).fields.clone()
}

#[test]
fn every_form_is_what_its_reader_accepts() {
    let fleet = Fleet::on_version_1(3);
    until("all is well", || (fleet.ctl(["drift", "--quiet"]).code == 0).then_some(()));

    // Well.
    let forms = Forms::of(&fleet, &[]);
    forms.end_with(0);
    assert_eq!((forms.csv.stdout.lines().count(), forms.jsonl.stdout.lines().count()), (1, 2));
    assert!(forms.markdown.stdout.starts_with("### Fleet drift: OK\n"), "{}", forms.markdown);
    assert!(forms.junit.stdout.contains(r#"tests="4" failures="0" errors="0""#), "{}", forms.junit);
    assert!(forms.metrics.stdout.contains("\nfleet_drift_up 1\n"), "{}", forms.metrics);
    assert!(forms.metrics.stdout.contains("fleet_drift_nodes{service=\"hello\",env=\""), "{}", forms.metrics);
    assert!(forms.metrics.stdout.contains("fleet_nodes{state=\"ready\"} 3\n"), "{}", forms.metrics);
    assert_eq!(forms.metrics.stdout.matches("fleet_node_release_info{").count(), 3, "{}", forms.metrics);
    assert!(forms.nagios.stdout.starts_with("FLEET DRIFT OK - 0 of 3 nodes drifted, 0 unreachable, 3 compliant | "));
    assert_eq!(forms.nagios.code, 0);
    // There never was a self-test of the alarm: that is said where there is a field for it, and nowhere else.
    assert!(forms.jsonl.stdout.contains("\"selfTest\":null"), "{}", forms.jsonl);
    for output in [&forms.csv, &forms.markdown, &forms.junit, &forms.nagios] {
        assert!(!output.stdout.contains("self-test"), "{output}");
    }
    if let Some(perfs) = readers::monitoring_plugin(&forms.nagios) {
        assert_eq!(perfs.len(), 6, "{perfs:?}");
        assert_eq!(value(&perfs, "drifted_nodes"), ["0", "", "0", "", "0", "3"]);
        assert_eq!(value(&perfs, "compliant"), ["100", "%", "", "", "0", "100"]);
        assert!(perfs.iter().all(|perf| perf.state == "0"), "{perfs:?}");
    }
    let verified = fleet.verify().expect(0);
    readers::jsonschema("verify-report.schema.json", &verified.json());
    readers::xmllint_junit(&fleet.ctl(["verify", "-o", "junit"]).expect(0).stdout);

    // A file that nobody brought, with a name that none of the forms can write as it is.
    let planted = fleet.current("n2", "hello").join(OsStr::from_bytes(HOSTILE));
    fs::write(&planted, "x").unwrap();
    promised("the planted file is found", || fleet.finding("n2", "extra"));
    let forms = Forms::of(&fleet, &["-w", "0", "-c", "1"]);
    forms.end_with(2);
    for output in forms.all() {
        assert!(output.stdout.contains("extra"), "{output}");
    }
    assert!(forms.junit.stdout.contains(r#"tests="4" failures="1" errors="0""#), "{}", forms.junit);
    assert_eq!(forms.nagios.code, 1, "{}", forms.nagios);
    if let Some(perfs) = readers::monitoring_plugin(&forms.nagios) {
        assert_eq!(value(&perfs, "drifted_nodes"), ["1", "", "0", "1", "0", "3"]);
        assert_eq!(perfs[0].state, "1", "the thresholds say the same as the exit code");
    }
    for code in [("0", 2), ("1", 1), ("@1:2", 2)] {
        let output = fleet.ctl(["drift", "--format", "nagios", "-c", code.0]).expect(code.1);
        readers::monitoring_plugin(&output);
    }
    // Other kinds, other services: not these.
    fleet.ctl(["drift", "--kind", "mode,file"]).expect(0).never_says("extra");
    fleet.ctl(["drift", "--kind", "extra"]).expect(2).says("n2");
    fleet.ctl(["drift", "--env", "nowhere"]).expect(1).one_error().says("UNKNOWN");

    // Somebody who looks at the file all the time sees whole ones only.
    let file = fleet.folder().join("fleet.prom");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0;
            while !over.load(Ordering::Relaxed) {
                if let Ok(text) = fs::read_to_string(&file) {
                    assert!(text.starts_with("# HELP fleet_drift_up ") && text.ends_with("\n"), "{text}");
                    assert!(text.contains("\nfleet_certificate_not_after_timestamp_seconds{"), "{text}");
                    seen += 1;
                }
            }
            seen
        });
        for _ in 0..8 {
            let line = ["drift", "-q", "--format", "textfile", "--output-file", &file.to_string_lossy()];
            assert_eq!(fleet.ctl(line).expect(2).all(), "", "nothing for cron to mail");
        }
        over.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o644);
    let beside = fs::read_dir(fleet.folder())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".new-"));
    assert_eq!(beside.count(), 0, "no temporary file is left");
    readers::promtool_metrics(&fs::read_to_string(&file).unwrap());
    fleet.ctl(["drift", "--format", "textfile"]).expect(64).says("--output-file");
    fleet.ctl(["drift", "--output-file", "/dev/null"]).expect(64).one_error();
    fleet.ctl(["drift", "--output-file", "/nonexistent/x"]).expect(2).one_error();

    // A silent node is no clean node, whatever kind is asked for.
    fs::remove_file(&planted).unwrap();
    fleet.power_off("n3");
    promised("the silent node is found", || fleet.finding("n3", "unreachable"));
    until("the file is forgotten", || fleet.finding("n2", "extra").is_none().then_some(()));
    let forms = Forms::of(&fleet, &["--kind", "mode"]);
    forms.end_with(2);
    assert!(forms.junit.stdout.contains(r#"<error type="unreachable""#), "{}", forms.junit);
    assert!(forms.metrics.stdout.contains("kind=\"unreachable\"} 1\n"), "{}", forms.metrics);
    assert!(forms.nagios.code == 2 && forms.nagios.stdout.contains(", 1 unreachable"), "{}", forms.nagios);
    readers::monitoring_plugin(&forms.nagios);
    let report = fleet.verify().expect(2);
    readers::jsonschema("verify-report.schema.json", &report.json());
    readers::xmllint_junit(&fleet.ctl(["verify", "-o", "junit"]).expect(2).stdout);
    fleet.start_agent("n3");
    until("all is well again", || (fleet.ctl(["drift", "--quiet"]).code == 0).then_some(()));

    // Old data: agents that stand still, asked about before anybody calls them silent.
    let agents: Vec<_> = fleet.nodes().iter().map(|node| fleet.agent(node).unwrap()).collect();
    agents.iter().for_each(|agent| agent.signal(Signal::SIGSTOP));
    until("the data is old", || (fleet.ctl(["drift", "--max-age", "1s"]).code != 0).then_some(()));
    let forms = Forms::of(&fleet, &["--max-age", "1s"]);
    // Meanwhile they may have been called silent, which is critical.
    forms.know_nothing(&[2, 3]);
    for output in forms.all() {
        assert!(matches!(output.code, 1 | 2), "{output}");
    }
    agents.iter().for_each(|agent| agent.signal(Signal::SIGCONT));

    // A controller that hangs: a plugin answers in its time.
    let controller = fleet.controller().unwrap();
    controller.signal(Signal::SIGSTOP);
    let plugin = fleet.ctl(["drift", "--format", "nagios", "-t", "1"]).expect(3);
    assert_eq!(plugin.stdout, "FLEET DRIFT UNKNOWN - no report within 1s\n", "{plugin}");
    fleet.ctl(["drift", "-t", "1s", "--quiet"]).expect(69).says("UNKNOWN").one_error();
    controller.signal(Signal::SIGCONT);

    // No controller: the file that said otherwise is replaced, and the plugin says it on standard output.
    fleet.kill_controller();
    let forms = Forms::of(&fleet, &[]);
    forms.end_with(69);
    forms.know_nothing_without_report(&[3]);
    readers::monitoring_plugin(&forms.nagios);
    let nothing = fleet.ctl(["verify", "-o", "junit"]).expect(69).one_error();
    readers::xmllint_junit(&nothing.stdout);
    assert!(nothing.stdout.contains(r#"failures="0" errors="1""#), "{nothing}");
    for (form, says) in [
        ("textfile", "\nfleet_drift_up 0\n"),
        ("json", "\"fresh\":false"),
        ("jsonl", "\"fresh\":false"),
        ("csv", ",,unknown,"),
        ("table", "UNKNOWN: "),
        ("wide", "UNKNOWN: "),
        ("junit", "UNKNOWN</error>"),
        ("markdown", "**UNKNOWN**"),
    ] {
        fleet.ctl(["drift", "-q", "-o", form, "--output-file", &file.to_string_lossy()]).expect(69).one_error();
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(says), "{form}: {text}");
        if form == "json" {
            readers::jsonschema("drift-report.schema.json", &serde_json::from_str(&text).unwrap());
        }
    }
    fleet.start_controller();
    fleet.until_ready();
}

/// Every line of the shell blocks of a document.
fn commands(document: &Path) -> Vec<String> {
    let text = fs::read_to_string(document).unwrap();
    let blocks = text.split("\n```sh\n").skip(1).map(|rest| rest.split("\n```").next().unwrap());
    blocks.flat_map(str::lines).filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

/// A shell line in the fleet's surroundings, with our programs in the path and the documents beside it.
fn shell(fleet: &Fleet, line: &str, switch: &Switch) -> Output {
    let mut command = fleet.command("fleetctl");
    let ours = Workspace::built().binary("fleetctl").parent().unwrap().to_owned();
    let path = std::env::join_paths(
        std::iter::once(ours).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    );
    let environment: Vec<_> = command.get_envs().filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned()))).collect();
    command = Command::new("sh");
    command.args(["-c", line]).env_clear().envs(environment).current_dir(fleet.folder());
    Output::of(command.env("PATH", path.unwrap()).env("PING_URL", &switch.url))
}

/// Whether a line of the document is not a look at drift, but done about it.
fn is_deed(line: &str) -> bool {
    [" --diff", " accept ", " ignore ", " fix ", " history "].iter().any(|word| line.contains(word))
}

fn is_there(program: &str) -> bool {
    Output::of(Command::new("sh").args(["-c", "command -v \"$0\"", program])).code == 0
}

#[test]
fn the_document_about_monitoring_is_true_and_the_switch_is_told() {
    let fleet = Fleet::on_version_1(2);
    let switch = Switch::answering("200 OK");
    for shared in ["docs", "examples"] {
        symlink(Workspace::built().root.join(shared), fleet.folder().join(shared)).unwrap();
    }
    let lines = commands(&Workspace::built().root.join("docs/monitoring.md"));
    assert!(lines.len() >= 15, "{lines:#?}");
    // What people do about a finding is played where there is one to do it about.
    let (deeds, looks): (Vec<_>, Vec<_>) =
        lines.into_iter().partition(|line| line.starts_with("fleetctl drift ") && is_deed(line));
    let play = |found: i32| {
        for line in &looks {
            let program = line.split(' ').next().unwrap();
            if program != "fleetctl" && !is_there(program) {
                fleet_tests::disk::skip(line, "it is not installed");
                continue;
            }
            let output = shell(&fleet, line, &switch);
            // The plugin's warning is 1; a look at other kinds sees nothing.
            let code = match program {
                "fleetctl" if line.contains("--kind") || line.contains("selftest") => 0,
                "fleetctl" if line.contains("nagios") => found.min(1),
                "fleetctl" => found,
                _ => 0,
            };
            output.expect(code);
        }
    };
    until("all is well", || (fleet.ctl(["drift", "--quiet"]).code == 0).then_some(()));
    play(0);
    let told = switch.told();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!((told[0].method.as_str(), told[0].path.as_str()), ("GET", "/ping/1234/start"));
    assert_eq!((told[1].method.as_str(), told[1].path.as_str()), ("POST", "/ping/1234/0"));
    assert!(told[1].body.contains("0 of 2 nodes drifted"), "{told:?}");

    let program = fleet.current("n1", "hello").join("bin/hello");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o777)).unwrap();
    promised("the changed mode is found", || fleet.finding("n1", "mode"));
    assert_eq!(deeds.len(), 5, "{deeds:#?}");
    for line in &deeds {
        let differs = i32::from(line.contains("--diff") || line.contains("--dry-run")) * 2;
        shell(&fleet, line, &switch).expect(differs);
    }
    fleet.ctl(["drift", "--fresh", "n1"]).expect(0).says("hotfix OPS-4711");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    promised("it is as it was", || fleet.finding("n1", "mode").is_none().then_some(()));

    fs::write(fleet.current("n2", "hello").join("planted"), "x").unwrap();
    promised("the planted file is found", || fleet.finding("n2", "extra"));
    play(2);
    let told = switch.told();
    assert_eq!(told[1].path, "/ping/1234/2", "{told:?}");
    assert!(told[1].body.contains("planted"), "the report goes with it: {told:?}");

    // A switch that refuses, one that is not there, one behind a certificate that nobody knows: all told, nothing hidden.
    let refusing = Switch::answering("503 Service Unavailable");
    let nobody = "http://127.0.0.1:1/x".to_owned();
    let untrusted = switch.url.replace("http:", "https:");
    for url in [&refusing.url, &nobody, &untrusted] {
        let output = fleet.ctl(["drift", "--quiet", "--ping", url]).expect(2).says("planted").says("the ping failed");
        assert!(!output.all().contains("1234"), "the address is a secret: {output}");
        fleet.ctl(["drift", "--quiet", "--exit-zero", "--ping", url]).expect(0).says("the ping failed");
    }
    fleet.kill_controller();
    fleet.ctl(["drift", "--quiet", "--ping", &switch.url]).expect(69).one_error();
    let told = switch.told();
    let last = told.last().unwrap();
    assert!(last.path == "/ping/1234/69" && last.body.starts_with("UNKNOWN: "), "{told:?}");
    fleet.start_controller();
    until("the controller is back", || (fleet.drift().code == 2).then_some(()));
}

#[test]
fn the_ready_made_files_are_what_their_programs_read() {
    let folder = tempfile::tempdir().unwrap();
    let fleetctl = Workspace::built().binary("fleetctl");
    let help = Output::of(Command::new(&fleetctl).args(["drift", "--help"])).expect(0).stdout;
    let known = |flag: &str| {
        assert!(help.split([' ', ',', '\n', '<', '[']).any(|word| word == flag), "drift has no {flag}");
    };

    readers::promtool_rules(&examples().join("prometheus"), "fleet.rules.yml", "fleet.rules.test.yml");

    // Every metric of the rules is one that is written.
    let rules = fs::read_to_string(examples().join("prometheus/fleet.rules.yml")).unwrap();
    let source = fs::read_to_string(Workspace::built().root.join("fleetctl/src/output/prometheus.rs")).unwrap();
    let words = rules.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let metrics: Vec<_> = words.filter(|word| word.starts_with("fleet_")).collect();
    assert!(metrics.len() > 6);
    for metric in metrics {
        assert!(source.contains(&format!("\"{metric}\"")), "nobody writes {metric}");
    }

    let mut units = Vec::new();
    for name in ["fleet-drift@.service", "fleet-drift@.timer"] {
        let text = fs::read_to_string(examples().join("systemd").join(name)).unwrap();
        let program = fleetctl.to_string_lossy();
        fs::write(folder.path().join(name), text.replace("/usr/bin/fleetctl", &program)).unwrap();
        units.push(folder.path().join(name.replace('@', "@prod")));
        for flag in text.lines().filter(|line| line.starts_with("ExecStart=")).flat_map(|line| line.split(' ')) {
            if flag.starts_with('-') {
                known(flag);
            }
        }
    }
    readers::systemd_analyze(&units);

    let icinga = fs::read_to_string(examples().join("icinga2/fleet.conf")).unwrap();
    let flags: Vec<_> = icinga.split('"').filter(|word| word.starts_with('-')).collect();
    assert!(flags.len() >= 9, "{flags:?}");
    flags.into_iter().for_each(known);
    assert_eq!(icinga.matches('{').count(), icinga.matches('}').count());

    // Five fields of time, a user that is a word, and a command whose flags exist.
    let cron = fs::read_to_string(examples().join("cron.d/fleet-drift")).unwrap();
    let jobs: Vec<_> = cron.lines().filter(|line| line.starts_with(|c: char| c == '*' || c.is_ascii_digit())).collect();
    assert_eq!(jobs.len(), 3, "{cron}");
    for job in jobs {
        let words: Vec<_> = job.split_whitespace().collect();
        assert_eq!((words[5], words[6], words[7]), ("fleet", "fleetctl", "drift"), "{job}");
        words.into_iter().filter(|word| word.starts_with("--")).for_each(known);
        assert!(!job.contains('%'), "cron takes % for the end of the line: {job}");
    }
}
