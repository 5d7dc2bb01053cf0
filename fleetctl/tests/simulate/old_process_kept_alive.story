# needrestart and osquery compare a process with the disk and not with the release: after a switch of a symlink nothing
# looks wrong, and "deployed" is reported for a service that runs the old code.
# Here: what runs is compared with what was released. n3 says that it holds 2.0.0 and runs 1.0.0: it is called by its
# name within seconds, long before the deadline, and everything goes back.

fleet 4 nodes
service web 1.0.0 -> 2.0.0
deploy --segments 2 --bake 5s --deadline 120s
node n3 lies

expect order "n3: FAILED old-process: it runs 1.0.0" then "segment 2/2: rolling back"
expect outcome rolled-back
expect exit 3
expect n1,n2,n3,n4 hold 1.0.0
