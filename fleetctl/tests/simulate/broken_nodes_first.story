# CodeDeploy's order, which is kept: instances that are already broken go first, since changing them costs no capacity.
# 4 of 6 must serve and 5 do, so that one healthy node moves at a time, and the broken one besides.

fleet 6 nodes az=a,b
service web 1.0.0 -> 2.0.0
deploy --segments 1 --order spread:az --min-healthy 4 --bake 5s
node n5 unhealthy

expect said "segments: n5"
expect order "ordered: n5" then "n6: proven"
expect serving at least 4
expect outcome converged
