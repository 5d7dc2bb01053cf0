# Salt: minions that do not answer within the time-out are not in the result, and the exit code is 0.
# Here: they are failures with names. Two of six never answer: the first segment with one of them turns the fleet back,
# and since nobody knows what a silent node runs, a human is needed.

fleet 6 nodes
service web 1.0.0 -> 2.0.0
deploy --segments 3 --deadline 20s
node n2,n5 silent

expect fact "n2: FAILED silent for 20s: no answer from its agent"
expect fact "n5: NOT PROVEN"
expect never "segment 2/3: started"
expect never "converged"
expect exit 4
