package layout_test

import (
	"fmt"
	"slices"
	"strings"
)

// owners says which packages may import another project's code directly: each outside world has one door.
var owners = []struct {
	dependency string
	dirs       []string
	reason     string
}{
	{"github.com/hashicorp/consul/api", []string{"store/consul", "internal/cluster", "internal/testenv"},
		"records and keys are the same in every store"},
	{"go.etcd.io/bbolt", []string{"store/bolt"}, "records and keys are the same in every store"},
	{"github.com/ovn-org/libovsdb", []string{"ovsctl"}, "the switch's database has one writer"},
	{"github.com/vishvananda/netlink", []string{"internal/hostlink"},
		"namespaces, locked threads and interrupted dumps are mastered in one place"},
	{"github.com/google/nftables", []string{"internal/notrack"}, "each table of nf_tables has one owner"},
	{"github.com/docker/go-plugins-helpers", []string{"plugin", "driver", "ipamdriver", "internal/agent"},
		"Docker's protocol: the drivers share its types, the plugin its wire"},
	{"github.com/moby/moby", []string{"internal/dockerwatch"}, "Docker's API has one door, which no handler goes through"},
	{"github.com/spf13/cobra", []string{"internal/cli", "packaging/generate"}, "the command line ends where packages begin"},
	{"github.com/spf13/pflag", []string{"internal/cli"}, "settings are tied to no flag library"},
}

type rule struct {
	dir    string
	may    []string // prefixes; own subpackages are not included
	never  []string // prefixes within the standard library
	reason string
}

// rules hold what packages may import beyond the standard library, and which parts of it they must not.
var rules = []rule{
	{"cmd/socketplane", []string{"internal/cli", "internal/agent", "internal/clean", "internal/config", "internal/logging", "internal/version"}, nil,
		"main only wires"},
	{"internal/setup", nil, []string{"net/http"}, "who sets a service up must not know what it does"},
	{"internal/doctor", []string{"internal/adminapi", "store", "golang.org/x/sync/errgroup"}, []string{"net/http"},
		"checks get what they look at from outside, so that each can be tried"},
	{"internal/cli", []string{"internal/adminapi", "internal/doctor", "internal/setup", "internal/config", "internal/logging", "internal/netopt", "internal/version",
		"github.com/spf13"}, nil, "what the command line tells, the agent said"},
	{"packaging/generate", []string{"internal/cli", "internal/config", "internal/version", "github.com/spf13/cobra"}, []string{"net"},
		"what is made from the commands needs nothing else"},
	{"internal/config", nil, []string{"net/http"}, "settings must not know their consumers"},
	{"internal/version", nil, []string{"net"}, "a version must not know who shows it"},
	{"internal/logging", []string{"internal/config"}, []string{"net"}, "a logger must not know what is logged"},
	{"internal/adminapi", nil, nil, "the wire must not know what answers"},
	{"internal/crashpoint", nil, []string{"net"}, "places to die must not know who writes"},
	{"internal/dataplane", nil, []string{"os", "net"}, "plain values do nothing"},
	{"internal/ipalloc", nil, []string{"os", "net", "context", "time"}, "address arithmetic has no I/O and no clock"},
	{"internal/netview", []string{"store", "internal/dataplane", "internal/retry"}, []string{"net/http", "os"},
		"what is known of the cluster must not know who wants to know it"},
	{"driver", []string{"store", "internal/dataplane", "internal/netview", "internal/retry", "internal/ipalloc", "internal/lock", "internal/netopt", "ipamdriver", "plugin/netapi", "github.com/docker/go-plugins-helpers"}, []string{"net/http"},
		"drivers know neither OVS nor Consul nor HTTP"},
	{"internal/ownovs", []string{"internal/retry"}, []string{"net/http"}, "who runs a switch must not know what it is for"},
	{"internal/journal", []string{"internal/crashpoint", "store"}, []string{"net", "time"}, "a journal must not know what is in it"},
	{"internal/bundle", nil, []string{"net"}, "an archive must not know what is in it"},
	{"internal/meter", []string{"store"}, []string{"net"}, "who measures a store must not know which it is"},
	{"internal/engine", nil, []string{"net/http"}, "who calls must not know what for"},
	{"internal/netopt", nil, []string{"os", "net", "context", "time"}, "what options mean must not know who asks"},
	{"ipamdriver", []string{"store", "internal/lock", "internal/ipalloc", "internal/retry", "internal/netopt", "github.com/docker/go-plugins-helpers"}, []string{"net/http"},
		"address management knows no bridges"},
	{"internal/dockerwatch", []string{"internal/crashpoint", "internal/retry", "github.com/moby/moby", "github.com/containerd/errdefs"}, nil,
		"Docker's door must not know who goes through it"},
	{"internal/operator", []string{"store", "internal/netview", "internal/adminapi", "internal/mirror", "ipamdriver", "internal/dataplane", "internal/ipalloc", "internal/netopt"}, []string{"net", "os"},
		"who answers must not know how the agent is put together"},
	{"internal/roster", []string{"store", "internal/retry"}, []string{"net", "os"}, "who knows the hosts must not know who asks"},
	{"internal/janitor", []string{"store", "internal/retry"}, []string{"net", "os"}, "who tidies must not know who keeps the cluster's members"},
	{"internal/mirror", []string{"store", "driver", "internal/netview", "ipamdriver", "internal/dockerwatch", "internal/netopt", "golang.org/x/sync/errgroup"}, []string{"net/http"},
		"mirrors compare what Docker has with the cluster's records, and know nothing else"},
	{"plugin", []string{"plugin/netapi", "github.com/docker/go-plugins-helpers"}, nil, "the protocol knows no drivers"},
	{"plugin/netapi", []string{"github.com/docker/go-plugins-helpers"}, nil, "answers must not know who gives them"},
	{"internal/cluster/trust", []string{"internal/crashpoint", "internal/lock", "store", "github.com/hashicorp/consul/api"}, nil, "keys must not know how hosts meet, or who asks"},
	{"internal/cluster/admission", []string{"store", "internal/cluster/trust"}, nil, "the door must not know Consul"},
	{"store", []string{"internal/lock"}, []string{"net/http", "os"}, "the contract of the store knows no store"},
	{"store/consul", []string{"internal/crashpoint", "store", "github.com/hashicorp"}, nil, "a store must not know who uses it"},
	{"store/bolt", []string{"internal/crashpoint", "store", "go.etcd.io/bbolt"}, []string{"net/http"}, "a store must not know who uses it"},
	{"store/storetest", []string{"store"}, nil, "the contract suite must not know the implementations"},
	{"internal/lock", nil, []string{"os", "net"}, "a lock must not know what it guards"},
	{"internal/retry", nil, []string{"os", "net"}, "pauses must not know what is tried"},
	{"test/internal/bare", []string{"internal/testenv", "internal/testenv/ovs", "test/lab", "test/internal/libnetwork", "test/internal/proxy"}, nil,
		"a host runs the product's binary and knows none of its packages"},
	{"test/internal/tally", nil, []string{"os"}, "who counts must not know what is counted"},
	{"test/scale", nil, []string{"net", "os"}, "figures are plain values, and the rest are tests"},
	{"ovsctl", []string{"internal/crashpoint", "internal/lock", "internal/retry", "ovsctl", "internal/dataplane", "github.com/ovn-org/libovsdb", "github.com/go-logr/logr"}, nil,
		"the switch must not know stores or libnetwork"},
	{"ovsctl/vswitch", []string{"github.com/ovn-org/libovsdb"}, nil, "generated models only"},
	{"ovsctl/openflow", []string{"internal/crashpoint"}, nil, "the codec must not know what a network is"},
	{"ovsctl/pipeline", []string{"ovsctl/openflow", "internal/dataplane"}, []string{"net", "os"}, "flows are pure values"},
	{"internal/cluster", []string{"internal/crashpoint", "internal/retry", "store", "store/bolt", "store/consul", "internal/cluster/admission", "internal/cluster/consulproc", "internal/cluster/discovery",
		"internal/cluster/trust", "github.com/hashicorp/consul/api", "golang.org/x/sync/errgroup"}, []string{"os/exec"},
		"a host's place in its cluster does not depend on what the cluster is for"},
	{"internal/cluster/consulproc", []string{"internal/crashpoint", "internal/retry", "golang.org/x/sys"}, []string{"net/http"},
		"who runs Consul must not know what the cluster is"},
	{"internal/cluster/discovery", []string{"internal/retry", "golang.org/x/net", "golang.org/x/sys"}, []string{"net/http", "os/exec"},
		"what is heard must not know what follows from it"},
	{"internal/notrack", []string{"github.com/google/nftables", "golang.org/x/sys"}, []string{"net/http"}, "rules must not know what the tunnels carry"},
	{"internal/underlay", []string{"internal/hostlink"}, nil, "where tunnels end does not depend on who builds them"},
	{"internal/membership", []string{"driver", "internal/netview", "store", "internal/adminapi", "internal/cluster", "internal/cluster/admission", "internal/cluster/trust", "internal/config",
		"internal/dockerwatch", "internal/operator"}, []string{"net"}, "who answers for the cluster must not know how the agent is put together"},
	{"internal/checkup", []string{"driver", "store", "internal/adminapi", "internal/config", "internal/dataplane", "internal/dataplane/ovs", "internal/dockerwatch", "internal/doctor",
		"internal/hostlink", "internal/janitor", "internal/mirror", "internal/netview", "internal/notrack", "internal/probe", "internal/retry", "internal/underlay", "ovsctl"},
		[]string{"net", "os"}, "who looks at parts must not know how they start and stop"},
	{"internal/support", []string{"internal/netview", "store", "internal/adminapi", "internal/bundle", "internal/config", "internal/dataplane/ovs", "internal/hostlink", "internal/version", "ovsctl",
		"github.com/prometheus"}, []string{"net"}, "who reports must not know how the agent is put together"},
	{"internal/finish", []string{"store", "internal/retry"}, []string{"os", "net"}, "who finishes must not know what was left"},
	{"internal/restart", []string{"store", "internal/dataplane/ovs", "internal/dockerwatch", "internal/retry"}, []string{"os", "net"}, "who starts containers again must not know the agent"},
	{"internal/settle", nil, []string{"net/http", "os"}, "who waits for the switch must not know what it does"},
	{"internal/tunnels", []string{"internal/adminapi", "internal/doctor", "internal/notrack", "internal/underlay"}, []string{"os", "net"}, "who looks after tunnels must not know who builds them"},
	{"internal/statedir", []string{"internal/crashpoint", "internal/journal", "store", "store/bolt"}, []string{"net"}, "who keeps a host's files must not know the cluster"},
	{"internal/clean", []string{"internal/cluster", "internal/config", "internal/hostlink", "internal/notrack", "internal/statedir", "ovsctl", "store", "store/bolt"}, []string{"net"},
		"who cleans a host removes what has a mark, and must not know what it was for"},
	{"internal/metrics", []string{"internal/dataplane/ovs", "internal/hostlink", "internal/meter", "plugin", "store", "github.com/prometheus"}, []string{"os"},
		"who shows figures must not know how the agent is put together"},
	{"internal/presence", []string{"store", "internal/cluster/admission", "internal/doctor", "internal/retry", "internal/underlay"}, []string{"os", "net"},
		"who tells the cluster of this host must not know what it forwards"},
	{"internal/gate", nil, []string{"os", "net", "time"}, "a gate must not know what runs behind it"},
	{"internal/sdnotify", nil, []string{"net/http"}, "who tells systemd must not know what"},
	{"internal/agent", []string{everything, "github.com/docker/go-plugins-helpers", "github.com/prometheus", "golang.org/x/sync/errgroup"}, nil,
		"wiring knows all parts, and no outside world"},
	{"internal/dataplane/ovs", []string{"internal/dataplane", "internal/hostlink", "internal/lock", "internal/retry", "ovsctl"}, []string{"net/http"},
		"the plane knows neither Docker nor the store"},
	{"internal/layout", nil, []string{"net"}, "what packages promise is read from their sources"},
	{"internal/probe", []string{"golang.org/x/sys/unix"}, nil, "a probe must not know who asks"},
	{"internal/subnets", []string{"store", "internal/dockerwatch", "internal/hostlink", "internal/ipalloc"}, []string{"net/http"},
		"what a host uses does not depend on who avoids it"},
	{"internal/hostlink", []string{"internal/crashpoint", "internal/dataplane", "github.com/vishvananda", "golang.org/x/sys"}, nil,
		"links must not know the switch or the store"},
}

// importChecks hold files to owners, rules and treeRules.
var importChecks = []check{
	{"outside worlds have one door", oneDoor, []fixture{
		one("netlink", "driver/x.go", "package driver\n\nimport _ \"github.com/vishvananda/netlink\"", "only internal/hostlink may"),
		one("part of it", "driver/x.go", "package driver\n\nimport _ \"github.com/hashicorp/consul/api/watch\"", "only store/consul"),
	}},
	{"walls between packages", walls, []fixture{
		one("own package", "driver/x.go", "package driver\n\nimport _ \"github.com/socketplane/socketplane/ovsctl\"", "driver/x.go imports ovsctl"),
		one("own subpackage", "plugin/x.go", "package plugin\n\nimport _ \"github.com/socketplane/socketplane/store/consul\"", "plugin/x.go imports store/consul"),
		one("standard library", "driver/x.go", "package driver\n\nimport _ \"net/http\"", "driver/x.go imports net/http"),
		one("another's code", "store/x.go", "package store\n\nimport _ \"example.com/x\"", "store/x.go imports example.com/x"),
		one("in a tree", "test/lab/labprobe/x.go", "package main\n\nimport _ \"example.com/x\"", "test/lab/labprobe/x.go imports example.com/x"),
	}},
	{"each directory has a rule", everyDirectory, []fixture{
		one("none", "internal/fresh/x.go", "package fresh", "internal/fresh has no rule"),
	}},
	{"only tests use test packages", testPackages, []fixture{
		one("testing", "driver/x.go", "package driver\n\nimport _ \"testing\"", "driver/x.go imports testing"),
		one("testenv", "store/x.go", "package store\n\nimport _ \"github.com/socketplane/socketplane/internal/testenv/ovs\"", "outside tests"),
	}},
}

func oneDoor(files []file) (out []string) {
	for _, f := range files {
		if f.isTest() || under(f.dir(), "test") {
			continue
		}
		for _, imp := range f.imports() {
			for _, o := range owners {
				inside := slices.ContainsFunc(o.dirs, func(d string) bool { return under(f.dir(), d) })
				if under(imp, o.dependency) && !inside {
					out = append(out, fmt.Sprintf("%s imports %s, which only %s may: %s", f.name, imp, strings.Join(o.dirs, ", "), o.reason))
				}
			}
		}
	}
	return out
}

func walls(files []file) (out []string) {
	for _, f := range files {
		r, ok := ruleOf(f.dir())
		if f.isTest() || !ok {
			continue
		}
		for _, imp := range f.imports() {
			// net/netip is values only: "net" forbids the package net and what dials, not that.
			never := imp != "net/netip" && slices.ContainsFunc(r.never, func(p string) bool { return under(imp, p) })
			may := standard(imp) || slices.ContainsFunc(r.may, func(p string) bool { return allowed(imp, p) })
			if never || !may {
				out = append(out, fmt.Sprintf("%s imports %s: %s", f.name, imp, r.reason))
			}
		}
	}
	return out
}

// ruleOf is the rule of a directory: its own, else that of the tree it is in.
func ruleOf(dir string) (rule, bool) {
	for _, r := range rules {
		if r.dir == dir {
			return r, true
		}
	}
	for _, r := range treeRules {
		if under(dir, r.dir) {
			return r, true
		}
	}
	return rule{}, false
}

func everyDirectory(files []file) (out []string) {
	seen := map[string]bool{}
	for _, f := range files {
		if _, ok := ruleOf(f.dir()); !ok && !seen[f.dir()] {
			seen[f.dir()] = true
			out = append(out, f.dir()+" has no rule: say in rules what it may import, and why no more")
		}
	}
	return out
}

// testPackages: the binary must not carry them.
func testPackages(files []file) (out []string) {
	for _, f := range files {
		if f.isTest() || under(f.dir(), "test") || under(f.dir(), "internal/testenv") || f.dir() == "store/storetest" {
			continue
		}
		for _, imp := range f.imports() {
			if imp == "testing" || imp == "store/storetest" || under(imp, "internal/testenv") || under(imp, "test") {
				out = append(out, fmt.Sprintf("%s imports %s outside tests", f.name, imp))
			}
		}
	}
	return out
}

// everything allows all packages of this module, and none of other projects.
const everything = "*"

// allowed reports whether imp falls under p; of our own packages only the named one does, unless it names a tree
// of its own name (ovsctl with its parts).
func allowed(imp, p string) bool {
	if p == everything {
		return own(imp)
	}
	if own(p) && p != "ovsctl" {
		return imp == p
	}
	return under(imp, p)
}

// own reports whether an import path, as file.imports gives it, is of this module.
func own(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return slices.Contains([]string{"cmd", "driver", "internal", "ipamdriver", "ovsctl", "packaging", "plugin", "store", "test"}, first)
}

// standard reports whether an import path is of the standard library, whose first element has no dot.
func standard(imp string) bool {
	first, _, _ := strings.Cut(imp, "/")
	return !own(imp) && !strings.Contains(first, ".")
}
