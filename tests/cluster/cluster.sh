# shellcheck shell=bash disable=SC2034,SC2154
# Functions for one cluster, whose name is in $name. Source this file after lib.sh and images.sh.

# use_cluster NAME
use_cluster() {
  name=$1
  [[ $name =~ ^[a-z0-9][a-z0-9.-]*$ ]] || fail "a cluster's name consists of lower-case letters, digits, dots and dashes, not: $name"
  KUBECONFIG=$CLUSTER_CACHE/kubeconfigs/$name
  COMPLETE=$CLUSTER_CACHE/kubeconfigs/.$name.complete # exists once `up` has found the cluster healthy
  OWNER=$CLUSTER_CACHE/kubeconfigs/.$name.owner       # the process of .ci/run that uses it, if one does
  export KUBECONFIG
  mkdir -p "${KUBECONFIG%/*}"
}

# nodes: print the cluster's node containers in any state, the control plane first.
nodes() { docker ps --all --filter "label=io.x-k8s.kind.cluster=$name" --format '{{.Names}}' | sort; }

# healthy: whether the API answers, every node is ready and its kubelet alive (a dead node stays ready for 40 s), every node reaches the
# cluster's DNS service, and the pod network's daemons run. Prints the first defect to standard error.
healthy() {
  local node ready nodes
  mapfile -t nodes < <(nodes)
  kubectl --request-timeout 5s get --raw /readyz >/dev/null || return 1
  ready=$(kubectl --request-timeout 5s get nodes --output 'jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}') || return 1
  [[ $ready == "$(printf 'True %.0s' "${nodes[@]}" | sed 's/ $//')" ]] || {
    say "nodes ready: $ready, of ${#nodes[@]} containers"
    return 1
  }
  for node in "${nodes[@]}"; do
    docker exec --interactive "$node" timeout 10 bash -s <<<"$NODE_PROBE" || {
      say "on $node the kubelet or the cluster's DNS does not answer"
      return 1
    }
  done
  kubectl --request-timeout 5s --namespace kube-system get daemonsets --output \
    'jsonpath={range .items[*]}{.metadata.name} {.status.desiredNumberScheduled} {.status.numberReady}{"\n"}{end}' |
    awk 'NF && $2 != $3 { print "daemon set " $1 ": " $3 " of " $2 " ready"; bad = 1 } END { exit bad }' >&2
}

# Ask DNS for kubernetes.default.svc.cluster.local with a hand-made datagram, because a node has no resolver tool. The fourth byte of
# the answer ends in 0 if there is no error.
# shellcheck disable=SC2016
NODE_PROBE='
set -e
curl -sf -o /dev/null http://127.0.0.1:10248/healthz
exec 3<>/dev/udp/10.96.0.10/53
printf "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x0akubernetes\x07default\x03svc\x07cluster\x05local\x00\x00\x01\x00\x01" |
  dd bs=512 iflag=fullblock status=none >&3
answer=$(timeout 2 dd bs=512 count=1 status=none <&3 | od -An -tx1 -N4)
[[ $answer == *" 12 34 "*0 ]]
'

# abandoned: whether the run of .ci/run that made the cluster is gone. If none is noted, whether the cluster is older than any run.
abandoned() {
  local owner created
  if [[ -s $OWNER ]]; then # an empty one names no process
    owner=$(<"$OWNER")
    [[ $(identity "${owner%% *}") != "$owner" ]]
  else
    created=$(docker inspect --format '{{.Created}}' "$name-control-plane" 2>/dev/null) || return 1
    (($(date +%s) - $(date --date "$created" +%s) > 6 * 60 * 60))
  fi
}

remove_cluster() {
  local nodes
  rm -f "$COMPLETE"
  mapfile -t nodes < <(nodes)
  ((!${#nodes[@]})) || docker rm --force --volumes "${nodes[@]}"
  rm -f "$KUBECONFIG"
}
