#!/bin/bash
# Two nodes on one machine, each with a network of its own (Linux, as root): two_namespaces.sh epochs=1 …
set -euo pipefail
clean() { for node in 0 1; do ip netns del "imgcls$node" 2>/dev/null || true; done; }
trap clean EXIT
clean
ip netns add imgcls0
ip netns add imgcls1
ip link add veth0 netns imgcls0 type veth peer name veth1 netns imgcls1
for node in 0 1; do
    ip -n "imgcls$node" addr add "10.77.0.$((node + 1))/24" dev "veth$node"
    ip -n "imgcls$node" link set "veth$node" up
    ip -n "imgcls$node" link set lo up
done
for node in 1 0; do
    GLOO_SOCKET_IFNAME="veth$node" ip netns exec "imgcls$node" \
        torchrun --nnodes=2 --node_rank="$node" --nproc_per_node=1 \
        --master_addr=10.77.0.1 --master_port=29500 \
        -m imgcls trainer=ddp_cpu trainer.devices=1 trainer.num_nodes=2 "$@" &
done
wait %1 %2
