//! The arithmetic of the tools whose users come here, as tables: what they do, from their documents and sources,
//! and what we do. Where we do the same, the table is one; where we do not, it says so and why.
//!
//! The laws of our own arithmetic are tested beside it (`segments`, `capacity`, `sequence`).
#![allow(clippy::unwrap_used)]

use fleet::capacity::{Capacity, MinHealthy, Shortage, in_flight_allowance};
use fleet::deployment::Budget;
use fleet::segments::Segments;

/// Ansible's `serial`. Sources: ansible/ansible `test/units/executor/test_playbook_executor.py` and
/// `lib/ansible/utils/helpers.py` (`pct_to_int`: `int(p/100*N) or 1`), `lib/ansible/executor/playbook_executor.py`
/// (`_get_serialized_batches`: a value up to zero is all that remain, the last value repeats).
#[test]
fn ansible_serial() {
    for (source, serial, hosts, batches) in [
        ("unit test", "1,2,3", 10, vec![1, 2, 3, 3, 1]),
        ("unit test", "1,20%,-1", 10, vec![1, 2, 7]),
        ("unit test", "20%", 11, vec![2, 2, 2, 2, 2, 1]),
        ("unit test", "20%", 3, vec![1, 1, 1]),
        ("unit test", "1,2,5", 10, vec![1, 2, 5, 2]),
        ("unit test", "1,20%,100%", 10, vec![1, 2, 7]),
        ("playbook_executor.py", "2,0", 10, vec![2, 8]),
        ("playbook_executor.py", "2,-5", 10, vec![2, 8]),
        ("our command line: --segments 1,25%,100%", "1,25%,100%", 8, vec![1, 2, 5]),
        ("our service file: segments: [1, \"25%\", \"100%\"]", "1, 25%, 100%", 40, vec![1, 10, 29]),
        ("our word for -1", "1,20%,rest", 10, vec![1, 2, 7]),
    ] {
        assert_eq!(serial.parse::<Segments>().unwrap().cut(hosts), batches, "{source}: {serial} of {hosts}");
    }
}

/// `serial: 3` and `serial: [3]` are batches of three; `--segments 3` is three segments. A list stays a list.
#[test]
fn ansible_serial_of_one_number() {
    assert_eq!(Segments::listed(["3"]).unwrap().cut(10), [3, 3, 3, 1]);
    assert_eq!(Segments::listed(["-1"]).unwrap().cut(10), [10]);
}

/// **Different**: Ansible reckons `int(p/100.0*N)` in floating point, and so loses a host in a few cases where the
/// share is a whole number. We reckon in whole numbers. In no case is the difference more than one host.
#[test]
fn ansible_serial_in_floating_point() {
    let theirs = |percent: u8, hosts: usize| (f64::from(percent) / 100.0 * hosts as f64) as usize;
    let ours = |percent: u8, hosts: usize| format!("{percent}%,rest").parse::<Segments>().unwrap().cut(hosts)[0];
    assert_eq!((theirs(29, 100), ours(29, 100)), (28, 29));
    let mut differ = 0;
    for percent in 1..=100 {
        for hosts in 1..=1_000 {
            let theirs = theirs(percent, hosts).max(1);
            if theirs != ours(percent, hosts) {
                differ += 1;
                assert_eq!(theirs + 1, ours(percent, hosts));
                assert_eq!(usize::from(percent) * hosts % 100, 0, "{percent} % of {hosts}");
            }
        }
    }
    // Of 100,000; counted with CPython's `int(p/100.0*n) or 1` too.
    assert_eq!(differ, 49);
}

/// Equal segments, as `fleetctl` documents them.
#[test]
fn equal_segments() {
    for (segments, nodes, expect) in
        [("4", 39, vec![10, 10, 10, 9]), ("4", 40, vec![10, 10, 10, 10]), ("4", 8, vec![2, 2, 2, 2])]
    {
        assert_eq!(segments.parse::<Segments>().unwrap().cut(nodes), expect);
    }
}

/// Ansible's `max_fail_percentage`. Sources: ansible/ansible `lib/ansible/plugins/strategy/linear.py`
/// (`len(_failed_hosts) / batch_size > max_fail_percentage / 100.0`), and the guide "Controlling playbook
/// execution: strategies and more", which says that the percentage must be exceeded, not equaled.
///
/// **Different**: there each batch is counted by itself, and unreachable hosts do not count. Here all nodes that
/// take part are the total, and silence is failure; so `failed` here includes the unreachable.
#[test]
fn ansible_max_fail_percentage() {
    for (source, percent, failed, hosts, stops) in [
        ("guide: more than 3 of 10 fail", 30, 3, 10, false),
        ("guide: more than 3 of 10 fail", 30, 4, 10, true),
        ("guide: 2 of 4 stop at 49", 49, 2, 4, true),
        ("guide: 2 of 4 go on at 50", 50, 2, 4, false),
        ("cli: 25 % of 4 with one failure goes on", 25, 1, 4, false),
        ("linear.py: any failure at 0", 0, 1, 100, true),
        ("linear.py: no failure at 0", 0, 0, 100, false),
        ("linear.py: never at 100", 100, 100, 100, false),
    ] {
        assert_eq!(Budget::Percent(percent).is_exceeded(failed, hosts), stops, "{source}");
    }
    for hosts in 1..=60_usize {
        for failed in 0..=hosts {
            for percent in 0..=100_u8 {
                let theirs = failed as f64 / hosts as f64 > f64::from(percent) / 100.0;
                assert_eq!(Budget::Percent(percent).is_exceeded(failed, hosts), theirs, "{failed}/{hosts} {percent}");
            }
        }
    }
}

/// hawkBit's rollout groups, the error condition: `THRESHOLD` with `errors/total > t`, strictly; an empty group has
/// no error. Source: eclipse-hawkbit/hawkbit, `ThresholdRolloutGroupErrorCondition`. **Adopted** as the budget.
///
/// **Different**: an expression that cannot be read is false there, so that the rollout goes on as if nothing could
/// fail; here it is refused. The documents promise absolute numbers, the code has only percent; here both are read.
/// **Rejected**: the success condition `finished/total >= t` (with an empty group succeeding), and that errors below
/// the threshold end in a finished rollout. Here every node is proven, or the outcome has another name.
#[test]
fn hawkbit_thresholds() {
    for (threshold, errors, total, error) in [
        ("50%", 5, 10, false),
        ("50%", 6, 10, true),
        ("50%", 1, 2, false),
        ("100%", 10, 10, false),
        ("0%", 1, 10, true),
        ("50%", 0, 0, false),
        ("0%", 0, 0, false),
        ("3", 3, 10, false),
        ("3", 4, 10, true),
    ] {
        assert_eq!(
            threshold.parse::<Budget>().unwrap().is_exceeded(errors, total),
            error,
            "{errors}/{total} {threshold}"
        );
    }
    for unparsable in ["", "many", "50.5%", "-1", "-1%", "101%", "50 %", "%"] {
        assert!(unparsable.parse::<Budget>().is_err(), "{unparsable}");
    }
}

/// How a deployment ended by CodeDeploy's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Succeeded,
    Failed,
}

/// A deployment by CodeDeploy's rules: what it did.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    verdict: Verdict,
    tried: usize,
    most_healthy_in_flight: usize,
}

/// CodeDeploy's deployment to a group, as "CodeDeploy instance health" of its user guide tells it; a model to test
/// against, not for use. Node `i` is `healthy[i]` at the start, and the deployment to it `succeeds[i]`. First all
/// unhealthy ones are tried. If then no more are healthy than `min`, it is over. Then the healthy ones, in order,
/// as many at once as cannot take the group below `min`; it stops when the healthy ones fall to `min`, unless that
/// was the last. At the end `min` must be healthy, or as many as at the start, and one have succeeded.
fn codedeploy(healthy: &[bool], succeeds: &[bool], min: usize) -> Run {
    let at_start = healthy.iter().filter(|h| **h).count();
    let (broken, sound): (Vec<usize>, Vec<usize>) = (0..healthy.len()).partition(|&i| !healthy[i]);
    let mut successes = broken.iter().filter(|&&i| succeeds[i]).count();
    let mut healthy = at_start + successes;
    let (mut tried, mut most, mut stopped) = (broken.len(), 0, false);
    let mut waiting = sound.into_iter().peekable();
    let mut flying = std::collections::VecDeque::new();
    loop {
        stopped |= min > 0 && healthy <= min && waiting.peek().is_some();
        while !stopped && flying.len() < healthy.saturating_sub(min) && waiting.peek().is_some() {
            flying.extend(waiting.next());
            tried += 1;
        }
        most = most.max(flying.len());
        let Some(ended) = flying.pop_front() else { break };
        if succeeds[ended] {
            successes += 1;
        } else {
            healthy -= 1;
        }
    }
    let enough = healthy >= min.min(at_start) && successes > 0;
    let verdict = if !stopped && enough { Verdict::Succeeded } else { Verdict::Failed };
    Run { verdict, tried, most_healthy_in_flight: most }
}

/// The same deployment with our floor: the allowance and `must_stop`, and no verdict, since ours is another.
fn ours(healthy: &[bool], succeeds: &[bool], min: usize) -> (usize, usize, Option<Shortage>) {
    let at_start = healthy.iter().filter(|h| **h).count();
    let mut broken: Vec<usize> = (0..healthy.len()).rev().filter(|&i| !healthy[i]).collect();
    let mut sound: Vec<usize> = (0..healthy.len()).rev().filter(|&i| healthy[i]).collect();
    let (mut tried, mut most, mut healthy) = (0, 0, at_start);
    let mut broken_in_flight = Vec::new();
    let mut flying = std::collections::VecDeque::new();
    loop {
        let capacity = Capacity {
            floor: min,
            healthy_at_start: at_start,
            healthy,
            untried: broken.len() + sound.len(),
            broken_open: broken.len() + broken_in_flight.len(),
        };
        let shortage = capacity.must_stop();
        if shortage.is_none() {
            tried += broken.len();
            broken_in_flight.append(&mut broken);
            // As CodeDeploy does: the broken ones have ended before a healthy one is taken.
            while broken_in_flight.is_empty() && flying.len() < capacity.allowance() && !sound.is_empty() {
                flying.extend(sound.pop());
                tried += 1;
            }
        }
        most = most.max(flying.len());
        if let Some(ended) = broken_in_flight.pop() {
            healthy += usize::from(succeeds[ended]);
        } else if let Some(ended) = flying.pop_front() {
            healthy -= usize::from(!succeeds[ended]);
        } else {
            return (tried, most, shortage);
        }
    }
}

/// A group of healthy nodes of which some fail, by position.
fn group(nodes: usize, failing: &[usize]) -> (Vec<bool>, Vec<bool>) {
    (vec![true; nodes], (0..nodes).map(|i| !failing.contains(&i)).collect())
}

/// CodeDeploy's minimum healthy hosts. Sources: AWS CodeDeploy User Guide, "CodeDeploy instance health" (UG) and
/// "Working with deployment configurations" (DC); API reference, `MinimumHealthyHosts` (API).
#[test]
fn codedeploy_minimum_healthy_hosts() {
    use Verdict::{Failed, Succeeded};
    for (source, min_healthy, nodes, floor, at_once, failing, verdict) in [
        ("API: 9, HOST_COUNT 6, all well", "6", 9, 6, 3, vec![], Succeeded),
        ("API: 9, HOST_COUNT 6, six succeed", "6", 9, 6, 3, vec![6, 7, 8], Succeeded),
        ("API: 9, HOST_COUNT 6, five succeed", "6", 9, 6, 3, vec![5, 6, 7, 8], Failed),
        ("API: 9, FLEET_PERCENT 40, four succeed", "40%", 9, 4, 5, vec![4, 5, 6, 7, 8], Succeeded),
        ("API: 9, FLEET_PERCENT 40, three succeed", "40%", 9, 4, 5, vec![3, 4, 5, 6, 7, 8], Failed),
        ("UG: 10, 95 %: fails at once", "95%", 10, 10, 0, vec![], Failed),
        ("UG: 10, 9: one at a time", "9", 10, 9, 1, vec![], Succeeded),
        ("UG: 10, 9: one failure fails it", "9", 10, 9, 1, vec![3], Failed),
        ("UG: 10, 9: the last may fail", "9", 10, 9, 1, vec![9], Succeeded),
        ("UG: 10, 8: two at a time, one may fail", "8", 10, 8, 2, vec![3], Succeeded),
        ("UG: 10, 8: the second failure stops it", "8", 10, 8, 2, vec![3, 5], Failed),
        ("UG: 10, 8: the second is the last", "8", 10, 8, 2, vec![3, 9], Succeeded),
        ("UG: 10, 85 %: one failure fails it", "85%", 10, 9, 1, vec![0], Failed),
        ("UG: 10, 0: all at once, one succeeds", "0", 10, 0, 10, vec![1, 2, 3, 4, 5, 6, 7, 8, 9], Succeeded),
        ("UG: 2, 0: none succeeds", "0", 2, 0, 2, vec![0, 1], Failed),
        ("DC: OneAtATime of 9, the last fails", "codedeploy:OneAtATime", 9, 8, 1, vec![8], Succeeded),
        ("DC: OneAtATime of 9, another fails", "codedeploy:OneAtATime", 9, 8, 1, vec![7], Failed),
        ("DC: OneAtATime of one, which fails", "codedeploy:OneAtATime", 1, 0, 1, vec![0], Failed),
        ("DC: HalfAtATime of 9, five succeed", "codedeploy:HalfAtATime", 9, 5, 4, vec![5, 6, 7, 8], Succeeded),
        ("DC: HalfAtATime of 9, four succeed", "codedeploy:HalfAtATime", 9, 5, 4, vec![4, 5, 6, 7, 8], Failed),
        ("DC: AllAtOnce of 9, one succeeds", "codedeploy:AllAtOnce", 9, 0, 9, vec![0, 1, 2, 3, 4, 5, 6, 7], Succeeded),
    ] {
        let min_healthy: MinHealthy = min_healthy.parse().unwrap();
        assert_eq!(min_healthy.floor(nodes), floor, "{source}");
        assert_eq!(in_flight_allowance(nodes, floor), at_once, "{source}");
        let (healthy, succeeds) = group(nodes, &failing);
        let theirs = codedeploy(&healthy, &succeeds, floor);
        assert_eq!((theirs.verdict, theirs.most_healthy_in_flight), (verdict, at_once), "{source}");
        let (tried, most, _) = ours(&healthy, &succeeds, floor);
        assert_eq!((tried, most), (theirs.tried, theirs.most_healthy_in_flight), "{source}");
        // Their rule of success is rejected: whatever it says, one failure exceeds the budget of none.
        assert_eq!(Budget::Nodes(0).is_exceeded(failing.len(), nodes), !failing.is_empty(), "{source}");
    }
}

/// The second failure of ten nodes with a floor of eight: how far it had come, and what it says.
#[test]
fn codedeploy_stop_says_why() {
    let (healthy, succeeds) = group(10, &[3, 5]);
    // Two at a time, results in order: with the failure of node 5, nodes 0 to 5 are done, and none is in flight.
    assert_eq!(ours(&healthy, &succeeds, 8), (6, 2, Some(Shortage::FellToFloor { healthy: 8, floor: 8 })));
    let (healthy, succeeds) = group(10, &[]);
    assert_eq!(ours(&healthy, &succeeds, 10), (0, 0, Some(Shortage::NoRoom { healthy: 10, floor: 10 })));
}

/// UG: unhealthy instances first; cancelled if after that no more than the minimum are healthy; a group that starts
/// below it must only not get worse.
#[test]
fn codedeploy_starting_with_broken_instances() {
    for (source, start, succeeds, min, tried, verdict) in [
        ("two broken, both come back", "hhhhbb", "111111", 4, 6, Verdict::Succeeded),
        ("below the floor, and above it after the first two", "hhhbbb", "111111", 4, 6, Verdict::Succeeded),
        ("below the floor, and only up to it", "hhhbbb", "111100", 4, 3, Verdict::Failed),
        ("at the floor, the broken one stays so", "hhhhb", "11110", 4, 1, Verdict::Failed),
        ("all broken: a first deployment", "bbbb", "1111", 3, 4, Verdict::Succeeded),
        ("all broken, half come back", "bbbb", "1010", 3, 4, Verdict::Succeeded),
        ("all broken, none comes back", "bbbb", "0000", 3, 4, Verdict::Failed),
    ] {
        let healthy: Vec<bool> = start.chars().map(|c| c == 'h').collect();
        let succeeds: Vec<bool> = succeeds.chars().map(|c| c == '1').collect();
        let theirs = codedeploy(&healthy, &succeeds, min);
        assert_eq!((theirs.tried, theirs.verdict), (tried, verdict), "{source}");
        assert_eq!(ours(&healthy, &succeeds, min).0, tried, "{source}");
    }
}

/// Every group of up to six nodes, every start, every ending, every floor: we stop where CodeDeploy stops, having
/// tried as many, with as many at once. 36,408 deployments.
#[test]
fn codedeploy_stops_where_we_stop() {
    let mut played = 0;
    for nodes in 1..=6_usize {
        let bits = |mask: u32| (0..nodes).map(|i| mask >> i & 1 == 1).collect::<Vec<bool>>();
        for (start, ending) in (0..1 << nodes).flat_map(|s| (0..1 << nodes).map(move |e| (s, e))) {
            for min in 0..=nodes {
                let (healthy, succeeds) = (bits(start), bits(ending));
                let theirs = codedeploy(&healthy, &succeeds, min);
                let (tried, most, shortage) = ours(&healthy, &succeeds, min);
                assert_eq!(
                    (tried, most),
                    (theirs.tried, theirs.most_healthy_in_flight),
                    "{healthy:?} {succeeds:?} {min}"
                );
                assert_eq!(shortage.is_some(), tried < nodes, "{healthy:?} {succeeds:?} {min}");
                played += 1;
            }
        }
    }
    assert_eq!(played, (1..=6_usize).map(|n| 4_usize.pow(n as u32) * (n + 1)).sum::<usize>());
}
