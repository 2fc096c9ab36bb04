package upgrade

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/test/lab"
)

// TestUpgradeAndBack: a cluster of the former release is upgraded host by host under traffic, its records get the second layout and the first one again, and the
// hosts are set back one by one. At no moment a ping of the standing containers is lost, or one of their flows, ports or forwarding entries missing; they keep their
// addresses, and what is claimed for them; at each step containers and networks of all hosts are reached from all others. In the end everything is as it was.
func TestUpgradeAndBack(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	w := start(ctx, t)
	w.settle(ctx)
	w.traffic(ctx)
	w.meet(ctx, "all hosts are older")
	before := w.rest(ctx)
	for i, h := range w.Hosts {
		w.replace(ctx, h, w.present)
		w.older(ctx, h, w.Hosts[i+1:])
		w.meet(ctx, h.Name+" is upgraded")
	}

	w.raise(ctx, w.Hosts[0], w.Hosts[2])
	w.meet(ctx, "in the second layout")
	w.refused(ctx, w.Hosts[2])
	w.unbroken(ctx, "h3 was set back by mistake")

	w.lower(ctx, w.Hosts[1], w.Hosts[0])
	w.meet(ctx, "in the first layout again")
	for _, h := range w.Hosts {
		w.replace(ctx, h, w.former)
		w.meet(ctx, h.Name+" is set back")
	}
	w.eventually(ctx, "before and after", func(ctx context.Context) error {
		if different := lab.Compare(before, w.rest(ctx)); different != "" {
			return fmt.Errorf("these differ:\n%s", different)
		}
		return nil
	})
}

// replace gives a host the other agent, and shows that no flow of this host or another was missing meanwhile.
func (w *world) replace(ctx context.Context, h *lab.Host, binary string) {
	w.t.Helper()
	w.markAll()
	w.change(ctx, h, binary)
	w.unbroken(ctx, "the agent of "+h.Name+" is replaced")
}

// meet shows that the agents understand each other, and that the standing containers did not notice.
func (w *world) meet(ctx context.Context, when string) {
	w.t.Helper()
	w.understand(ctx)
	w.unbroken(ctx, "containers and networks come and go when "+when)
}

// rest is the state of all hosts and of the cluster's records, but for what says which layout these have. What the second layout leaves of a network below
// shards/ stays for as long as the network is there, and nothing of the first layout's looks at it.
func (w *world) rest(ctx context.Context) string {
	w.t.Helper()
	var lines []string
	for line := range strings.Lines(w.Dump(ctx)) {
		if strings.HasPrefix(line, prefix+"layout ") || strings.HasPrefix(line, prefix+"shards/") {
			continue
		}
		lines = append(lines, w.ordered(line))
	}
	return lab.Lasting(strings.Join(lines, ""))
}

// ordered is a line of a dump without what changes with each writing of a record: its nonce and the order of hosts and fields in it.
func (w *world) ordered(line string) string {
	w.t.Helper()
	key, value, is := strings.Cut(line, " = ")
	var record map[string]any
	if !is || !strings.HasPrefix(key, prefix) || json.Unmarshal([]byte(value), &record) != nil {
		return line
	}
	delete(record, "nonce")
	if list, is := record["hosts"].([]any); is {
		slices.SortFunc(list, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	}
	text, err := json.Marshal(record)
	if err != nil {
		w.t.Fatal(err)
	}
	return key + " = " + string(text) + "\n"
}
