package cli

import (
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/adminapi"
)

// TestPick: a text that means two networks is refused; what is being removed gives way to what has its name now.
func TestPick(t *testing.T) {
	all := []adminapi.NetworkDetail{
		{ID: "aaaa000000000001", Name: "web", State: "deleting"},
		{ID: "aaaa000000000002", Name: "web", State: "active"},
		{ID: "bbbb000000000003", Name: "aaaa000000000001", State: "active"},
		{ID: "cccc000000000004", State: "active"},
	}
	for text, want := range map[string]string{
		"web": "aaaa000000000002", "aaaa000000000002": "aaaa000000000002", "bbbb": "bbbb000000000003", "cccc000000000004": "cccc000000000004",
		"aaaa000000000001": "is the name of one network (id bbbb000000000003) and the id of another",
		"aaaa":             "has no network aaaa", "": "has no network", "x\x1b[2J": "has no network x?[2J",
	} {
		n, err := pick(all, text)
		if err != nil {
			n.ID = err.Error()
		}
		if !strings.Contains(n.ID, want) {
			t.Errorf("%q means %s, want %s", text, n.ID, want)
		}
	}
}
