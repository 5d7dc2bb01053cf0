//! Never more nodes in flight than were allowed, never fewer serving than must, and the broken ones first: by the
//! journal, and by whoever asks the nodes themselves all the time.

use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use fleet_tests::stage::segments;
use fleet_tests::{Stage, Story, until};
use serde_json::Value;

pub const STORIES: &[Story] = &[
    ("two at a time", two_at_a_time),
    ("the floor, and broken nodes first", the_floor),
    ("a floor too high", too_high),
];

/// Connects to every node in turn, and remembers the most that were down at a time. A connection is enough, and takes a
/// round within one moment on a slow machine too.
struct Census {
    stop: Arc<AtomicBool>,
    most_down: Arc<AtomicUsize>,
    rounds: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

/// A round that took longer says nothing about one moment.
const ONE_MOMENT: Duration = Duration::from_millis(60);

impl Census {
    fn of(ports: Vec<u16>) -> Census {
        let (stop, most_down, rounds) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default(), Arc::default());
        let census = Census { stop, most_down, rounds, thread: None };
        let (stop, most, rounds) = (census.stop.clone(), census.most_down.clone(), census.rounds.clone());
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let start = Instant::now();
                let down =
                    ports.iter().filter(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, **port)).is_err()).count();
                if start.elapsed() < ONE_MOMENT {
                    most.fetch_max(down, Ordering::SeqCst);
                    rounds.fetch_add(1, Ordering::SeqCst);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Census { thread: Some(thread), ..census }
    }

    /// The most that were seen down at a time.
    fn end(mut self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
        assert!(self.rounds.load(Ordering::SeqCst) > 20, "too few rounds show nothing");
        self.most_down.load(Ordering::SeqCst)
    }
}

/// The most nodes that were ordered and not yet proven at a time, by the journal.
fn most_in_flight(facts: &[Value]) -> usize {
    let (mut now, mut most) = (0, 0);
    for fact in facts {
        match fact["fact"].as_str().unwrap() {
            // "ordered: n1, n2": up to five are named, so no more may be ordered at once here.
            "nodes-ordered" => {
                let text = fact["text"].as_str().unwrap();
                assert!(!text.contains(" more"), "{fact}");
                now += text.matches(',').count() + 1;
                most = most.max(now);
            }
            "node-proven" | "node-failed" => now -= 1,
            _ => {}
        }
    }
    assert_eq!(now, 0, "everybody who was ordered has ended");
    most
}

fn ports(stage: &Stage) -> Vec<u16> {
    stage.fleet.nodes().iter().map(|node| stage.fleet.port(node)).collect()
}

fn two_at_a_time(stage: &Stage) {
    let (fleet, made) = (&stage.fleet, stage.make());
    let census = Census::of(ports(stage));
    let id = fleet.begin(&made.path, &["--segments", "1", "--parallel", "2"]);
    fleet.until_reason(&id, "more wait for their turn");
    fleet.bounce_controller();
    fleet.until_reason(&id, "more wait for their turn");
    fleet.ended(&id, 0);
    let down = census.end();
    assert!((1..=2).contains(&down), "{down} nodes were down at a time");
    assert_eq!(most_in_flight(&fleet.facts(&id)), 2);
    stage.run_by_all(&made);
}

fn the_floor(stage: &Stage) {
    let (fleet, made) = (&stage.fleet, stage.make());
    // n9 has another file than its release: it does not serve what it should, and costs no capacity.
    fleet.ctl(["dev", "break", "n9", "--drift"]).expect(0);
    until("the broken node is found", || fleet.finding("n9", "file"));
    let path = made.path.to_str().unwrap();
    let plan =
        fleet.ctl(["plan", path, "--segments", "growing", "--min-healthy", "75%", "-o", "json"]).expect(0).json();
    assert_eq!((plan["floor"].as_u64(), plan["serving"].as_u64()), (Some(9), Some(11)), "{plan:#}");
    assert_eq!(segments(&plan)[0], ["n9"], "the broken one goes first: {plan:#}");
    assert_eq!(plan["segments"][0]["nodes"][0]["condition"], "unhealthy", "{plan:#}");

    let census = Census::of(ports(stage));
    let id = fleet.begin(&made.path, &["--segments", "1", "--min-healthy", "75%"]);
    fleet.until_reason(&id, "more wait for their turn");
    fleet.bounce_controller();
    fleet.until_reason(&id, "more wait for their turn");
    let done = fleet.ended(&id, 0);
    assert_eq!(done["floor"].as_u64(), Some(9), "{done:#}");
    let down = census.end();
    assert!((1..=3).contains(&down), "{down} nodes were down at a time: fewer than 9 of 12 served");
    let facts = fleet.facts(&id);
    let first = facts.iter().find(|fact| fact["fact"] == "nodes-ordered").unwrap();
    assert!(first["text"].as_str().unwrap().contains("n9"), "{first}");
    assert!(most_in_flight(&facts) <= 3);
    stage.run_by_all(&made);
}

fn too_high(stage: &Stage) {
    let (fleet, before, made) = (&stage.fleet, stage.level(), stage.make());
    let refused = fleet.deploy(&made.path, &["--min-healthy", "12"]).expect_refusal().one_error();
    refused.says("12 nodes must serve").says("--min-healthy");
    stage.run_by_all(&before);
}
