# A queue of people: what each of them wants is defined in every state, takes effect or is refused with the way out, and
# nothing is begun while it is paused: what is under way on nodes ends. (Capistrano and Ansible know Ctrl-C, which leaves
# whatever was half done, and a lock file.)

fleet 6 nodes
service web 1.0.0 -> 2.0.0
deploy --segments 3 --bake 5s --parallel 1
at 1s: pause by alice
at 2s: pause by bob
at 20s: resume by alice
at 21s: resume by alice
at 30s: pause by alice
at 40s: promote by bob
at 45s: abort by bob
at 46s: abort by alice
at 200s: pause by alice

run until finished
run 200s

expect waiting "it was paused by alice; go on with: fleetctl resume d-story" at 10s
expect n1 is proven at 10s
expect n2 is pending at 19s
expect said "bob: pause: refused: d-story is paused already, by alice"
expect said "alice: resume: refused: d-story is not paused"
expect said "bob: promote: refused"
expect said "alice: abort: refused: d-story is being aborted already"
expect said "alice: pause: refused: d-story is over"
expect outcome aborted
expect exit 5
expect n1,n2,n3,n4,n5,n6 hold 1.0.0
