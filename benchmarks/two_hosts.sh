#!/bin/sh
# A training on two hosts that are two network namespaces of this machine, joined by a pair of virtual cards.
# Needs root (ip netns). Usage: benchmarks/two_hosts.sh RECIPE OUT [-o key=value …]
set -eu
recipe=$1 out=$2
shift 2
name=kun$$
clean() {
    for host in a b; do
        ip netns pids "$name$host" 2>/dev/null | xargs -r kill 2>/dev/null || true
        ip netns delete "$name$host" 2>/dev/null || true
    done
}
trap clean EXIT INT TERM
for host in a b; do ip netns add "$name$host"; done
ip link add "v${name}a" netns "${name}a" type veth peer name "v${name}b" netns "${name}b"
number=1
for host in a b; do
    ip -n "$name$host" address add "10.77.0.$number/24" dev "v$name$host"
    ip -n "$name$host" link set "v$name$host" up
    ip -n "$name$host" link set lo up
    number=2
done
begin() {
    host=$1 number=$2
    shift 2
    GLOO_SOCKET_IFNAME="v$name$host" ip netns exec "$name$host" "${PYTHON:-python}" -m torch.distributed.run \
        --nnodes=2 --nproc_per_node=1 --node_rank="$number" --master_addr=10.77.0.1 --master_port=29511 \
        -m kun train "$recipe" -o "out=$out" -o parallel.data=2 "$@"
}
begin b 1 "$@" &
begin a 0 "$@"
wait
