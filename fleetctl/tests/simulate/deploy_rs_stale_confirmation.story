# deploy-rs: the file that confirms an activation is named after the closure only. One left over from an earlier attempt
# confirms the next one before it has even been activated, and "confirmed" is printed for a node that went back.
# Here: a proof counts only if it was asked for after the order, and after the bake. n1 proves the release once, falls
# back, and from then on repeats its first proof: that is as good as silence, and it fails.

fleet 2 nodes
service web 1.0.0 -> 2.0.0
deploy --segments 2 --bake 15s --deadline 30s
node n1 falls-back after 4s
node n1 replays

expect fact "n1: proven"
expect never "n1: still proven"
expect fact "n1: FAILED not proven within 30s"
expect never "segment 2/2: started"
expect never "converged"
expect exit 4
