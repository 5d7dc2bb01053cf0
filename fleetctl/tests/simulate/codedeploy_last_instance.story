# CodeDeploy, CodeDeployDefault.OneAtATime (its default): "if only the last instance fails, the deployment still
# succeeds", since all but one are healthy, which is what the configuration asks for.
# Here: the same floor lets one node move at a time, and the last one that fails fails the deployment like any other.

fleet 4 nodes
service web 1.0.0 -> 2.0.0
deploy --segments 1 --min-healthy codedeploy:OneAtATime --bake 0s
node n4 refuses after 2s "validate: exit 1"

expect outcome rolled-back
expect exit 3
expect never "converged"
expect order "n3: proven" then "n4: FAILED"
expect serving at least 3
expect n1,n2,n3,n4 hold 1.0.0
