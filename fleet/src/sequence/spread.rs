//! Drawing from several domains so that every prefix holds each in proportion.
//!
//! **Law** (R. Tijdeman, "The chairman assignment problem", Discrete Mathematics 32, 1980): with `D >= 2` domains,
//! of which one has `n` of `N` nodes, the first `k` places hold `k·n/N` of its nodes give or take
//! `d = 1 - 1/(2D-2)`, for every `k` at once.
//!
//! **Why this keeps it.** Let `r = n/N`. The law says that the `j`-th node of a domain comes not before place
//! `ceil((j-d)/r)` and not after `floor((j-1+d)/r) + 1`: jobs of length one with a release and a deadline, on one
//! machine. There, taking the earliest deadline among the released finds a schedule if there is one; and by Hall's
//! theorem there is one if, of any `L` places from `a` to `b`, at most `L` jobs must lie within. Those of one domain
//! are the whole numbers strictly between `(a-1)r + d` and `br + 1 - d`: fewer than `Lr + 1/(D-1)`. If some domain
//! has none, all together are fewer than `L + 1`. If each has some, the last of each add up to less than
//! `b + D/(2D-2) <= b + 1`, and the ones before the first to more than `a - 1 - 1`; so again there are at most
//! `b - (a-1) = L`. As there are `N` jobs with deadlines up to `N`, no place stays empty.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The domain to draw from at each place, for domains of these sizes, none of them empty; of equals the first.
/// The work is `N log N`.
pub(super) fn in_proportion(sizes: &[usize]) -> Vec<usize> {
    let total = sizes.iter().map(|&size| size as u128).sum::<u128>();
    // d = (unit - 1) / unit. A single domain has d = 0. All in u128: products of three lengths stay far below it.
    let unit = (2 * sizes.len() as u128).saturating_sub(2).max(1);
    let mut jobs: Vec<(u128, u128, usize)> = sizes
        .iter()
        .enumerate()
        .flat_map(|(domain, &size)| {
            let size = size as u128;
            (1..=size).map(move |j| {
                let release = (((j - 1) * unit + 1) * total).div_ceil(unit * size);
                let deadline = ((j * unit - 1) * total) / (unit * size) + 1;
                (release, deadline, domain)
            })
        })
        .collect();
    jobs.sort_unstable();
    let mut drawn = Vec::with_capacity(jobs.len());
    let mut jobs = jobs.into_iter().peekable();
    let mut released = BinaryHeap::new();
    for place in 1..=total {
        while let Some((_, deadline, domain)) = jobs.next_if(|(release, _, _)| *release <= place) {
            released.push(Reverse((deadline, domain)));
        }
        drawn.extend(released.pop().map(|Reverse((_, domain))| domain));
    }
    drawn
}
