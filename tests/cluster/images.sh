# shellcheck shell=bash disable=SC2034,SC2154
# The images' names. Source this file after lib.sh.
# Each name ends in a fingerprint of all the image's inputs. A changed Dockerfile or version gives another name, so an existing image is
# never out of date.

KUBERNETES=$(version_of kubelet)
DEBIAN_RECIPE="bookworm minbase ca-certificates, without documentation"

# tagged NAME:TAG [TEXT|FILE...]: print NAME:TAG-<fingerprint of the texts and files>
tagged() {
  local name=$1 item
  shift
  for item; do if [[ -f $item ]]; then sha256sum <"$item"; else echo "$item"; fi; done | sha256sum | sed "s|^\(.\{12\}\).*|$name-\1|"
}

DEBIAN_IMAGE=$(tagged spoke-jobs-debian:bookworm "$DEBIAN_RECIPE")
PYTHON_BASE_IMAGE=$(tagged spoke-jobs-python-base:bookworm-3.11 "$DEBIAN_IMAGE" "$here"/images/python-base/*)
POSTGRES_IMAGE=$(tagged spoke-jobs-postgres:15 "$DEBIAN_IMAGE" "$here"/images/postgres/*)
KIND_BASE_IMAGE=$(tagged spoke-jobs-kind-base:"$(version_of kind)" "$DEBIAN_IMAGE")
NODE_IMAGE=$(tagged spoke-jobs-node:"$KUBERNETES" "$KIND_BASE_IMAGE" "$POSTGRES_IMAGE" "$here"/images/{node,kube-proxy,kube-router}/* "$here/images/archive.py" "$here"/mains/*/* \
  "$(programs default | grep -Ev '^(kind|helm) ')")
# a published image instead of one built here, on a machine that can pull it
NODE_IMAGE=${SPOKE_CLUSTER_IMAGE:-$NODE_IMAGE}
