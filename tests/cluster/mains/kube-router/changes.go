package main

import (
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/tools/cache"
)

// concerns tells which pods and namespaces the policies concern. Whatever it cannot read, it passes on.
type concerns struct{ policies, namespaces cache.Store }

// pod: whether a policy is in the pod's namespace, or names that namespace as one of a peer.
func (known concerns) pod(object any) bool {
	if deleted, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = deleted.Obj
	}
	pod, ok := object.(*core.Pod)
	if !ok {
		return true
	}
	for _, found := range known.policies.List() {
		if policy, ok := found.(*networking.NetworkPolicy); !ok || policy.Namespace == pod.Namespace {
			return true
		}
	}
	namespace, exists, err := known.namespaces.GetByKey(pod.Namespace)
	return err != nil || !exists || known.namespace(namespace)
}

// namespace: whether a policy names the namespace as one of a peer.
func (known concerns) namespace(object any) bool {
	namespace, ok := object.(*core.Namespace)
	if !ok {
		return true
	}
	for _, found := range known.policies.List() {
		policy, ok := found.(*networking.NetworkPolicy)
		if !ok {
			return true
		}
		for _, rule := range policy.Spec.Ingress {
			if named(rule.From, namespace) {
				return true
			}
		}
		for _, rule := range policy.Spec.Egress {
			if named(rule.To, namespace) {
				return true
			}
		}
	}
	return false
}

func named(peers []networking.NetworkPolicyPeer, namespace *core.Namespace) bool {
	for _, peer := range peers {
		if peer.NamespaceSelector == nil {
			continue
		}
		selector, err := meta.LabelSelectorAsSelector(peer.NamespaceSelector)
		if err != nil || selector.Matches(labels.Set(namespace.Labels)) {
			return true
		}
	}
	return false
}
