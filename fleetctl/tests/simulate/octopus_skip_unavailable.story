# Octopus Deploy: "skip unavailable" deployment targets: those that are down are left out, and the release is a success.
# Here: nobody is left out silently. A waiver has a name, a reason and an end; the node is still told and waited for, and
# the outcome has another name and another exit code (7). A node that comes back in time is simply proven.

fleet 4 nodes
service web 1.0.0 -> 2.0.0
deploy --segments 2 --bake 5s --absent-grace 10s --waive n4="disk replaced, OPS-12" --waive-for 24h
node n4 absent

expect said "waived by alice: disk replaced, OPS-12"
expect outcome converged-with-waivers
expect exit 7
expect n4 is unverified
expect n4 holds 1.0.0
