# Argo Rollouts: an analysis without data, or one that is ended early, can count as successful; the answer "inconclusive"
# was added later and pauses the rollout without a limit.
# Here: no answer is never a yes. The gate has a time limit, then it is inconclusive, and the deployment halts until a
# person decides: alice has it asked again, it passes, and every segment needs its own answer.

fleet 4 nodes
service web 1.0.0 -> 2.0.0
deploy --segments 2 --bake 5s --metric error_rate --gate-timeout 20s
gate metric silent
at 60s: gate metric passes "0.1 %"
at 61s: promote --retry by alice

expect waiting "an answer to the gate metric (the metric error_rate)" at 15s
expect fact "segment 1/2: gate 1 INCONCLUSIVE: no answer within 20s"
expect waiting "fleetctl promote d-story, or fleetctl abort d-story" at 50s
expect order "INCONCLUSIVE" then "segment 2/2: started"
expect fact "gate 1 is asked, attempt 2"
expect outcome converged
