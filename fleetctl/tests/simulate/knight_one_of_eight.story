# Knight Capital, 1 August 2012: new code on eight servers, by hand. One was missed, nothing compared the eight, and the
# old code on the eighth woke up. When people went back, they took the new code from the seven correct servers.
# Here: seven of eight is not "converged". The eighth is named, a human is needed (exit 4), the seven correct servers
# are left alone, and the eighth is told to hold the new release the moment it is heard again.

fleet 8 nodes
service orders 1.0.0 -> 2.0.0
deploy --segments 4 --bake 5s --absent-grace 10s
node n8 absent until 90s

run until finished
run 120s

expect outcome unproven
expect exit 4
expect never "converged"
expect never "rolling back"
expect fact "n8: NOT PROVEN"
expect waiting "the last round: proof from n8"
expect n1,n2,n3,n4,n5,n6,n7 are verified
expect n8 holds 1.0.0 at 80s
expect n1,n2,n3,n4,n5,n6,n7,n8 hold 2.0.0
