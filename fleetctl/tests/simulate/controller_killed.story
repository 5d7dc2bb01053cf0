# Whoever runs Ansible or Capistrano from a laptop knows what happens when it closes. Servers that take over from a
# database of *state* have lost what was only in memory.
# Here: the journal is the deployment. Its controller is killed in one phase after the other, and its successors go on
# with the same deployment, blame no node for the time in which nobody listened, and ask a gate again.

fleet 4 nodes
service web 1.0.0 -> 2.0.0
deploy --segments 2 --bake 10s --gate test --deadline 20s --confirm 60s
gate test passes after 4s
at 1s: kill controller for 40s          # while n1 and n2 are at work
at 47s: kill controller for 10s         # while they bake
at 70s: kill controller for 10s         # while the gate is asked
at 93s: kill controller for 30s         # while n3 and n4 are at work

expect said "3 facts make the same deployment"
expect never "FAILED"
expect outcome converged
