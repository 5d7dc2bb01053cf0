# Nomad: a client that loses contact during a deployment and comes back keeps its allocation, with the *old* version of
# a job whose deployment has meanwhile succeeded.
# Here: the deployment cannot have succeeded without it. And what a node shall hold is remembered: when it is heard
# again, hours later, it is told to hold the new release before anything else.

fleet 3 nodes
service api 1.0.0 -> 2.0.0
deploy --segments 3 --bake 5s --max-failures 1 --deadline 20s
at 1s: lose n2 for 300s

run until finished
run 300s

expect outcome unproven
expect never "converged"
expect fact "n2: FAILED silent for 20s"
expect n2 holds 1.0.0 at 200s
expect said "n2 is in contact again"
expect said "n2 hears it only now: hold 2.0.0"
expect n1,n2,n3 hold 2.0.0
