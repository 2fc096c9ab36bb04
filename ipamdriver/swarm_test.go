package ipamdriver_test

import (
	"slices"
	"testing"

	"github.com/docker/go-plugins-helpers/ipam"

	"github.com/socketplane/socketplane/ipamdriver"
	"github.com/socketplane/socketplane/store"
)

// managerPool asks for a pool as Swarm's manager does.
func (h *host) managerPool(subnet string) string {
	h.w.Helper()
	r, err := h.RequestPool(h.w.ctx, &ipam.RequestPoolRequest{AddressSpace: "swarm space", Pool: subnet})
	h.w.must(err)
	return r.PoolID
}

// TestSwarm: the manager chooses addresses, its workers ask for them again, and the next manager goes on.
func TestSwarm(t *testing.T) {
	both(t, map[string]func(*world){
		"tasks": swarmTasks, "nextManager": swarmNextManager, "subnetOfOurs": swarmSubnet, "full": swarmFull,
		"storeDown": swarmStoreDown, "wantedAgain": swarmWantedAgain, "takenOver": swarmTakenOver,
	})
}

func (w *world) swarmHosts() (a, b *host) {
	opts := ipamdriver.Options{SwarmSpace: "swarm space"}
	return w.host("a", opts), w.host("b", opts)
}

func swarmTasks(w *world) {
	manager, worker := w.swarmHosts()
	global := manager.managerPool("10.1.0.0/24")
	gw, err := manager.gateway(global, "")
	w.must(err)
	first, err := manager.request(global, "")
	w.must(err)
	second, err := manager.request(global, "")
	w.must(err)
	if gw == first || first == second {
		w.Fatalf("gateway %s, tasks %s and %s: want three addresses", gw, first, second)
	}
	// The workers, of which the manager is one, repeat it in the local space.
	locals := map[*host]string{manager: manager.pool("10.1.0.0/24", ""), worker: worker.pool("10.1.0.0/24", "")}
	for h, addr := range map[*host]string{manager: first, worker: second} {
		_, err := h.gateway(locals[h], gw[:len(gw)-3])
		w.must(err)
		got, err := h.container(locals[h], addr[:len(addr)-3])
		w.must(err)
		if got != addr {
			w.Errorf("the worker has %s, the manager chose %s", got, addr)
		}
	}
	// The task ends: the worker's release leaves the manager's claim, which only the manager gives back.
	before := w.claims("10.1.0.0/24")
	w.must(worker.release(locals[worker], second))
	if after := w.claims("10.1.0.0/24"); !slices.Equal(before, after) {
		w.Errorf("claims were %q and are %q", before, after)
	}
	// A network goes from a node with its last task; the manager keeps it.
	w.must(worker.releasePool(locals[worker]))
	w.must(manager.releasePool(locals[manager]))
	w.must(manager.release(global, second))
	w.wantClaims("10.1.0.0/24", gw[:len(gw)-3]+"=network", first[:len(first)-3]+"=swarm")
	w.must(manager.release(global, first))
	w.must(manager.releasePool(global))
	w.clean(manager, worker)
}

func swarmNextManager(w *world) {
	a, b := w.swarmHosts()
	global := a.managerPool("10.1.0.0/24")
	addr, err := a.request(global, "")
	w.must(err)
	again := b.managerPool("10.1.0.0/24")
	got, err := b.request(again, addr[:len(addr)-3])
	w.must(err)
	if got != addr {
		w.Errorf("the next manager has %s, want %s", got, addr)
	}
	other, err := b.request(again, "")
	w.must(err)
	if other == addr {
		w.Errorf("%s was given twice", addr)
	}
	w.must(b.release(again, addr))
	w.must(b.release(again, other))
	w.must(b.releasePool(again))
	w.clean(a, b)
}

func swarmSubnet(w *world) {
	a, b := w.swarmHosts()
	first, second := a.managerPool(""), b.managerPool("")
	if first == second {
		w.Errorf("two networks share %s", first)
	}
	w.must(a.releasePool(first))
	w.must(b.releasePool(second))
	w.clean(a, b)
}

func swarmFull(w *world) {
	a, _ := w.swarmHosts()
	global := a.managerPool("10.1.0.0/30")
	for range 2 {
		_, err := a.request(global, "")
		w.must(err)
	}
	_, err := a.request(global, "")
	w.wants(err, ipamdriver.ErrExhausted, "10.1.0.0/30")
	w.must(a.releasePool(global))
	w.clean(a)
}

// swarmStoreDown: what the manager releases while the store is away is given back when it answers, also by the next process.
func swarmStoreDown(w *world) {
	a, _ := w.swarmHosts()
	global := a.managerPool("10.1.0.0/24")
	kept := a.managerPool("10.2.0.0/24")
	_, err := a.gateway(global, "")
	w.must(err)
	addr, err := a.request(kept, "")
	w.must(err)
	_, err = a.request(global, "") // Swarm may leave it to the pool's end
	w.must(err)
	a.shared.set(true, false)
	w.must(a.release(kept, addr))
	w.must(a.releasePool(global))
	w.wants(a.Sync(w.ctx), store.ErrUnavailable)
	a.restart()
	if pending, err := a.Pending(w.ctx); !pending || err != nil {
		w.Fatalf("pending is %t, %v", pending, err)
	}
	a.shared.set(false, false)
	w.must(a.Sync(w.ctx))
	w.wantClaims("10.1.0.0/24")
	w.wantClaims("10.2.0.0/24")
	w.must(a.releasePool(kept))
	w.clean(a)
}

// swarmWantedAgain: what is asked for again, after a release that the store has not seen, is kept.
func swarmWantedAgain(w *world) {
	a, _ := w.swarmHosts()
	global := a.managerPool("10.1.0.0/24")
	addr, err := a.request(global, "")
	w.must(err)
	a.shared.set(true, false)
	w.must(a.release(global, addr))
	w.must(a.releasePool(global))
	a.shared.set(false, false)
	if again := a.managerPool("10.1.0.0/24"); again != global {
		w.Fatalf("pool %s, want %s", again, global)
	}
	_, err = a.request(global, addr[:len(addr)-3])
	w.must(err)
	w.must(a.Sync(w.ctx))
	w.wantClaims("10.1.0.0/24", addr[:len(addr)-3]+"=swarm")
	w.must(a.release(global, addr))
	w.must(a.releasePool(global))
	w.clean(a)
}

// swarmTakenOver: what a manager could not give back is the next one's, if that one has asked for it.
func swarmTakenOver(w *world) {
	a, b := w.swarmHosts()
	global := a.managerPool("10.1.0.0/24")
	addr, err := a.request(global, "")
	w.must(err)
	a.shared.set(true, false)
	w.must(a.release(global, addr))
	w.must(a.releasePool(global))
	b.managerPool("10.1.0.0/24")
	_, err = b.request(global, addr[:len(addr)-3])
	w.must(err)
	a.shared.set(false, false)
	w.must(a.Sync(w.ctx))
	w.wantClaims("10.1.0.0/24", addr[:len(addr)-3]+"=swarm")
	w.must(b.release(global, addr))
	w.must(b.releasePool(global))
	w.clean(a, b)
}
