# Argo Rollouts: a measurement that cannot be taken is an error and not a failure, and an analysis that is terminated
# early ends "successful" unless its limit was already passed.
# Here: a test that says no turns everything back, with what was seen in the reason; a late yes to an earlier asking
# changes nothing.

fleet 4 nodes
service web 1.0.0 -> 2.0.0
deploy --segments 2 --bake 5s --test "make smoke"
gate test fails "2 of 9 checks failed" after 5s

expect fact "segment 1/2: gate 1 FAILED: 2 of 9 checks failed"
expect fact "rolling back: gate test after segment 1"
expect never "segment 2/2: started"
expect outcome rolled-back
expect exit 3
