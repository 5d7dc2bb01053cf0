# Nomad and autoscaling groups with CodeDeploy: an instance that starts during a deployment gets the *old* revision, or
# is left out of the deployment that then "succeeds".
# Here: whoever joins is held with what it has (nothing), gets the release in the last round, and belongs to the verdict.
# One node is taken out for good while it runs: that needs a record with a name and a reason, and it is not proven away.

fleet 4 nodes
service web 1.0.0 -> 2.0.0
deploy --segments 2 --bake 10s
at 5s: join n9
at 8s: decommission n4 "mainboard, OPS-31" by carol

expect n9 holds nothing at 20s
expect order "n9: joined" then "verifying every expected node"
expect order "verifying every expected node" then "n9: verified"
expect fact "n4: decommissioned by carol: mainboard, OPS-31"
expect outcome converged
expect n1,n2,n3,n9 hold 2.0.0
