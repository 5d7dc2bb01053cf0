# Kamal and Capistrano: a lock file that a dead process left behind, or none at all, and two deployments that mix.
# Here: another deployment can take the place of a running one, by a person's wish and on the record. The first is over at
# once, as what it is (exit 5), and orders nothing more.

fleet 4 nodes
service web 1.0.0 -> 2.0.0
deploy --segments 4 --bake 10s
at 20s: supersede with d-hotfix by bob

run until finished
run 30s

expect fact "bob puts d-hotfix in its place"
expect outcome superseded
expect exit 5
expect n1,n2 hold 2.0.0
expect n3,n4 hold 1.0.0
