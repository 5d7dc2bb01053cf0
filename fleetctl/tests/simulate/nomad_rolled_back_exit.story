# Nomad: `nomad job run` of a job that fails and is reverted (auto_revert) can end with exit code 0, since the revert
# was successful; a pipeline goes on as if the new version ran.
# Here: a rollback that succeeded is still a deployment that failed: exit 3, never 0.

fleet 4 nodes
service api 1.0.0 -> 2.0.0
deploy --segments 1,rest --bake 10s
node n1 falls-back after 8s

expect outcome rolled-back
expect exit 3
expect never "converged"
expect fact "n1: FAILED old-process: it runs 1.0.0"
expect never "segment 2/2: started"
expect n1,n2,n3,n4 hold 1.0.0
