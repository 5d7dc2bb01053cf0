# Octopus Deploy again: whoever was skipped once stays skipped, and nobody remembers why.
# Here: a waiver ends. This one is over before the deployment is, so that it covers nothing any more: unproven, exit 4.

fleet 4 nodes
service web 1.0.0 -> 2.0.0
deploy --segments 4 --bake 30s --absent-grace 10s --waive-unreachable "maintenance" --waive-for 1m
node n4 absent

expect never "converged"
expect outcome unproven
expect exit 4
