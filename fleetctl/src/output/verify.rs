//! What every node proved in a fresh round, for people.

use std::collections::{BTreeMap, BTreeSet};

use fleet_proto::v1;

use super::drift;
use super::table::Columns;
use super::text::{age, count, or_dash, plain, short_digest};

/// The proofs, and below them what was found wrong.
pub fn render(reply: &v1::VerifyReply) -> String {
    let mut text = if reply.proofs.is_empty() { "no node proved anything\n".to_owned() } else { proofs(&reply.proofs) };
    if reply.findings.is_empty() {
        let nodes: BTreeSet<&str> = reply.proofs.iter().map(|p| p.node.as_str()).collect();
        if !nodes.is_empty() {
            text += &format!("{} proven in this round, nothing found.\n", count(nodes.len(), "node"));
        }
    } else {
        text.push('\n');
        text += &drift::findings(&reply.findings, reply.made_at_ms);
        text += &format!("{} found.   (exit 2)\n", count(reply.findings.len(), "difference"));
    }
    text + &mixed(&reply.proofs)
}

/// Which services are proven on more than one release: each node holds what it shall hold, and yet they differ.
fn mixed(proofs: &[v1::Proof]) -> String {
    let mut services: BTreeMap<&str, BTreeMap<(&str, &str), BTreeSet<&str>>> = BTreeMap::new();
    for proof in proofs {
        let releases = services.entry(&proof.service).or_default();
        releases.entry((&proof.version, &proof.release)).or_default().insert(&proof.node);
    }
    let mut text = String::new();
    for (service, releases) in services.into_iter().filter(|(_, releases)| releases.len() > 1) {
        let parts = releases.iter().map(|((version, release), nodes)| {
            format!("{} ({}) on {}", plain(version), plain(release), count(nodes.len(), "node"))
        });
        let parts = parts.collect::<Vec<_>>().join(", ");
        text += &format!("note: {} is mixed: {parts}\n", plain(service));
    }
    text
}

/// The table of proofs.
pub fn proofs(proofs: &[v1::Proof]) -> String {
    let mut rows = Columns::new(&["NODE", "SERVICE", "VERSION", "RELEASE", "DIGEST", "GRADE", "PROCESSES", "AGE"]);
    for proof in proofs {
        rows.row([
            proof.node.clone(),
            proof.service.clone(),
            or_dash(&proof.version),
            or_dash(&proof.release),
            or_dash(&short_digest(&proof.digest)),
            or_dash(&proof.grade),
            proof.processes.to_string(),
            age(proof.age_ms),
        ]);
    }
    rows.to_text()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::output::samples::{START, finding};

    pub(crate) fn proof(node: &str) -> v1::Proof {
        v1::Proof {
            node: node.into(),
            service: "shop".into(),
            release: "r-9f2c1e7ab310".into(),
            version: "2.3.1".into(),
            digest: "51ab09c4e2f1".repeat(5) + "abcd",
            grade: "digest".into(),
            age_ms: 1_200,
            processes: 2,
            nonce: String::new(),
        }
    }

    #[test]
    fn proofs_and_findings() {
        let mut reply =
            v1::VerifyReply { proofs: vec![proof("n1"), proof("n2")], made_at_ms: START, ..v1::VerifyReply::default() };
        assert_eq!(
            render(&reply),
            "NODE  SERVICE  VERSION  RELEASE         DIGEST        GRADE   PROCESSES  AGE
n1    shop     2.3.1    r-9f2c1e7ab310  51ab09c4e2f1  digest  2          1s
n2    shop     2.3.1    r-9f2c1e7ab310  51ab09c4e2f1  digest  2          1s
2 nodes proven in this round, nothing found.
"
        );
        reply.proofs[1] = v1::Proof { version: "2.3.0".into(), release: "r-51ab09c4e2f1".into(), ..proof("n2") };
        assert!(
            render(&reply).ends_with(
                "2 nodes proven in this round, nothing found.\nnote: shop is mixed: 2.3.0 (r-51ab09c4e2f1) on 1 node, 2.3.1 (r-9f2c1e7ab310) on 1 node\n"
            ),
            "{}",
            render(&reply)
        );
        reply.proofs[1] = proof("n2");
        reply.findings.push(finding("n3", "unreachable", "no contact", "", "", "critical"));
        assert!(
            render(&reply).ends_with(
                "n3    -        unreachable  no contact  -         -      2d\n1 difference found.   (exit 2)\n"
            ),
            "{}",
            render(&reply)
        );
    }
}
