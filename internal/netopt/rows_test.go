package netopt_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/netopt"
)

// nonsense is a value that no option takes which sets something or promises something.
const nonsense = "%no such value/"

// rows checks what every row must have, and that its values are as it says.
func rows[T any](t *testing.T, all []netopt.Row[T]) {
	t.Helper()
	seen := map[string]bool{}
	rules := []netopt.Merge{netopt.Same, netopt.Each, netopt.Implied, netopt.Here}
	for _, r := range all {
		if seen[r.Key] || r.Key == "" || r.Values == "" || r.Help == "" || !slices.Contains(rules, r.Merge) {
			t.Errorf("%q is there twice, or lacks its values, help or rule: %+v", r.Key, r)
		}
		seen[r.Key] = true
		if len(r.Samples) == 0 && r.Values != "none" {
			t.Errorf("%s has no sample of a value that is accepted", r.Key)
		}
		for _, value := range r.Samples {
			if err := r.Check(value); err != nil {
				t.Errorf("%s=%s, a sample: %v", r.Key, value, err)
			}
		}
		if r.Flag != "" && (!r.Does() || strings.ToLower(r.Flag) != r.Flag) {
			t.Errorf("%s has the flag --%s", r.Key, r.Flag)
		}
	}
}

// TestRows: each row of each table is whole, and says the truth of its values.
func TestRows(t *testing.T) {
	rows(t, netopt.Networks())
	rows(t, netopt.Endpoints())
	rows(t, netopt.IPAMs())
	for _, r := range netopt.Networks() {
		if engine := strings.Contains(r.Key, "advertise_addr"); r.Check(nonsense) == nil && !engine { // Docker reads these
			t.Errorf("%s=%s is accepted", r.Key, nonsense)
		}
	}
}

// TestAgree: what another host may ask for is as the rule of each row says, for all pairs of values.
func TestAgree(t *testing.T) {
	parsed := func(key, value string) netopt.Network {
		t.Helper()
		if value == "" {
			return netopt.Network{}
		}
		n, err := netopt.ParseNetwork(map[string]string{key: value})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	differed := 0
	for _, r := range netopt.Networks() {
		values := append([]string{""}, r.Samples...)
		for _, made := range values {
			for _, asked := range values {
				err := netopt.Agree(parsed(r.Key, made), parsed(r.Key, asked))
				refused := r.Merge == netopt.Same && asked != "" && asked != made
				if refused != (err != nil) {
					t.Errorf("%s (%s): made with %q, another host asks for %q: %v", r.Key, r.Merge, made, asked, err)
				}
				if err != nil && (!strings.Contains(err.Error(), asked) || !strings.Contains(err.Error(), "leave it out") || !strings.Contains(err.Error(), made)) {
					t.Errorf("%q lacks the values or the cure", err)
				}
				if refused {
					differed++
				}
			}
		}
	}
	if differed == 0 {
		t.Error("no two values differ, so this test proves nothing")
	}
	// The two names of one option are one value.
	if err := netopt.Agree(parsed("mtu", "1400"), parsed("com.docker.network.driver.mtu", "1400")); err != nil {
		t.Error(err)
	}
}

// TestCopiedRows: copies get each option but those whose rule says that they are of one command.
func TestCopiedRows(t *testing.T) {
	given := map[string]string{}
	for _, r := range netopt.Networks() {
		given[r.Key] = "x"
	}
	copied := netopt.Copied(given)
	for _, r := range netopt.Networks() {
		if _, is := copied[r.Key]; is != (r.Merge != netopt.Here) {
			t.Errorf("%s (%s) is copied: %v", r.Key, r.Merge, is)
		}
	}
}
