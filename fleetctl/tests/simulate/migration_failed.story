# A migration that fails before the first segment: no node has been touched, and none is.

fleet 4 nodes
service shop 1.0.0 -> 2.0.0
deploy --segments 2 --migrate "bin/shop migrate" --migrate-place before:1
migration fails "relation users exists" takes 2s

expect fact "the migration FAILED: relation users exists"
expect never "ordered"
expect migration runs 1
expect outcome rolled-back
expect exit 3
expect serving at least 4
