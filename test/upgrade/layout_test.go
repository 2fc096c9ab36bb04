package upgrade

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/socketplane/socketplane/test/lab"
)

// status is what `socketplane cluster layout` tells.
type status struct {
	Layout, Newest   int
	Pinned           bool
	Older, Unsettled []string
}

func layout(ctx context.Context, h *lab.Host) (s status, err error) {
	out, err := h.SocketPlane(ctx, "cluster", "layout", "--format", "json")
	if err == nil {
		err = json.Unmarshal([]byte(out), &s)
	}
	return s, err
}

// older demands that the layout is the first, that h tells which hosts have older agents, and that it refuses the second layout and names them.
func (w *world) older(ctx context.Context, h *lab.Host, want []*lab.Host) {
	w.t.Helper()
	names := []string{}
	for _, other := range want {
		names = append(names, other.Name)
	}
	w.eventually(ctx, "cluster layout on "+h.Name, func(ctx context.Context) error {
		s, err := layout(ctx, h)
		if err == nil && (s.Layout != 1 || s.Newest != 2 || !slices.Equal(s.Older, names)) {
			err = fmt.Errorf("%+v, and the older hosts are %q", s, names)
		}
		return err
	})
	if len(want) == 0 {
		return
	}
	out, err := h.SocketPlane(ctx, "cluster", "layout", "2")
	if err == nil {
		w.t.Fatalf("%s raised the layout though %q are older: %s", h.Name, names, out)
	}
	for _, text := range append(names, "upgrade socketplane there") {
		if !strings.Contains(err.Error(), text) {
			w.t.Errorf("the refusal does not say %q: %v", text, err)
		}
	}
}

// raise sets the second layout while the agent of a host is away, which follows when it is back.
func (w *world) raise(ctx context.Context, h, away *lab.Host) {
	w.t.Helper()
	w.setLayoutWithout(ctx, h, away, "2")
	w.unbroken(ctx, "the layout is raised while "+away.Name+" has no agent")
	w.back(ctx, away, 2)
}

// back starts the agent that was away.
func (w *world) back(ctx context.Context, away *lab.Host, layout int) {
	w.t.Helper()
	w.markAll()
	if err := errors.Join(away.StartAgent(ctx), away.WaitReady(ctx)); err != nil {
		w.t.Fatal(err)
	}
	w.settled(ctx, fmt.Sprint(layout))
	w.records(ctx, layout, hosts)
	w.unbroken(ctx, fmt.Sprintf("the agent of %s is back in layout %d", away.Name, layout))
}

// lower sets the first layout again while the agent of a host is away: its records get the former form without it. It runs once more before it is replaced, as
// what its own store knows of other hosts has the second form until then; an agent of the former release would have no peers until it has read the cluster's.
func (w *world) lower(ctx context.Context, h, away *lab.Host) {
	w.t.Helper()
	w.setLayoutWithout(ctx, h, away, "1")
	w.settled(ctx, "1")
	w.records(ctx, 1, hosts-1)
	w.unbroken(ctx, "the layout is lowered while "+away.Name+" has no agent")
	w.back(ctx, away, 1)
}

func (w *world) setLayoutWithout(ctx context.Context, h, away *lab.Host, number string) {
	w.t.Helper()
	if err := away.StopAgent(); err != nil {
		w.t.Fatal(err)
	}
	if _, err := h.SocketPlane(ctx, "cluster", "layout", number); err != nil {
		w.t.Fatal(err)
	}
}

// settled waits until the hosts whose agents run say that the layout is this one and that all records have followed.
func (w *world) settled(ctx context.Context, number string) {
	w.t.Helper()
	w.each(func(h *lab.Host) error {
		if !h.AgentRunning() {
			return nil
		}
		return until(ctx, func(ctx context.Context) error {
			s, err := layout(ctx, h)
			if err == nil && (fmt.Sprint(s.Layout) != number || len(s.Unsettled) > 0 || len(s.Older) > 0 || s.Pinned != (number == "1")) {
				err = fmt.Errorf("layout of %s: %+v", h.Name, s)
			}
			return err
		})
	})
}

// kinds are those of records that only one layout has (docs/design/0020-layout.md), by the layout.
var kinds = map[int][]string{1: {"endpoints", "index"}, 2: {"bound", "holders", "parts", "labels", "heads", "hostheads", "hostshards"}}

// records demands that all records have the form of a layout, once the signs of life of the hosts whose agents are up have followed.
func (w *world) records(ctx context.Context, layout, up int) {
	w.t.Helper()
	w.eventually(ctx, fmt.Sprintf("records of layout %d", layout), func(context.Context) error { return w.form(w.keys(ctx), layout, up) })
}

// form tells what is not as it is in a layout.
func (w *world) form(keys map[string]string, layout, up int) error {
	var wrong []error
	seen := map[string]int{}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		kind, rest, _ := strings.Cut(strings.TrimPrefix(key, prefix), "/")
		if strings.HasSuffix(key, "/permanent") {
			if kind = "permanent"; layout == 1 && !strings.HasPrefix(key, prefix+"shards/") {
				wrong = append(wrong, fmt.Errorf("%s is there", key))
			}
		}
		seen[kind]++
		switch kind {
		case "hosts":
			if _, sign, _ := strings.Cut(rest, "/"); sign != "" {
				seen["sign"]++
			}
		case "networks", "pools":
			var r struct {
				Schema int
				Hosts  json.RawMessage
			}
			if w.decode(key, keys[key], &r); r.Schema != layout || (len(r.Hosts) > 0) != (layout == 1) {
				wrong = append(wrong, fmt.Errorf("%s: %s", key, keys[key]))
			}
		case "janitor":
			if layout == 1 {
				wrong = append(wrong, fmt.Errorf("%s: %s", key, keys[key]))
			}
		case "schema", "layout":
			var r struct{ Schema, Layout int }
			if w.decode(key, keys[key], &r); kind == "schema" && r.Schema != layout || kind == "layout" && r.Layout != layout {
				wrong = append(wrong, fmt.Errorf("%s: %s", key, keys[key]))
			}
		}
	}
	if want := up * (2 - layout); seen["sign"] != want {
		wrong = append(wrong, fmt.Errorf("%d signs of life beside hosts, want %d", seen["sign"], want))
	}
	if layout == 2 && seen["permanent"] == 0 {
		wrong = append(wrong, errors.New("no permanent keys"))
	}
	for l, some := range kinds {
		for _, kind := range some {
			if (seen[kind] > 0) != (l == layout) {
				wrong = append(wrong, fmt.Errorf("%d records of kind %s", seen[kind], kind))
			}
		}
	}
	return errors.Join(wrong...)
}

// refused shows what becomes of a host that is set back without another layout: its agent refuses the cluster's records, changes none, says why, and its
// containers go on talking.
func (w *world) refused(ctx context.Context, h *lab.Host) {
	w.t.Helper()
	before := steady(w.keys(ctx))
	if err := h.StopAgent(); err != nil {
		w.t.Fatal(err)
	}
	h.UseAgent(w.former)
	if err := h.StartAgent(ctx); err != nil {
		w.t.Fatal(err)
	}
	w.eventually(ctx, "the former agent in the second layout", func(ctx context.Context) error {
		out, err := h.SocketPlane(ctx, "info")
		if err == nil && !strings.Contains(out, "schema 2") {
			err = fmt.Errorf("info of %s does not say that the records are newer: %s", h.Name, out)
		}
		return err
	})
	_, err := run(ctx, h, "refused", own)
	if err == nil || !strings.Contains(err.Error(), "schema 2") || !strings.Contains(err.Error(), "upgrade socketplane on this host") {
		w.t.Errorf("docker run on %s, whose agent can't read the cluster's records: %v", h.Name, err)
	}
	if _, err := h.Docker(ctx, "rm", "-f", "refused"); err != nil {
		w.t.Fatal(err)
	}
	for key, value := range steady(w.keys(ctx)) {
		if before[key] != value {
			w.t.Errorf("the agent that refused the records changed %s from %q to %q", key, before[key], value)
		}
		delete(before, key)
	}
	for key := range before {
		w.t.Errorf("the agent that refused the records removed %s", key)
	}
	w.change(ctx, h, w.present)
}

// steady are the records that do not change by themselves: what hosts tell of how they use their addresses does, and signs of life end with an agent, as does
// the janitor's lock.
func steady(keys map[string]string) map[string]string {
	keys = maps.Clone(keys)
	maps.DeleteFunc(keys, func(key, _ string) bool {
		return strings.HasPrefix(key, prefix+"use/") || strings.HasPrefix(key, prefix+"alive/") || key == prefix+"janitor"
	})
	return keys
}
