# CodeDeploy, CodeDeployDefault.AllAtOnce: the floor of healthy hosts is 0, and the deployment has *succeeded* when one
# of N instances has: here it would be a success with one of four.
# Here: the same floor may be used, but it never says that something worked. One node proved the release and three did
# not, so everything goes back, proven again, and the exit code is 3.

fleet 4 nodes
service web 1.0.0 -> 2.0.0
deploy --segments 1 --min-healthy codedeploy:AllAtOnce --max-failures 0 --bake 5s
node n2,n3,n4 refuses after 3s "start: exit 1"

expect outcome rolled-back
expect exit 3
expect fact "n1: proven"
expect never "converged"
expect fact "rolling back: 1 failed, 0 allowed"
expect n1,n2,n3,n4 hold 1.0.0
