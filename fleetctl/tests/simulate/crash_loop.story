# Kubernetes and Nomad: a service that crashes every few seconds is "running" whenever it is asked at the right moment
# (minReadySeconds 0). Here: it must outlive the bake in one life.

fleet 2 nodes
service web 1.0.0 -> 2.0.0
deploy --segments 2 --bake 15s --deadline 30s
node n1 crashes every 4s

expect fact "n1: proven"
expect fact "n1: FAILED not proven within 30s: proven, up for"
expect outcome rolled-back
