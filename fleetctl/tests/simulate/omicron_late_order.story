# omicron numbers what each host shall hold, since a message that was under way for long must not undo a newer one. Tools
# that push (Ansible, Capistrano) have no such number: a host that hangs in the middle carries the old wish out later.
# Here: n2 is out of contact when it is ordered forward and when it is ordered back. When it is heard again it gets the
# order back and nothing else; and the answers of n1, which are under way for three seconds, prove nothing about an order
# that came in between.

fleet 3 nodes
service web 1.0.0 -> 2.0.0
deploy --segments 1 --deadline 60s --bake 10s
node n1 answers after 3s
node n3 refuses after 5s
at 1s: lose n2 for 30s

expect outcome rolled-back
expect never "converged"
expect never "n2: FAILED"
expect n1,n2,n3 hold 1.0.0
