# Hook-based tools (CodeDeploy, Capistrano, Kamal) run a migration as a step of a script: when the machine or the tool
# dies in between, the step is run again with the next attempt, on a schema that is half changed.
# Here: a migration is begun once. The machine that runs it crashes, and nobody can tell whether it ended: the deployment
# halts and says so, through a change of the controller too, until a person says "run it again".

fleet 4 nodes
service shop 1.0.0 -> 2.0.0
deploy --segments 2 --bake 5s --migrate "bin/shop migrate" --migrate-place before:1 --migrate-timeout 60s
migration takes 10s
at 4s: crash n1 for 6s
at 20s: kill controller for 5s
at 40s: promote --retry by alice

expect fact "n1: the migration was INTERRUPTED: the machine stopped while it ran"
expect waiting "nobody can tell whether the migration migrate ran" at 30s
expect order "INTERRUPTED" then "segment 1/2: started"
expect fact "the migration is run here, attempt 2"
expect migration runs 2
expect outcome converged
