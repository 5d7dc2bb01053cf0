# Ansible: `max_fail_percentage` counts hosts that failed and not hosts that cannot be reached (they are in another
# list), so that a rolling play goes on from batch to batch while hosts fall silent.
# Here: silence past the deadline is a failure like any other, counted by the same arithmetic: 2 of 8 are 25 %, which is
# more than 20 %. The fleet turns back; the silent ones are named, since nobody knows what they run.

fleet 8 nodes
service web 1.0.0 -> 2.0.0
deploy --segments 4 --max-failures 20% --deadline 30s --bake 5s
node n2,n3 silent

expect fact "n2: FAILED silent for 30s"
expect fact "n3: FAILED silent for 30s"
expect fact "rolling back: 2 failed, 20% allowed"
expect never "segment 3/4: started"
expect outcome unproven
expect exit 4
expect n1,n4,n5,n6,n7,n8 hold 1.0.0
