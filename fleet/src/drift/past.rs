//! What an agent has said in earlier answers, as far as time can contradict it: a recorded answer under a fresh nonce
//! speaks of a boot, an age or an order that is over. Only what the agent said itself is compared, never two clocks.

use std::collections::{BTreeMap, VecDeque};

use crate::drift::Misdeed;
use crate::evidence::Attestation;
use crate::{Generation, Millis, ServiceName};

/// Boots remembered per node: whoever speaks of one further back had the time to make up anything.
const MOST_BOOTS: usize = 8;
/// Ages are counted in ticks of a hundredth of a second and read a moment before the machine's own.
const ROUNDING: Millis = Millis(1_000);

/// What is known of the past of one node.
#[derive(Debug, Clone, Default)]
pub struct Past {
    /// The boot of the session at work.
    boot: String,
    /// Boots that are over, oldest first.
    over: VecDeque<String>,
    /// How long the machine was up in its newest answer of this boot, and whether this session said so.
    up: Option<(Millis, Said)>,
    /// The highest order of each service in this session.
    orders: BTreeMap<ServiceName, Generation>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// In this session.
    Now,
    /// In an earlier one.
    Before,
}

impl Past {
    /// A session begins with the hello of a machine of this boot.
    ///
    /// # Errors
    /// The boot is over already. The session is taken in nevertheless: nobody can speak of another boot in it.
    pub fn begin(&mut self, boot: &str) -> Result<(), Misdeed> {
        self.orders.clear();
        if self.boot == boot {
            self.up = self.up.map(|(up, _)| (up, Said::Before));
            return Ok(());
        }
        let known = std::mem::replace(&mut self.boot, boot.to_owned());
        self.up = None;
        let was_over = self.over.iter().any(|over| over == boot);
        self.over.retain(|over| over != boot);
        if !known.is_empty() {
            if self.over.len() == MOST_BOOTS {
                self.over.pop_front();
            }
            self.over.push_back(known.clone());
        }
        if was_over { Err(Misdeed::OtherBoot { said: boot.to_owned(), known }) } else { Ok(()) }
    }

    /// Takes in an answer whose nonce counts.
    ///
    /// # Errors
    /// What contradicts the past: then the answer does not count.
    pub fn take(&mut self, attestation: &Attestation) -> Result<(), Misdeed> {
        if attestation.boot_id != self.boot {
            return Err(Misdeed::OtherBoot { said: attestation.boot_id.clone(), known: self.boot.clone() });
        }
        match (self.up, attestation.up) {
            (Some((before, said)), Some(up)) if up <= before => {
                // A machine that was put back to a snapshot goes on from there: said once, then it is its present.
                if said == Said::Before {
                    self.up = Some((up, Said::Now));
                }
                return Err(Misdeed::WentBack { said: Some(up), before });
            }
            (Some((before, Said::Now)), None) => return Err(Misdeed::WentBack { said: None, before }),
            (_, _) => {}
        }
        if let Some(up) = attestation.up {
            let processes = attestation.services.iter().flat_map(|service| &service.processes);
            for process in processes {
                if process.age.0 > up.0.saturating_add(ROUNDING.0) {
                    return Err(Misdeed::OlderThanItsBoot { pid: process.pid, age: process.age, up });
                }
            }
        }
        for service in &attestation.services {
            let before = self.orders.get(&service.service).copied().unwrap_or_default();
            if service.generation < before {
                let (service, said) = (service.service.clone(), service.generation);
                return Err(Misdeed::EarlierOrder { service, said, before });
            }
        }
        for service in &attestation.services {
            self.orders.insert(service.service.clone(), service.generation);
        }
        if let Some(up) = attestation.up {
            self.up = Some((up, Said::Now));
        }
        Ok(())
    }

    /// The boot of the session at work.
    pub fn boot(&self) -> &str {
        &self.boot
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Nonce;
    use crate::evidence::ServiceEvidence;

    fn answer(boot: &str, up: Option<u64>) -> Attestation {
        Attestation {
            node: "n1".parse().unwrap(),
            nonce: Nonce::from_random(1),
            boot_id: boot.into(),
            services: Vec::new(),
            disk_free: None,
            migrations: Vec::new(),
            up: up.map(Millis),
            clock: None,
        }
    }

    fn service(generation: u64, age: u64) -> ServiceEvidence {
        let mapped = serde_json::json!({
            "path": "/x", "digest": null, "release": null, "place": "outside", "link": "linked",
        });
        let process = serde_json::json!({
            "pid": 7, "parentage": "supervised", "age": age, "executable": mapped, "mappings": [], "outside": 0,
            "marker": null, "cwd": null, "started": "unknown", "command": "x",
        });
        let service = serde_json::json!({
            "service": "web", "generation": generation, "progress": {"state": "held"}, "current": null, "files": [],
            "files_omitted": 0, "compared": null, "processes": [process], "health": {"state": "healthy"},
        });
        serde_json::from_value(service).unwrap()
    }

    fn begun() -> Past {
        let mut past = Past::default();
        past.begin("b").unwrap();
        past.take(&answer("b", Some(100_000))).unwrap();
        past
    }

    #[test]
    fn a_recorded_answer_is_of_an_earlier_time() {
        let mut past = begun();
        for up in [Some(100_000), Some(99_000), None] {
            let misdeed = past.take(&answer("b", up)).unwrap_err();
            assert_eq!(misdeed.what(), "answer of an earlier time", "{up:?}");
        }
        past.take(&answer("b", Some(100_001))).unwrap();
        assert_eq!(past.take(&answer("a", Some(200_000))).unwrap_err().what(), "answer of another boot");
    }

    #[test]
    fn a_machine_that_was_put_back_is_told_once_and_goes_on() {
        let mut past = begun();
        past.begin("b").unwrap();
        let recorded = answer("b", Some(50_000));
        assert!(past.take(&recorded).is_err(), "told");
        assert!(past.take(&recorded).is_err(), "a recorded answer stays what it is");
        past.take(&answer("b", Some(50_001))).unwrap();
    }

    #[test]
    fn a_reboot_is_no_misdeed_and_a_boot_that_is_over_stays_over() {
        let mut past = begun();
        past.begin("c").unwrap();
        past.take(&answer("c", Some(1))).unwrap();
        assert_eq!(past.begin("b").unwrap_err().what(), "answer of another boot");
        for boot in 0..100 {
            past.begin(&format!("later {boot}")).unwrap();
        }
        assert_eq!(past.over.len(), MOST_BOOTS);
    }

    #[test]
    fn nothing_is_older_than_its_boot_and_no_order_comes_back() {
        let with =
            |generation, age| Attestation { services: vec![service(generation, age)], ..answer("b", Some(200_000)) };
        assert!(begun().take(&with(5, 200_900)).is_ok(), "rounding");
        assert_eq!(begun().take(&with(5, 201_001)).unwrap_err().what(), "process older than its boot");
        let mut past = begun();
        past.take(&with(5, 1)).unwrap();
        let mut back = with(4, 1);
        back.up = Some(Millis(300_000));
        assert_eq!(past.take(&back).unwrap_err().what(), "answer of an earlier order");
        past.begin("b").unwrap();
        past.take(&back).unwrap();
    }

    #[test]
    fn an_agent_that_never_said_how_long_its_machine_is_up_is_left_alone() {
        let mut past = Past::default();
        past.begin("b").unwrap();
        past.take(&answer("b", None)).unwrap();
        past.take(&answer("b", None)).unwrap();
    }
}
