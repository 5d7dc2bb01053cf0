# deploy-rs: when one node fails, the others are revoked one after the other, and the first whose revoke fails ends the
# loop: the rest stay on the new version without a word.
# Here: the way back goes newest segment first and goes on past a node that cannot go back. It is named, the others are
# proven back, and the exit code says that a human is needed.

fleet 4 nodes
service web 1.0.0 -> 2.0.0
deploy --segments 4 --bake 0s
node n3 stuck
node n4 refuses after 2s

expect order "segment 4/4: rolling back" then "segment 3/4: rolling back"
expect order "n3: NOT RESTORED" then "n2: back on what it held before"
expect fact "n1: back on what it held before"
expect outcome unproven
expect exit 4
expect n1,n2,n4 hold 1.0.0
expect n3 holds 2.0.0
