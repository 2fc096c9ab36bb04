package mirror_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/mirror"
	"github.com/socketplane/socketplane/store"
)

// TestFirstNetwork: it is made once, by one of all hosts, and who removes it wants it gone.
func TestFirstNetwork(t *testing.T) {
	tests := map[string]mirror.Default{
		"chosen": {Name: "socketplane"}, "given": {Name: "start", Subnet: netip.MustParsePrefix("10.9.0.0/24")}, "none": {},
	}
	for name, first := range tests {
		t.Run(name, func(t *testing.T) {
			in(t, 3, func(w *world) {
				w.first = first
				all := w.all()
				if first.Name == "" {
					w.still(all)
					return
				}
				w.have(all, first.Name)
				if first.Subnet.IsValid() && !strings.Contains(all[2].network(first.Name), first.Subnet.String()) {
					t.Errorf("it is %s", all[2].network(first.Name))
				}
				all[1].removes(first.Name)
				w.still(all)
				w.all() // again
				w.still(all)
				w.clean()
			})
		})
	}
}

// TestFirstNetworkInTheWay: its subnet is used already, or none can be chosen; the hosts go on without it, tell why, and make it as
// soon as it can be.
func TestFirstNetworkInTheWay(t *testing.T) {
	for name, given := range map[string]string{"given": "10.9.1.0/24", "chosen": ""} {
		t.Run(name, func(t *testing.T) {
			in(t, 2, func(w *world) {
				all := w.all()
				all[0].creates(ours("web", subnet("10.9.0.0/16")))
				w.have(all, "web")
				w.first = mirror.Default{Name: "start"}
				word := "10.9.0.0/16"
				if given != "" {
					w.first.Subnet = netip.MustParsePrefix(given)
				} else {
					word = "10.0.0.0/8"
					w.must(all[0].cluster.PutHost(w.ctx, store.Host{Name: "h9", Subnets: []netip.Prefix{
						netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16")}}))
				}
				w.all()
				all[0].wantTrouble("start", word, "--default-subnet")
				all[1].creates(ours("db", subnet("11.8.0.0/16")))
				w.have(all, "db", "web")
				all[0].removes("web")
				w.must(all[0].cluster.PutHost(w.ctx, store.Host{Name: "h9"}))
				w.have(all, "db", "start")
			})
		})
	}
}
