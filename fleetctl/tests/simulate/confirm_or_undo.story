# deploy-rs again ("magic rollback"): a node that cannot be reached after the switch must undo it by itself. There, a
# rollback of this kind could end as a success.
# Here: the release that n2 was given breaks the way back to the controller: no confirmation arrives, the agent goes back
# by itself after 30s and says so when it is asked. That is a failure, and the whole fleet goes back (exit 3).

fleet 4 nodes
service network 1.0.0 -> 2.0.0
deploy --segments 2 --bake 45s --confirm 30s --deadline 120s
node n2 unconfirmed

expect said "n2 not confirmed within 30s: went back by itself to 1.0.0"
expect never "n2: still proven"
expect fact "n2: FAILED not confirmed within 30s"
expect outcome rolled-back
expect exit 3
expect n1,n2,n3,n4 hold 1.0.0
