# A canary by hand, as with Nomad's `canary` or Argo's `pause: {}`: one node, an approval by two people, a pause, then the
# rest. A promotion that comes before its time is refused and is not kept for later.

fleet 5 nodes
service web 1.0.0 -> 2.0.0
deploy --canary 1 --segments 2 --bake 5s --pause-after 1 --approve-by 2
at 15s: promote by alice
at 20s: gate approval passes "bob and carol"
at 40s: promote by alice

expect waiting "2 approvals" at 15s
expect said "alice: promote: refused: d-story does not wait to be promoted"
expect waiting "it waits to be promoted after segment 1" at 30s
expect n2,n3,n4,n5 hold 1.0.0 at 39s
expect outcome converged
