// kube-router's NetworkPolicy enforcer alone. Its own program also routes by BGP and balances services, which this cluster does not ask of
// it and which takes a minute more to compile.
//
// The enforcer writes all rules again at each change of a pod, with some twenty commands on each node. Most pods of the tests are in
// namespaces without a policy, so changes.go passes on only what a policy concerns, and tables.go leaves out most of its questions.
package main

import (
	"flag"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/cloudnativelabs/kube-router/v2/pkg/controllers/netpol"
	"github.com/cloudnativelabs/kube-router/v2/pkg/healthcheck"
	"github.com/cloudnativelabs/kube-router/v2/pkg/options"
	"github.com/spf13/pflag"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"
)

const mendPeriod = time.Minute

func must(err error) {
	if err != nil {
		klog.Fatal(err) // the kubelet starts it again
	}
}

func main() {
	klog.InitFlags(nil)
	must(flag.Set("logtostderr", "true"))
	config := options.NewKubeRouterConfig()
	config.AddFlags(pflag.CommandLine) // for the defaults
	pflag.Parse()
	// Changes are enforced as they are seen; this is how soon what somebody else broke is mended.
	config.IPTablesSyncPeriod = mendPeriod

	access, err := rest.InClusterConfig()
	must(err)
	client, err := kubernetes.NewForConfig(access)
	must(err)

	stop := make(chan struct{})
	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods().Informer()
	namespaces := factory.Core().V1().Namespaces().Informer()
	policies := factory.Networking().V1().NetworkPolicies().Informer()
	factory.Start(stop)
	for _, synced := range factory.WaitForCacheSync(stop) {
		if !synced {
			klog.Fatal("the API server's objects can't be read")
		}
	}

	tables, sets, err := netpol.NewIPTablesHandlers(config)
	must(err)
	for family, handler := range tables {
		tables[family] = &rememberingTables{IPTablesHandler: handler}
	}
	controller, err := netpol.NewNetworkPolicyController(client, config, pods, policies, namespaces, &sync.Mutex{}, tables, sets)
	must(err)
	known := concerns{policies.GetStore(), namespaces.GetStore()}
	for informer, handler := range map[cache.SharedIndexInformer]cache.ResourceEventHandler{
		pods:       cache.FilteringResourceEventHandler{FilterFunc: known.pod, Handler: controller.PodEventHandler},
		namespaces: cache.FilteringResourceEventHandler{FilterFunc: known.namespace, Handler: controller.NamespaceEventHandler},
		policies:   controller.NetworkPolicyEventHandler,
	} {
		_, err := informer.AddEventHandler(handler)
		must(err)
	}

	beats := make(chan *healthcheck.ControllerHeartbeat, 10)
	go func() {
		for range beats { // nobody asks; a full channel would hold the controller up
		}
	}()
	var running sync.WaitGroup
	running.Add(1)
	go controller.Run(beats, stop, &running)

	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	<-signals
	close(stop)
	running.Wait()
}
