//! Nodes that a story lets join by itself: with labels of its own, or later than the others.

use std::fs;

use crate::fleet::Fleet;
use crate::output::Output;

impl Fleet {
    /// A fleet of `agents` nodes of which all but the first have a label `az`, as `zone` says by their number.
    #[track_caller]
    pub fn in_zones(agents: u16, zone: impl Fn(u16) -> &'static str) -> Fleet {
        let mut fleet = Fleet::planned(agents);
        fleet.agents = 1;
        fleet.bring_up().expect(0);
        fleet.agents = agents;
        let uses = agents.to_string();
        let token = fleet.ctl(["tokens", "create", "--label", "role=web", "--uses", &uses, "-o", "json"]).expect(0);
        let token = token.json()["token"].as_str().unwrap().to_owned();
        for number in 2..=agents {
            fleet.join(&format!("n{number}"), &token, zone(number));
        }
        fleet.ctl(["dev", "scale", &uses]).expect(0);
        fleet
    }

    /// One more node than the fleet was made for joins now, and its agent is started. No balancer knows it.
    #[track_caller]
    pub fn join_late(&self) -> String {
        let (last, node) = (format!("n{}", self.agents), format!("n{}", self.agents + 1));
        let token = self.ctl(["tokens", "create", "--label", "role=web", "-o", "json"]).expect(0).json();
        self.join(&node, token["token"].as_str().unwrap(), "late");
        let (from, to) = (self.node_dir(&last), self.node_dir(&node));
        let text = fs::read_to_string(from.join("agent.toml")).unwrap();
        let (text, _balancer) = text.split_once("[balancer]").unwrap();
        let text = text.replace(&from.display().to_string(), &to.display().to_string());
        let text = text.replace(&format!("\"{last}\""), &format!("\"{node}\""));
        let text = text.replace(&self.port(&last).to_string(), &self.port(&node).to_string());
        fs::write(to.join("agent.toml"), text).unwrap();
        self.know(&format!("agent-{last}")).unwrap();
        let start = self.starts.lock().unwrap()[&format!("agent-{last}")].moved(&from, &to);
        self.starts.lock().unwrap().insert(format!("agent-{node}"), start);
        self.start_agent(&node);
        self.until_state(&node, "ready");
        node
    }

    fn join(&self, node: &str, token: &str, zone: &str) {
        let (dir, file) = (self.node_dir(node), self.folder().join(format!("token-{node}")));
        for sub in ["services", "state"] {
            fs::create_dir_all(dir.join(sub)).unwrap();
        }
        fs::write(&file, token).unwrap();
        let mut command = self.command("fleet-agent");
        command.arg("join").arg(format!("127.0.0.1:{}", self.controller_port)).arg("--token-file").arg(&file);
        command.args(["--name", node, "--controller-name", "localhost", "--label", &format!("az={zone}")]);
        Output::of(command.args(["--label", "role=web"]).arg("--state-dir").arg(dir.join("state"))).expect(0);
    }
}
