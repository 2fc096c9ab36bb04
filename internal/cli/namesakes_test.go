package cli_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/cli"
)

// TestHostsOfOneName: a name that two hosts have means neither; their ids do, and lists tell them apart.
func TestHostsOfOneName(t *testing.T) {
	const first, second = "7f3a9c0e5b6d4e1f", "7f3b9c0e5b6d4e1f"
	info := healthy()
	info.Hosts = []adminapi.Member{
		{ID: first, Name: "web", VTEP: netip.MustParseAddr("192.0.2.11"), Alive: true},
		{ID: second, Name: "web", VTEP: netip.MustParseAddr("192.0.2.12")},
		{ID: "8e3a9c0e5b6d4e1f", Name: "db", VTEP: netip.MustParseAddr("192.0.2.13")},
	}
	c := &cluster{answers: answers(info), endpoints: []adminapi.Endpoint{
		{ID: "e1", Network: "n", Host: "web", HostID: first, Container: "c1"}, {ID: "e2", Network: "n", Host: "web", HostID: second, Container: "c2"},
		{ID: "e3", Network: "n", Host: "db", HostID: "8e3a9c0e5b6d4e1f", Container: "c3"},
	}}
	for _, name := range []string{"web", "7f3"} {
		got := operated(t, c, "host", "inspect", name)
		for _, text := range []string{first, second, "192.0.2.11", "192.0.2.12", "give the id"} {
			if got.code != cli.ExitFailed || !strings.Contains(got.stderr, text) {
				t.Errorf("inspect %s: %+v, want %q", name, got, text)
			}
		}
	}
	for _, name := range []string{first, "7f3a", "db"} {
		if got := operated(t, c, "host", "inspect", name); got.code != cli.ExitOK {
			t.Errorf("inspect %s: %+v", name, got)
		}
	}
	if got := operated(t, c, "host", "ls", "--quiet"); got.stdout != first+"\n"+second+"\ndb\n" {
		t.Errorf("host ls --quiet: %+v", got)
	}
	got := operated(t, c, "endpoint", "ls").stdout
	for _, text := range []string{first[:12], second[:12], "db"} {
		if !strings.Contains(got, text) {
			t.Errorf("endpoint ls does not show %q:\n%s", text, got)
		}
	}
}
