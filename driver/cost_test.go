package driver_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/socketplane/socketplane/store"
)

// counting is a store that counts what is written to it, and read of it.
type counting struct {
	store.KV
	mu sync.Mutex
	counts
	// heads are lists of heads: the watch's answers to what was published, some of which it takes together. all are all transactions.
	heads, all int
}

type counts struct{ transactions, operations, bytes, reads int }

func (c *counting) Apply(ctx context.Context, ops ...store.Op) error {
	c.mu.Lock()
	c.transactions++
	c.all++
	c.operations += len(ops)
	for _, op := range ops {
		c.bytes += len(op.Key) + len(op.Value)
	}
	c.mu.Unlock()
	return c.KV.Apply(ctx, ops...)
}

func (c *counting) Get(ctx context.Context, key string) (store.Entry, error) {
	c.mu.Lock()
	c.reads++
	c.mu.Unlock()
	return c.KV.Get(ctx, key)
}

func (c *counting) List(ctx context.Context, prefix string) ([]store.Entry, error) {
	c.mu.Lock()
	if strings.HasPrefix(prefix, store.HeadsPrefix) {
		c.heads++
	} else {
		c.reads++
	}
	c.mu.Unlock()
	return c.KV.List(ctx, prefix)
}

// taken is what was counted since it was called last.
func (c *counting) taken() counts {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.counts
	c.counts = counts{}
	return now
}

// TestAJoinCostsItsOwn: what a container's start writes to this host's journal and to the cluster, and reads of them, is the same beside 10 containers
// and beside 300.
func TestAJoinCostsItsOwn(t *testing.T) {
	w := newWorld(t)
	w.must(store.NewCluster(w.kv, "operator").SetLayout(w.ctx, store.NewestLayout))
	a := w.host("a")
	journal, cluster := &counting{KV: a.local.KV}, &counting{KV: a.shared.KV}
	a.local.KV, a.shared.KV = journal, cluster
	a.run()
	w.must(a.create("n1", space, "network", "web"))
	id := a.Networks()[0].ID
	made := 0
	start := func() {
		made++
		_, err := a.endpoint("n1", fmt.Sprintf("%064d", made), fmt.Sprintf("10.1.0.%d/24", 2+made%200), fmt.Sprintf("02:00:00:00:%02x:%02x", made>>8, made&255))
		w.must(err)
		_, err = a.join("n1", fmt.Sprintf("%064d", made))
		w.must(err)
	}
	published := func() {
		w.eventually("all are published", func() bool {
			p, err := store.NewCluster(w.kv, "a").Published(w.ctx, id)
			return err == nil && len(p.Endpoints()) == made
		})
	}
	costs := map[int][2]counts{}
	for _, size := range []int{10, 10 + 18*store.PartSize} { // the new one's part has as many others
		for made < size {
			start()
		}
		published()
		w.eventually("nothing more is written", func() bool { return len(a.view.Unpublished()) == 0 })
		journal.taken()
		cluster.taken()
		start()
		published()
		j, c := journal.taken(), cluster.taken()
		costs[size] = [2]counts{j, c}
	}
	t.Logf("journal and cluster: %+v", costs)
	few, many := costs[10], costs[10+18*store.PartSize]
	if j := many[0]; j.transactions != few[0].transactions || j.operations != few[0].operations || j.reads != few[0].reads || j.bytes > few[0].bytes+16 {
		t.Errorf("the journal: %+v with 10, %+v with 300", few[0], many[0])
	}
	// A head has eight bytes for each part.
	if c := many[1]; c.transactions != few[1].transactions || c.operations != few[1].operations || c.reads != few[1].reads || c.bytes > few[1].bytes+18*8+16 {
		t.Errorf("the cluster: %+v with 10, %+v with 300", few[1], c)
	}
	cluster.mu.Lock()
	defer cluster.mu.Unlock()
	if cluster.heads > cluster.all {
		t.Errorf("heads were listed %d times after %d transactions", cluster.heads, cluster.all)
	}
}
