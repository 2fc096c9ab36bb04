package crash

import (
	"path/filepath"
	"testing"

	"github.com/socketplane/socketplane/internal/testenv/crashpoints"
)

// elsewhere are the crash points that a life cycle does not reach, with the place that covers them.
var elsewhere = map[string]string{
	"journal: give a new file up": "a full disk: internal/journal",
	"consul: renew a session":     "every 10 s; writes no key",
	"link: checksums":             "hosts without user-space segmentation; it is looked at anew with every mend: internal/hostlink",
	"link: checksums set":         "likewise",
	"link: MTU":                   "mends what others changed: internal/dataplane/ovs",
	"link: MAC":                   "mends what others changed: internal/dataplane/ovs",
	"link: address":               "removes what others put on our links: internal/hostlink",
	"link: route":                 "removes what others put on our links: internal/hostlink",
	"link: stray":                 "removes what others put on our links: internal/hostlink",
}

// reached demands that every crash point that the sources have was passed, but for those that are excused.
func reached(t *testing.T, seen map[string]bool) {
	t.Helper()
	all := listed(t)
	if len(all) < 20 {
		t.Errorf("the sources have only %d crash points: the test looks for the wrong thing", len(all))
	}
	for name := range all {
		if !seen[name] && elsewhere[name] == "" {
			t.Errorf("crash point %q is reached by no scenario: add a step that does, or say what covers it", name)
		}
	}
	for name, why := range elsewhere {
		if !all[name] {
			t.Errorf("crash point %q (%s) is no more", name, why)
		}
	}
}

// listed are the names of all crash points in the sources.
func listed(t *testing.T) map[string]bool {
	t.Helper()
	const root = "../.."
	var dirs []string
	for _, dir := range []string{"driver", "ipamdriver", "internal", "ovsctl", "plugin", "store"} {
		dirs = append(dirs, filepath.Join(root, dir))
	}
	// internal/cluster has hosts of its own, which die there.
	names, err := crashpoints.Names(dirs, filepath.Join(root, "internal/cluster"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, name := range names {
		all[name] = true
	}
	return all
}
