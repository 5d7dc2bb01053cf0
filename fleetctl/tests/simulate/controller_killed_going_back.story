# The same on the way back: a killed controller's successor goes on going back, with the newest segment first.

fleet 4 nodes
service web 1.0.0 -> 2.0.0
deploy --segments 4 --bake 5s --deadline 20s
node n3 refuses after 2s
at 17s: kill controller for 60s

expect said "make the same deployment"
expect order "segment 3/4: rolling back" then "segment 2/4: rolling back"
expect order "segment 2/4: rolling back" then "segment 1/4: rolling back"
expect never "NOT RESTORED"
expect outcome rolled-back
