# hawkBit: the error action of a group is PAUSE, and the rollout waits. Here, with --on-failure pause, the same: nothing
# goes back by itself, and a person who has looked at it may let it go on. The failed node is still not proven: exit 4.

fleet 4 nodes
service web 1.0.0 -> 2.0.0
deploy --segments 2 --bake 5s --on-failure pause
node n1 refuses after 2s
at 30s: promote by alice

expect waiting "it failed: 1 failed, 0 allowed" at 20s
expect order "promoted by alice" then "segment 2/2: started"
expect never "rolling back"
expect outcome unproven
expect exit 4
