# CodeDeploy records a revision as the "last successful install" when its files are copied, before the service was
# started or validated, and rolls back by deploying one revision to the whole group.
# Here: each node goes back to what it held itself, which was proven: n1 to 1.0.0, n2 to 1.1.0, and n3, on which the
# service never was, to nothing.

fleet 4 nodes
service web 1.0.0 -> 2.0.0
deploy --segments 1 --bake 5s
node n2 holds 1.1.0
node n3 holds nothing
node n4 refuses after 6s

expect outcome rolled-back
expect n1,n4 hold 1.0.0
expect n2 holds 1.1.0
expect n3 holds nothing
expect said "n2: hold 1.1.0"
expect said "n3: hold nothing"
