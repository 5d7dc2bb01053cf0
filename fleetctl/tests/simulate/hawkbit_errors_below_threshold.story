# hawkBit: a rollout group with an error threshold of 50 % goes on with errors below it, and the rollout ends FINISHED;
# targets that are gone are not even counted.
# Here: 2 of 8 failed and 50 % are allowed, so it goes on; it never ends as a success. The number that counts is fixed
# when it starts: the two are in it to the end.

fleet 8 nodes
service firmware 1.0.0 -> 2.0.0
deploy --segments 4 --max-failures 50% --bake 5s
node n1 refuses after 2s "flash: checksum"
node n5 refuses after 2s "flash: checksum"

expect fact "segment 4/4: ok"
expect never "converged"
expect outcome unproven
expect exit 4
expect n1,n5 are unverified
