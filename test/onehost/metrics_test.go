package onehost

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// served matches what comes before a metric's values, and listed a row of the page.
var (
	servedHelp = regexp.MustCompile(`(?m)^# HELP (socketplane_\w+) (.*)$`)
	servedType = regexp.MustCompile(`(?m)^# TYPE (socketplane_\w+) (\w+)$`)
	listed     = regexp.MustCompile("(?m)^\\| `(socketplane_\\w+)` \\| (\\w+) \\| ([^|]*) ?\\| (.*) \\|$")
	labels     = regexp.MustCompile(`(\w+)="`)
)

// TestMetricsAreDocumented: docs/metrics.md has each metric that an agent with a container serves, with its type, its labels
// and its help, and no other.
func TestMetricsAreDocumented(t *testing.T) {
	h := newHost(t)
	h.start()
	failed := h.metric(`socketplane_reconcile_runs_total{result="failed"}`) // before the switch had answered for the first time
	ctx := h.Deadline(patience)
	n, err := h.Docker().Network(ctx, id("net", 1), "10.1.0.0/24", "")
	if err != nil {
		t.Fatal(err)
	}
	e, err := n.Join(ctx, id("ep", 1), mac(1))
	if err != nil {
		t.Fatal(err)
	}
	// An error, so that its counter is there.
	if _, err := h.Docker().Call(ctx, "NetworkDriver.Join", object{"NetworkID": "none", "EndpointID": "none"}); err == nil {
		t.Fatal("Join of nothing succeeds")
	}
	text := h.metrics()
	kinds := map[string]string{}
	for _, m := range servedType.FindAllStringSubmatch(text, -1) {
		kinds[m[1]] = m[2]
	}
	var got []string
	for _, m := range servedHelp.FindAllStringSubmatch(text, -1) {
		got = append(got, strings.Join([]string{m[1], kinds[m[1]], strings.Join(labelsOf(text, m[1]), ", "), m[2]}, " | "))
	}
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, m := range listed.FindAllStringSubmatch(string(page), -1) {
		want = append(want, strings.Join([]string{m[1], m[2], strings.TrimSpace(strings.ReplaceAll(m[3], "`", "")), m[4]}, " | "))
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the agent serves\n%s\n\ndocs/metrics.md lists\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for name, want := range map[string]float64{
		"socketplane_ready": 1, "socketplane_networks": 1, "socketplane_endpoints": 1, "socketplane_peers": 0,
		`socketplane_addresses{state="handed_out"}`: 1, `socketplane_plugin_errors_total{method="NetworkDriver.Join"}`: 1,
		`socketplane_plugin_request_seconds_count{method="NetworkDriver.Join"}`: 2,
		`socketplane_plugin_in_flight`:                                          0, `socketplane_reconcile_runs_total{result="failed"}`: failed,
	} {
		if got := h.metric(name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	for _, name := range []string{
		"socketplane_flows", `socketplane_store_request_seconds_count{operation="apply",store="cluster"}`,
		`socketplane_store_request_seconds_count{operation="apply",store="local"}`, `socketplane_reconcile_runs_total{result="ok"}`,
	} {
		if h.metric(name) == 0 {
			t.Errorf("%s is 0", name)
		}
	}
	if err := e.Leave(ctx); err != nil {
		t.Fatal(err)
	}
	if got := h.metric(`socketplane_addresses{state="resting"}`); got != 1 {
		t.Errorf("%v addresses rest, want 1", got)
	}
}

// labelsOf are the names of a metric's labels, sorted, without those of a histogram's own.
func labelsOf(text, name string) []string {
	var all []string
	for line := range strings.Lines(text) {
		head, _, _ := strings.Cut(line, " ")
		bare, rest, _ := strings.Cut(head, "{")
		if bare != name && bare != name+"_count" {
			continue
		}
		for _, m := range labels.FindAllStringSubmatch(rest, -1) {
			if !slices.Contains(all, m[1]) {
				all = append(all, m[1])
			}
		}
	}
	slices.Sort(all)
	return all
}

// TestHealth: an agent without Open vSwitch lives, is not ready, and says why.
func TestHealth(t *testing.T) {
	h := newHost(t)
	h.start()
	check := func(path string, want int, text string) {
		t.Helper()
		if status, got, err := h.Get(path); err != nil || status != want || !strings.Contains(got, text) {
			t.Errorf("%s: %d %q %v, want %d with %q", path, status, got, err, want, text)
		}
	}
	check("/healthz", http.StatusOK, "ok")
	check("/readyz", http.StatusOK, "ok")
	check("/debug/pprof/goroutine?debug=1", http.StatusOK, "goroutine profile")
	h.OVS.StopVswitchd()
	h.Eventually("not ready, for want of ovs-vswitchd", func() error { // at first it may tell of the connection that broke
		if status, text, err := h.Get("/readyz"); err != nil || status != http.StatusServiceUnavailable || !strings.Contains(text, "ovs-vswitchd") {
			return fmt.Errorf("%d %q: %w", status, text, errors.Join(err, errNotYet))
		}
		return nil
	})
	check("/healthz", http.StatusOK, "ok")
	h.OVS.StartVswitchd()
	h.Eventually("ready again", func() error {
		if status, text, err := h.Get("/readyz"); err != nil || status != http.StatusOK || !strings.Contains(text, "ok") {
			return fmt.Errorf("%d %q: %w", status, text, errors.Join(err, errNotYet))
		}
		return h.admin().Ready(t.Context())
	})
	h.stop()
	h.flags = append(h.flags, "--pprof=false")
	h.start()
	check("/debug/pprof/", http.StatusNotFound, "")
	check("/metrics", http.StatusOK, "socketplane_ready 1")
}
