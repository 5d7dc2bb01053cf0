# Argo Rollouts: a pause without a duration waits for ever; half of the fleet runs the new version for as long as nobody
# remembers.
# Here: a person is waited for, and not for ever. Nobody promotes within ten minutes, and it goes back.

fleet 4 nodes
service web 1.0.0 -> 2.0.0
deploy --segments 2 --bake 5s --pause-after 1 --pause-timeout 10m

expect waiting "it waits to be promoted after segment 1; fleetctl promote d-story" at 5m
expect fact "rolling back: nobody decided within 10m: it waits to be promoted after segment 1"
expect never "segment 2/2: started"
expect outcome rolled-back
