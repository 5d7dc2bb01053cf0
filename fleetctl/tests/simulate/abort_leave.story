# "Stop, and touch nothing more": every node is left as it is, and the outcome says so (exit 5), not "success" and not
# "rolled back".

fleet 4 nodes
service web 1.0.0 -> 2.0.0
deploy --segments 4 --bake 10s
at 20s: abort --leave by bob

expect outcome aborted
expect exit 5
expect never "rolling back"
expect n1,n2 hold 2.0.0
expect n3,n4 hold 1.0.0
