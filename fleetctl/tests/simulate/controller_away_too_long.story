# Confirm or undo has two sides: an agent that is not confirmed in time goes back, also when it is the controller that is
# away. Its successor sees what the nodes run, calls it a failure, and takes back what did not take itself back.

fleet 3 nodes
service web 1.0.0 -> 2.0.0
deploy --segments 1,rest --bake 5s --confirm 30s
at 1s: kill controller for 60s

expect said "n1 not confirmed within 30s: went back by itself to 1.0.0"
expect fact "n1: FAILED not confirmed within 30s"
expect never "segment 2/2: started"
expect outcome rolled-back
expect n1,n2,n3 hold 1.0.0
