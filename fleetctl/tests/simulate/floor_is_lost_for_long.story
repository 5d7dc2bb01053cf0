# The same, and they do not come back: waiting has an end as well. After the time that one node may take, it turns back.

fleet 8 nodes
service web 1.0.0 -> 2.0.0
deploy --segments 4 --min-healthy 75% --bake 10s --deadline 60s
at 5s: break n7,n8

expect fact "rolling back: 6 nodes are healthy and 6 must stay so"
expect never "segment 2/4: ordered"
expect n1,n2 hold 1.0.0
expect outcome unproven
