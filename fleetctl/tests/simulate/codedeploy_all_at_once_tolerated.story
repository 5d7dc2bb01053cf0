# CodeDeploy, CodeDeployDefault.AllAtOnce again, by someone who asks for its tolerance: three of four may fail.
# There: Succeeded. Here: a budget says when to turn back, never that it worked. Nothing turns back, since it was allowed
# to fail; and the outcome is "unproven" (exit 4), with the three named.

fleet 4 nodes
service web 1.0.0 -> 2.0.0
deploy --segments 1 --min-healthy codedeploy:AllAtOnce --max-failures 75% --bake 5s
node n2,n3,n4 refuses after 3s "start: exit 1"

expect outcome unproven
expect exit 4
expect never "converged"
expect never "rolling back"
expect n1 is verified
expect n2,n3,n4 are unverified
