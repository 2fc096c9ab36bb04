package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/socketplane/socketplane/test/lab"
)

// truth is what follows from Docker's own list of running containers: of a network's, by host, the MACs; nobody asks an agent for it.
type truth map[string]map[string]bool

// present asks Docker which containers a network has.
func (w *once) present(ctx context.Context, network string) (truth, error) {
	all := truth{}
	var mu sync.Mutex
	err := w.each(func(h *lab.Host) error {
		names, err := h.Docker(ctx, "ps", "--filter", "network="+network, "--filter", "status=running", "--format", "{{.Names}}")
		if err != nil {
			return err
		}
		for _, name := range strings.Fields(names) {
			a, err := (&container{h: h, name: name}).on(ctx, network)
			if err != nil {
				return err
			}
			mu.Lock()
			if all[h.Name] == nil {
				all[h.Name] = map[string]bool{}
			}
			all[h.Name][a.MacAddress] = true
			mu.Unlock()
		}
		return nil
	})
	return all, err
}

var (
	ourLink     = regexp.MustCompile(`\b(sp[hc][0-9a-z]+)@`)
	unicastFlow = regexp.MustCompile(`table=50,.*dl_dst=([0-9a-f:]{17})[ ,]`)
	recordMAC   = regexp.MustCompile(`"(?:mac|m)":"([0-9a-f:]{17})"`)
)

// exact says whether all that is there for containers is what one network's containers need, on every host and in Consul: links, ports,
// flows, records and addresses that are handed out. No other network may have containers.
func (w *once) exact(ctx context.Context, network string) error {
	want, err := w.present(ctx, network)
	if err != nil {
		return err
	}
	everywhere := map[string]bool{}
	for _, macs := range want {
		maps.Copy(everywhere, macs)
	}
	published := map[string]bool{}
	for _, form := range []string{"endpoints/", "parts/"} { // of the first layout and the second
		keys, err := w.Consul.Keys(ctx, "socketplane/v1/"+form)
		if err != nil {
			return err
		}
		for _, value := range keys {
			for _, m := range recordMAC.FindAllStringSubmatch(value, -1) {
				published[m[1]] = true
			}
		}
	}
	errs := []error{sameSet("records in Consul", published, everywhere)}
	for _, h := range w.Hosts {
		errs = append(errs, w.exactOn(ctx, h, network, want[h.Name], everywhere))
	}
	return errors.Join(errs...)
}

// exactOn looks at one host, which has containers with the MACs own and needs flows to those of all.
func (w *once) exactOn(ctx context.Context, h *lab.Host, network string, own, all map[string]bool) error {
	links, err := h.Exec(ctx, "ip", "-o", "link", "show")
	ports, err2 := h.Exec(ctx, "ovs-vsctl", "--timeout=10", "list-ports", "socketplane0")
	flows, err3 := h.Exec(ctx, "ovs-ofctl", "-OOpenFlow14", "--no-stats", "dump-flows", "socketplane0")
	text, err4 := h.SocketPlane(ctx, "network", "inspect", network, "--format", "json")
	if err := errors.Join(err, err2, err3, err4); err != nil {
		return err
	}
	var errs []error
	haveLinks, havePorts, reached := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, m := range ourLink.FindAllStringSubmatch(links, -1) {
		haveLinks[m[1]] = true
	}
	for _, port := range strings.Fields(ports) {
		if strings.HasPrefix(port, "sph") {
			havePorts[port] = true
		}
	}
	for _, m := range unicastFlow.FindAllStringSubmatch(flows, -1) {
		reached[m[1]] = true
	}
	if len(own) == 0 {
		all = nil // a host without containers needs no flows to others'
	}
	if len(haveLinks) != len(own) {
		errs = append(errs, fmt.Errorf("%d links for %d containers", len(haveLinks), len(own)))
	}
	errs = append(errs, sameSet("ports", havePorts, haveLinks), sameSet("flows", reached, all))
	var inspected struct {
		Addresses []struct {
			Pool      string
			HandedOut int `json:"handed_out"`
			Here      bool
		}
	}
	if err := json.Unmarshal([]byte(text), &inspected); err != nil {
		return fmt.Errorf("%s: %w: %s", h.Name, err, text)
	}
	for _, use := range inspected.Addresses {
		if use.Here && use.HandedOut != len(own) {
			errs = append(errs, fmt.Errorf("%d addresses of %s are handed out to %d containers", use.HandedOut, use.Pool, len(own)))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%s: %w", h.Name, err)
	}
	return nil
}

func sameSet(what string, have, want map[string]bool) error {
	if maps.Equal(have, want) || len(have)+len(want) == 0 {
		return nil
	}
	return fmt.Errorf("%s: there are %v, needed are %v", what, slices.Sorted(maps.Keys(have)), slices.Sorted(maps.Keys(want)))
}

// flowsOf are all hosts' flows without their generation.
func (w *once) flowsOf(ctx context.Context) (string, error) {
	var b strings.Builder
	for _, h := range w.Hosts {
		out, err := h.Exec(ctx, "ovs-ofctl", "-OOpenFlow14", "--no-stats", "--names", "dump-flows", "socketplane0")
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "== %s\n%s\n", h.Name, regexp.MustCompile(`cookie=0x[0-9a-f]+, `).ReplaceAllString(out, ""))
	}
	return b.String(), nil
}

// fresh waits until the flows that are there are those that agents compute which start anew.
func (w *once) fresh(ctx context.Context, t *testing.T) {
	t.Helper()
	before, err := w.flowsOf(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.each(func(h *lab.Host) error { return errors.Join(h.RestartAgent(ctx), h.WaitReady(ctx)) }); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, patience, func(ctx context.Context) error {
		now, err := w.flowsOf(ctx)
		if different := lab.Compare(before, now); err == nil && different != "" {
			err = fmt.Errorf("agents that start anew have other flows:\n%s", different)
		}
		return err
	})
}
