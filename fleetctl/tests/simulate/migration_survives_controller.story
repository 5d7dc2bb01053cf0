# A controller that dies while a migration runs is no reason to run it again, nor to call it failed: the agent that runs
# it knows it by its number, goes on, and tells the next controller how it ended.

fleet 4 nodes
service shop 1.0.0 -> 2.0.0
deploy --segments 2 --bake 5s --migrate "bin/shop migrate" --migrate-place after:1
migration takes 20s
at 15s: kill controller for 10s

expect said "a controller takes over: 10 facts make the same deployment"
expect migration runs 1
expect order "segment 1/2: ok" then "the migration ended well"
expect order "the migration ended well" then "segment 2/2: started"
expect outcome converged
