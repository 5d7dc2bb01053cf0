# The same, and the node that joins never proves itself: it came up with the old release and lies about it. A fleet with
# it is not converged.

fleet 2 nodes
service web 1.0.0 -> 2.0.0
deploy --segments 2 --bake 5s
at 5s: join n9 holding 1.0.0
at 5s: node n9 lies

expect never "converged"
expect fact "n9: NOT PROVEN old-process: it runs 1.0.0"
expect outcome unproven
expect n9 holds 1.0.0
