//! The chain of statements: each carries the digest of the one before it, so that none can be left out, put in, edited
//! or brought into another order without the next one saying so. Only what comes after the newest is not covered.

use crate::Digest;

/// One statement's place in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Its number, from 1.
    pub sequence: u64,
    /// The digest of the payload of the one before it; the first has none.
    pub previous: Option<Digest>,
    /// The digest of its own payload.
    pub digest: Digest,
}

/// A chain that is whole, from its first link to its last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The number of the first.
    pub first: u64,
    /// The last.
    pub head: Link,
}

/// Where a chain is not whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// There is nothing to check.
    #[error("there is no statement")]
    Empty,
    /// Two different statements have one number.
    #[error("there are two different statements {sequence}: the chain forks there")]
    Fork {
        /// The number.
        sequence: u64,
    },
    /// Some are missing.
    #[error("statement {missing} is missing: after {after} comes {next}")]
    Gap {
        /// The first that is missing.
        missing: u64,
        /// The last before it.
        after: u64,
        /// The first after it.
        next: u64,
    },
    /// They do not come in the order in which they were made.
    #[error("statement {found} comes after {after}: they are in another order than they were made in")]
    Order {
        /// The earlier one.
        found: u64,
        /// What stands before it.
        after: u64,
    },
    /// What one says of its predecessor is not what the predecessor is.
    #[error(
        "statement {sequence} was made after another statement {} than this one: one of the two has been replaced",
        .sequence - 1
    )]
    Broken {
        /// The later of the two.
        sequence: u64,
    },
}

/// Checks links in the order in which they were made. The chain may begin later than with 1: what came before is then
/// not looked at.
///
/// # Errors
/// With the first place where it is not whole.
pub fn check(links: &[Link]) -> Result<Run, ChainError> {
    let [first, ..] = links else { return Err(ChainError::Empty) };
    let mut head = *first;
    for link in &links[1..] {
        match link.sequence {
            same if same == head.sequence => return Err(ChainError::Fork { sequence: same }),
            found if found < head.sequence => return Err(ChainError::Order { found, after: head.sequence }),
            next if next > head.sequence + 1 => {
                return Err(ChainError::Gap { missing: head.sequence + 1, after: head.sequence, next });
            }
            sequence if link.previous != Some(head.digest) => return Err(ChainError::Broken { sequence }),
            _next => head = *link,
        }
    }
    Ok(Run { first: first.sequence, head })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn chain(length: u8) -> Vec<Link> {
        let mut links: Vec<Link> = Vec::new();
        for number in 1..=length {
            let previous = links.last().map(|link| link.digest);
            links.push(Link { sequence: number.into(), previous, digest: Digest([number; 32]) });
        }
        links
    }

    #[test]
    fn a_whole_chain_is_whole_wherever_it_begins() {
        let links = chain(5);
        assert_eq!(check(&links), Ok(Run { first: 1, head: links[4] }));
        assert_eq!(check(&links[2..]), Ok(Run { first: 3, head: links[4] }));
        assert_eq!(check(&links[..1]), Ok(Run { first: 1, head: links[0] }));
        assert_eq!(check(&[]), Err(ChainError::Empty));
    }

    #[test]
    fn every_damage_has_its_name() {
        let links = chain(5);
        let without = [&links[..2], &links[3..]].concat();
        assert_eq!(check(&without), Err(ChainError::Gap { missing: 3, after: 2, next: 4 }));
        let mut swapped = links.clone();
        swapped.swap(1, 2);
        assert_eq!(check(&swapped), Err(ChainError::Gap { missing: 2, after: 1, next: 3 }));
        assert_eq!(
            check(&[links[1], links[2], links[0]]),
            Err(ChainError::Order { found: 1, after: 3 }),
            "an earlier one at the end"
        );
        let mut edited = links.clone();
        edited[2].digest = Digest([77; 32]);
        assert_eq!(check(&edited), Err(ChainError::Broken { sequence: 4 }));
        let fork = Link { digest: Digest([78; 32]), ..links[2] };
        assert_eq!(check(&[links[1], links[2], fork]), Err(ChainError::Fork { sequence: 3 }));
    }

    proptest! {
        /// Whatever is taken out of the middle, doubled, swapped or edited: it is said, unless what is left is a run.
        #[test]
        fn no_other_order_is_whole(picked in proptest::collection::vec(0_usize..8, 1..10)) {
            let links = chain(8);
            let taken: Vec<Link> = picked.iter().map(|at| links[*at]).collect();
            let is_run = picked.windows(2).all(|pair| pair[1] == pair[0] + 1);
            prop_assert_eq!(check(&taken).is_ok(), is_run);
        }

        #[test]
        fn an_edited_link_is_said_unless_it_is_the_last(at in 0_usize..8, byte in 100_u8..) {
            let mut links = chain(8);
            links[at].digest = Digest([byte; 32]);
            prop_assert_eq!(check(&links).is_ok(), at == 7);
        }
    }
}
