//! What every node proved in a fresh round, for people.

use fleet_proto::v1;

use super::drift;
use super::table::Columns;
use super::text::{age, count, or_dash, short_digest};

/// The proofs, and below them what was found wrong.
pub fn render(reply: &v1::VerifyReply) -> String {
    let mut text = if reply.proofs.is_empty() { "no node proved anything\n".to_owned() } else { proofs(&reply.proofs) };
    if reply.findings.is_empty() {
        let nodes: std::collections::BTreeSet<&str> = reply.proofs.iter().map(|p| p.node.as_str()).collect();
        text += &format!("{} proven in this round, nothing found.\n", count(nodes.len(), "node"));
    } else {
        text.push('\n');
        text += &drift::findings(&reply.findings, reply.made_at_ms);
        text += &format!("{} found.   (exit 2)\n", count(reply.findings.len(), "difference"));
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
        let mut reply = v1::VerifyReply { proofs: vec![proof("n1"), proof("n2")], findings: vec![], made_at_ms: START };
        assert_eq!(
            render(&reply),
            "NODE  SERVICE  VERSION  RELEASE         DIGEST        GRADE   PROCESSES  AGE
n1    shop     2.3.1    r-9f2c1e7ab310  51ab09c4e2f1  digest  2          1s
n2    shop     2.3.1    r-9f2c1e7ab310  51ab09c4e2f1  digest  2          1s
2 nodes proven in this round, nothing found.
"
        );
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
