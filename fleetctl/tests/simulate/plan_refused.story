# CodeDeploy: N=10 at 95 % means that 10 must be healthy: "fails immediately". A full disk is found while files are
# copied, on the instances that are then left half installed.
# Here both are in the plan, before anything is touched, each with what lifts it.

fleet 10 nodes
service web 1.0.0 -> 2.0.0
deploy --segments 4 --min-healthy 95%
node n7 blocked "the disk is full: 12 MB free, 96 MB needed"

run 10s

expect outcome refused
expect exit 1
expect said "n7: the disk is full"
expect said "10 nodes must serve (--min-healthy 95%) and 10 are there"
expect serving at least 10
