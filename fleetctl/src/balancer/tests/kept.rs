//! What survives a restart and a reload, and which configurations are refused.

use std::time::Duration;

use tempfile::TempDir;

use super::api::talk;
use super::world::{TestServer, ask, config, dead_address, in_time, wait_for_used};
use crate::balancer::{Backend, Balancer, Config, Error, Server};

#[tokio::test]
async fn states_and_weights_survive_a_restart() {
    let folder = TempDir::new().unwrap();
    let config = config(&folder, &[dead_address().await, dead_address().await, dead_address().await]);
    let balancer = Balancer::start(config.clone()).await.unwrap();
    let answer = balancer
        .answer("set server shop/s1 state drain; set server shop/s2 state maint;set server shop/s3 weight 25%")
        .await;
    assert_eq!(answer, "\n\n\n");
    let before = states(&balancer).await;
    balancer.stop().await;
    let balancer = Balancer::start(config).await.unwrap();
    assert_eq!(states(&balancer).await, before);
    assert_eq!(before, ["s1 2 8 100", "s2 0 1 100", "s3 2 0 25"]);
}

#[tokio::test]
async fn a_state_that_cannot_be_saved_is_not_applied() {
    let folder = TempDir::new().unwrap();
    let mut config = config(&folder, &[dead_address().await]);
    config.state_file = folder.path().join("missing/states.json");
    let balancer = Balancer::start(config).await.unwrap();
    let answer = balancer.answer("set server shop/s1 state drain").await;
    assert!(answer.contains("cannot save") && answer.contains("nothing was changed"), "{answer}");
    assert_eq!(states(&balancer).await, ["s1 2 0 100"]);
}

#[tokio::test]
async fn damaged_states_are_an_error_that_says_what_to_do() {
    let folder = TempDir::new().unwrap();
    let config = config(&folder, &[dead_address().await]);
    for damaged in ["", "{\"shop\":{\"s1\":{\"state\":\"dra", "{\"shop\":{\"s1\":{\"state\":\"away\",\"weight\":1}}}"] {
        std::fs::write(&config.state_file, damaged).unwrap();
        let error = Balancer::start(config.clone()).await.unwrap_err().to_string();
        assert!(error.contains("states.json") && error.contains("remove the file"), "{error}");
    }
}

#[tokio::test]
async fn a_reload_adds_servers_and_keeps_the_rest() {
    let folder = TempDir::new().unwrap();
    let (one, two) = (TestServer::start("1").await, TestServer::start("1").await);
    let mut config = config(&folder, &[one.address]);
    let balancer = Balancer::start(config.clone()).await.unwrap();
    let address = balancer.address("shop").await.unwrap();
    let held = tokio::spawn(ask(address, "GET /hold", ""));
    wait_for_used(&balancer, "shop/s1", 1).await;
    balancer.answer("set server shop/s1 state drain").await;
    config.backends[0].servers.push(Server { name: "s2".to_owned(), address: two.address, weight: 100 });
    config.backends.push(Backend {
        name: "blog".to_owned(),
        listen: Some("127.0.0.1:0".parse().unwrap()),
        servers: vec![Server { name: "b1".to_owned(), address: one.address, weight: 100 }],
    });
    balancer.reload(config.clone()).await.unwrap();
    assert_eq!(states(&balancer).await, ["s1 2 8 100", "s2 2 0 100", "b1 2 0 100"]);
    wait_for_used(&balancer, "shop/s1", 1).await;
    assert!(ask(address, "GET /", "").await.contains("x-fleet-server: s2"));
    assert!(ask(balancer.address("blog").await.unwrap(), "GET /", "").await.contains("x-fleet-server: b1"));
    // A server that is removed finishes what it has.
    config.backends[0].servers.remove(0);
    balancer.reload(config.clone()).await.unwrap();
    assert_eq!(states(&balancer).await, ["s2 2 0 100", "b1 2 0 100"]);
    one.release.add_permits(1);
    assert!(held.await.unwrap().ends_with("held"));
    config.listen = "127.0.0.1:9".parse().unwrap();
    let error = balancer.reload(config).await.unwrap_err();
    assert!(matches!(&error, Error::NeedsRestart { .. }) && error.to_string().contains("restart"), "{error}");
}

#[tokio::test]
async fn sighup_reads_the_file_again_and_a_wrong_file_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("balancer.toml");
    let mut config = config(&folder, &[dead_address().await]);
    std::fs::write(&path, toml::to_string(&config).unwrap()).unwrap();
    let file = path.clone();
    let running = tokio::spawn(async move { crate::balancer::run(&file).await });
    let socket = folder.path().join("admin.sock");
    // The socket appears after the handler of SIGHUP is in place, which would otherwise end the test.
    let servers = async |wanted: usize| {
        in_time(async {
            while !socket.exists() || talk(&socket, b"show servers conn\n").await.matches("shop/").count() != wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    };
    servers(1).await;
    assert_eq!(talk(&socket, b"set server shop/s1 state drain\n").await, "\n");
    config.backends[0].servers.push(Server { name: "s2".to_owned(), address: dead_address().await, weight: 100 });
    std::fs::write(&path, toml::to_string(&config).unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::SIGHUP).unwrap();
    servers(2).await;
    std::fs::write(&path, "listen = 'nowhere'").unwrap();
    nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::SIGHUP).unwrap();
    assert_eq!(talk(&socket, b"set server shop/s2 state ready\n").await, "\n");
    std::fs::write(&path, toml::to_string(&config).unwrap()).unwrap();
    nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::SIGHUP).unwrap();
    assert!(
        talk(&socket, b"show servers state\n").await.contains(" s1 127.0.0.1 2 8 "),
        "the drained one stays drained"
    );
    assert!(!running.is_finished());
    running.abort();
}

#[tokio::test]
async fn an_address_in_use_is_one_clear_error() {
    let folder = TempDir::new().unwrap();
    let taken = TestServer::start("1").await;
    let mut config = config(&folder, &[]);
    config.listen = taken.address;
    let error = Balancer::start(config).await.unwrap_err().to_string();
    assert!(error.contains(&taken.address.to_string()) && error.contains("backend shop"), "{error}");
}

#[test]
fn the_file_is_toml_and_mistakes_are_named() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("balancer.toml");
    let good = "listen = '127.0.0.1:18080'\nadmin = '127.0.0.1:18079'\nstate_file = 'states.json'\n\
                [[backends]]\nname = 'hello'\nservers = [{name = 'n1', address = '127.0.0.1:18081'}]\n";
    std::fs::write(&path, good).unwrap();
    let config = Config::read(&path).unwrap();
    assert_eq!((config.backends[0].servers[0].weight, config.admin.to_string()), (100, "127.0.0.1:18079".to_owned()));
    let written = toml::to_string(&config).unwrap();
    std::fs::write(&path, written).unwrap();
    assert_eq!(Config::read(&path).unwrap(), config, "what dev up writes can be read");
    for (old, new, part) in [
        ("listen", "listn", "listn"),
        ("18080", "180800", "balancer.toml"),
        ("127.0.0.1:18079", "0.0.0.0:18079", "loopback"),
        ("127.0.0.1:18079", "somewhere", "somewhere"),
        ("'hello'", "'hel lo'", "hel lo"),
        ("'n1'", "'n/1'", "n/1"),
        ("name = 'n1',", "name = 'n1', weight = 300,", "256"),
        (
            "[{name = 'n1', address = '127.0.0.1:18081'}]",
            "[{name = 'n1', address = '127.0.0.1:1'}, {name = 'n1', address = '127.0.0.1:1'}]",
            "twice",
        ),
        ("'hello'\n", "'hello'\nservers = []\n[[backends]]\nname = 'b'\n", "its own `listen`"),
    ] {
        assert!(good.contains(old), "{old}");
        std::fs::write(&path, good.replace(old, new)).unwrap();
        let error = Config::read(&path).unwrap_err();
        let error = format!("{error} {:?}", std::error::Error::source(&error).map(ToString::to_string));
        assert!(error.contains(part), "{error}");
    }
    let error = Config::read(&folder.path().join("none.toml")).unwrap_err().to_string();
    assert!(error.contains("none.toml"), "{error}");
}

/// Name, operational state, administrative state and weight of every server.
async fn states(balancer: &Balancer) -> Vec<String> {
    let answer = balancer.answer("show servers state").await;
    let servers = answer.lines().skip(2).filter(|line| !line.is_empty());
    servers
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .map(|columns| [columns[3], columns[5], columns[6], columns[7]].join(" "))
        .collect()
}
