# CodeDeploy, Kubernetes: a floor of healthy hosts is counted when a batch begins; hosts that fall ill for other reasons
# while it runs come on top of it.
# Here: who serves is counted all the time. 6 of 8 must; while two nodes of the last segment are ill, nobody is taken
# out, and the reason for waiting says so. It goes on when they are back.

fleet 8 nodes
service web 1.0.0 -> 2.0.0
deploy --segments 4 --min-healthy 75% --bake 10s
at 5s: break n7,n8 for 20s

expect waiting "segment 2: n3, n4 may not be taken out, since 6 nodes serve and 6 must" at 15s
expect n3,n4 are pending at 24s
expect serving at least 6
expect outcome converged
