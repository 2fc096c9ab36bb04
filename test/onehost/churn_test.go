package onehost

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/socketplane/socketplane/test/internal/bare"
	"golang.org/x/sync/errgroup"
)

// atOnce is how many containers Docker starts side by side.
const atOnce = 4

// footprint is what an agent takes after its garbage was collected.
type footprint struct {
	heap       int64 // bytes
	goroutines int
}

var heapAlloc = regexp.MustCompile(`(?m)^# HeapAlloc = (\d+)$`)

func (h *host) footprint() footprint {
	h.T.Helper()
	_, text, err := h.Get("/debug/pprof/heap?gc=1&debug=1")
	m := heapAlloc.FindStringSubmatch(text)
	if err != nil || m == nil {
		h.T.Fatalf("heap profile: %v %.200s", err, text)
	}
	heap, _ := strconv.ParseInt(m[1], 10, 64) // digits
	return footprint{heap, int(h.metric("go_goroutines"))}
}

// cycle lets containers come and go, and returns when the last one has gone.
func cycle(ctx context.Context, n *segment, prefix string, count int) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for i := range count {
		g.Go(func() error {
			e, err := n.Join(ctx, id(prefix, i), mac(i))
			if err != nil {
				return err
			}
			return e.Leave(ctx)
		})
	}
	return g.Wait()
}

// TestFlatUnderChurn: after thousands of containers an agent takes what it took after a few hundred, and nothing is left of them.
func TestFlatUnderChurn(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of endpoints take a minute")
	}
	count := 300
	if os.Getenv("SOCKETPLANE_TEST_LONG") != "" {
		count = 10000
	}
	h := newHost(t)
	h.start()
	ctx := h.Deadline(20 * time.Minute)
	// Few addresses, so that all of them are in use or resting soon, and what is remembered of them does not grow.
	n, err := h.Docker().Network(ctx, id("net", 1), "10.1.0.0/25", "")
	if err != nil {
		t.Fatal(err)
	}
	// The network's subnet is kept from Docker's allocator by a route of this device, which a pass makes.
	h.Eventually("the device for reserved subnets", func() error {
		if !regexp.MustCompile(`(?m)^socketplane-res .* true$`).MatchString(h.links()) {
			return errors.New("it is missing, or not up yet")
		}
		return nil
	})
	links, flows := h.links(), h.metric("socketplane_flows")
	if err := cycle(ctx, n, "warm", 130); err != nil {
		t.Fatal(err)
	}
	before := h.footprint()
	began := time.Now()
	if err := cycle(ctx, n, "ep", count); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	var after footprint
	h.Eventually("as small as before", func() error {
		after = h.footprint()
		// Idle connections of the test's own are goroutines of the agent's.
		if after.heap > before.heap+2<<20 || after.goroutines > before.goroutines+2*atOnce {
			return fmt.Errorf("it had %+v and has %+v", before, after)
		}
		return nil
	})
	t.Logf("%d containers in %v: heap %d to %d KiB, goroutines %d to %d", count, took.Round(time.Second),
		before.heap>>10, after.heap>>10, before.goroutines, after.goroutines)
	if now := h.links(); now != links {
		t.Errorf("links were\n%s\nand are\n%s", links, now)
	}
	if now := h.metric("socketplane_flows"); now != flows {
		t.Errorf("%v flows are left of %v", now, flows)
	}
	if ports := h.OVS.Vsctl("list-ports", bare.Bridge); ports != "" {
		t.Errorf("ports are left: %s", ports)
	}
}

// TestHundredAtOnce: what a host with a hundred containers that restart asks in one moment is answered, each in its time.
func TestHundredAtOnce(t *testing.T) {
	h := newHost(t)
	h.start()
	ctx := h.Deadline(2 * patience)
	n, err := h.Docker().Network(ctx, id("net", 1), "10.1.0.0/24", "")
	if err != nil {
		t.Fatal(err)
	}
	const count = 100
	var most atomic.Int64
	endpoints := make([]*endpoint, count)
	g, gctx := errgroup.WithContext(ctx)
	start := make(chan struct{})
	for i := range count {
		g.Go(func() (err error) {
			<-start
			endpoints[i], err = n.Join(gctx, id("ep", i), mac(i))
			return err
		})
	}
	sampled := make(chan struct{})
	stop := make(chan struct{})
	go func() {
		defer close(sampled)
		for {
			select {
			case <-stop:
				return
			default:
				if _, text, err := h.Get("/metrics"); err == nil {
					most.Store(max(most.Load(), int64(bare.Value(text, "socketplane_plugin_in_flight"))))
				}
			}
		}
	}()
	began := time.Now()
	close(start)
	err = g.Wait()
	took := time.Since(began)
	close(stop)
	<-sampled
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d containers at once took %v; %d calls were seen in flight", count, took.Round(time.Millisecond), most.Load())
	seen := map[string]bool{}
	for _, e := range endpoints {
		if seen[e.Addr] {
			t.Errorf("address %s was given twice", e.Addr)
		}
		seen[e.Addr] = true
	}
	if got := h.metric("socketplane_endpoints"); got != count {
		t.Errorf("%v endpoints, want %d", got, count)
	}
	if got := strings.Fields(h.OVS.Vsctl("list-ports", bare.Bridge)); len(got) != count+1 { // and the tunnel's
		t.Errorf("%d ports, want %d", len(got), count+1)
	}
	if got := h.metric("socketplane_plugin_in_flight"); got != 0 {
		t.Errorf("%v calls are in flight at rest", got)
	}
}
