//! The commands of HAProxy's runtime API that draining a server needs, with the answers of HAProxy 2.6, byte for byte.
//! How bytes arrive is `admin`'s; what a change does is `pool`'s.
//!
//! Source of the texts: a running HAProxy 2.6.12, asked each of these (tests/haproxy.rs asks again where one is installed).
//! Unlike HAProxy, the list of commands after `Unknown command` has only the commands that are here, `show stat` has only
//! the first 24 columns, and `show info` says that this is not HAProxy.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use super::pool::{Backend, Change, Missing, Server, State};
use super::{Shared, config::MAX_WEIGHT, state_file};

/// The answer to a command that changed something.
const DONE: &str = "\n";
const USAGE_SET_SERVER: &str = "usage: set server <backend>/<server> addr | agent | agent-addr | agent-port | agent-send | check-addr | check-port | fqdn | health | ssl | state | weight\n\n";
const USAGE_STATE: &str = "'set server <srv> state' expects 'ready', 'drain' and 'maint'.\n\n";
const KNOWN_COMMANDS: &str = "  set server <bk>/<srv> [opts]            : change a server's state or weight
  show info                               : report information about the running process
  show servers conn [<backend>]           : dump server connections status (all or for a single backend)
  show servers state [<backend>]          : dump volatile server information (all or for a single backend)
  show stat                               : report counters for each proxy and server
  prompt                                  : toggle interactive mode with prompt
  quit                                    : disconnect

";

/// The answers to the commands in `line`, one for each. They are carried out in order; an error does not stop the rest.
pub(super) async fn answer(shared: &Shared, line: &str) -> Vec<String> {
    let mut answers = Vec::new();
    for command in line.split(';') {
        answers.push(answer_one(shared, &command.split_whitespace().collect::<Vec<_>>()).await);
    }
    answers
}

async fn answer_one(shared: &Shared, words: &[&str]) -> String {
    match words {
        ["set", "server", rest @ ..] => set_server(shared, rest).await,
        ["show", "servers", "conn", rest @ ..] => show_servers(
            shared,
            rest.first(),
            "# bkname/svname bkid/svid addr port - purge_delay used_cur used_max need_est unsafe_nb safe_nb idle_lim idle_cur idle_per_thr[1]\n",
            conn_line,
        ),
        ["show", "servers", "state", rest @ ..] => show_servers(
            shared,
            rest.first(),
            "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change srv_check_status srv_check_result srv_check_health srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port\n",
            state_line,
        ),
        ["show", "stat", ..] => show_stat(&shared.pool.snapshot()),
        ["show", "info", ..] => show_info(&shared.pool.snapshot()),
        [] => format!("Unknown command. Please enter one of the following commands only:\n{KNOWN_COMMANDS}"),
        _ => format!("Unknown command, but maybe one of the following ones is a better match:\n{KNOWN_COMMANDS}"),
    }
}

async fn set_server(shared: &Shared, words: &[&str]) -> String {
    let names = words.first().and_then(|word| word.split_once('/'));
    let Some((backend, server)) = names.filter(|(backend, server)| !backend.is_empty() && !server.is_empty()) else {
        return "Require 'backend/server'.\n\n".to_owned();
    };
    // Held until the answer is made: what is saved and what is in effect change in the same order.
    let _changing = shared.changing.lock().await;
    if let Err(missing) = shared.pool.states_with(backend, server, Change::State(State::Ready)) {
        return missing_answer(missing).to_owned();
    }
    let change = match parse_change(&words[1..]) {
        Ok(change) => change,
        Err(answer) => return answer.to_owned(),
    };
    let states = match shared.pool.states_with(backend, server, change) {
        Ok(states) => states,
        Err(missing) => return missing_answer(missing).to_owned(),
    };
    // Saved before said: a restart after the answer must not give the server requests again.
    if let Err(error) = state_file::save(&shared.state_file, states).await {
        return format!("{error}; nothing was changed.\n\n");
    }
    match shared.pool.apply(backend, server, change) {
        Ok(()) => DONE.to_owned(),
        Err(missing) => missing_answer(missing).to_owned(),
    }
}

fn missing_answer(missing: Missing) -> &'static str {
    match missing {
        Missing::Backend => "No such backend.\n\n",
        Missing::Server => "No such server.\n\n",
    }
}

fn parse_change(words: &[&str]) -> Result<Change, &'static str> {
    match words {
        ["state", rest @ ..] => match rest.first() {
            Some(&"ready") => Ok(Change::State(State::Ready)),
            Some(&"drain") => Ok(Change::State(State::Drain)),
            Some(&"maint") => Ok(Change::State(State::Maint)),
            _ => Err(USAGE_STATE),
        },
        ["weight"] => Err("Require <weight> or <weight%>.\n\n"),
        ["weight", weight, ..] => parse_weight(weight),
        _ => Err(USAGE_SET_SERVER),
    }
}

/// A weight as C's `strtol` reads it: a sign, digits, then nothing or `%`.
fn parse_weight(text: &str) -> Result<Change, &'static str> {
    let digits_start = text.len() - text.trim_start_matches(['+', '-']).len();
    let digits_end =
        text[digits_start..].find(|c: char| !c.is_ascii_digit()).map_or(text.len(), |at| digits_start + at);
    if digits_start > 1 || digits_end == digits_start {
        return Err("Empty weight string empty or preceded by garbage\n");
    }
    let negative = text.starts_with('-');
    // More digits than a number holds: larger than every limit.
    let number: u64 = text[digits_start..digits_end].parse().unwrap_or(u64::MAX);
    match &text[digits_end..] {
        "%" if negative && number > 0 => Err("Relative weight must be positive.\n\n"),
        "%" => Ok(Change::WeightPercent(number)),
        "" => match u16::try_from(number) {
            Ok(weight) if weight <= MAX_WEIGHT && (!negative || weight == 0) => Ok(Change::Weight(weight)),
            _ => Err("Absolute weight can only be between 0 and 256 inclusive.\n\n"),
        },
        _ => Err("Trailing garbage in weight string\n"),
    }
}

fn show_servers(shared: &Shared, only: Option<&&str>, title: &str, line: fn(&Backend, &Server) -> String) -> String {
    let backends = shared.pool.snapshot();
    if only.is_some_and(|only| !backends.iter().any(|backend| backend.name == **only)) {
        return "Can't find backend.\n\n".to_owned();
    }
    let mut answer = title.to_owned();
    for backend in backends.iter().filter(|backend| only.is_none_or(|only| backend.name == **only)) {
        for server in &backend.servers {
            answer.push_str(&line(backend, server));
        }
    }
    answer.push('\n');
    answer
}

/// One server's connections. The columns about idle connections are constant: each request has a connection of its own.
fn conn_line(backend: &Backend, server: &Server) -> String {
    format!(
        "{}/{} {}/{} {} {} - 5000 {} {} 0 0 0 -1 0 0\n",
        backend.name,
        server.name,
        backend.id,
        server.id,
        server.address.ip(),
        server.address.port(),
        count(&server.counters.in_flight),
        count(&server.counters.most_in_flight),
    )
}

/// One server's state: `srv_op_state` is 0 stopped or 2 running, `srv_admin_state` a mask of 1 maint and 8 drain.
fn state_line(backend: &Backend, server: &Server) -> String {
    let (operational, administrative) = match server.state {
        State::Ready => (2, 0),
        State::Drain => (2, 8),
        State::Maint => (0, 1),
    };
    format!(
        "{} {} {} {} {} {operational} {administrative} {} {} {} 1 0 2 0 0 0 0 - {} - 0 0 - - 0\n",
        backend.id,
        backend.name,
        server.id,
        server.name,
        server.address.ip(),
        server.weight,
        server.initial_weight,
        server.changed.elapsed().as_secs(),
        server.address.port(),
    )
}

/// The first 24 columns of HAProxy's CSV, in their places; what is not counted here is empty, as HAProxy leaves it.
fn show_stat(backends: &[Backend]) -> String {
    let mut answer = "# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status,weight,act,bck,chkfail,chkdown,lastchg,\n".to_owned();
    for backend in backends {
        let (mut current, mut total, mut active, mut weights) = (0, 0, 0, 0_u64);
        let (mut connect, mut response, mut redispatched) = (0, 0, 0);
        for server in &backend.servers {
            let counters = &server.counters;
            let (status, acts) = match server.state {
                State::Ready => ("no check", 1),
                State::Drain => ("DRAIN", 1),
                State::Maint => ("MAINT", 1),
            };
            current += count(&counters.in_flight);
            total += count(&counters.requests);
            connect += count(&counters.connect_errors);
            response += count(&counters.response_errors);
            redispatched += count(&counters.redispatched);
            if server.state == State::Ready && server.weight > 0 {
                active += 1;
                weights += u64::from(server.weight);
            }
            let _ = writeln!(
                answer,
                "{},{},,,{},{},,{},,,,,,{},{},,{},{status},{},{acts},0,,,{},",
                backend.name,
                server.name,
                count(&counters.in_flight),
                count(&counters.most_in_flight),
                count(&counters.requests),
                count(&counters.connect_errors),
                count(&counters.response_errors),
                count(&counters.redispatched),
                server.weight,
                server.changed.elapsed().as_secs(),
            );
        }
        let status = if active > 0 { "UP" } else { "DOWN" };
        let name = &backend.name;
        let _ = writeln!(
            answer,
            "{name},BACKEND,,,{current},,,{total},,,,,,{connect},{response},,{redispatched},{status},{weights},{active},0,,,,"
        );
    }
    answer.push('\n');
    answer
}

fn show_info(backends: &[Backend]) -> String {
    let servers = || backends.iter().flat_map(|backend| &backend.servers);
    format!(
        "Name: fleet-balancer\nVersion: {}\nPid: {}\nBackends: {}\nServers: {}\nCurrReqs: {}\nCumReq: {}\n\n",
        env!("CARGO_PKG_VERSION"),
        std::process::id(),
        backends.len(),
        servers().count(),
        servers().map(|server| count(&server.counters.in_flight)).sum::<u64>(),
        servers().map(|server| count(&server.counters.requests)).sum::<u64>(),
    )
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::SeqCst)
}
