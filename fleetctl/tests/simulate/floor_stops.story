# CodeDeploy: N=10, 8 must be healthy: two at a time, and the second failure stops the deployment (vector of the AWS
# documentation). The same arithmetic here, although the failure budget would allow more: the floor turns it back.

fleet 10 nodes
service web 1.0.0 -> 2.0.0
deploy --segments 1 --min-healthy 8 --max-failures 5
node n1,n2 refuses after 3s

expect fact "rolling back: 8 nodes are healthy and 8 must stay so"
expect never "n3: proven"
expect serving at least 8
expect outcome rolled-back
