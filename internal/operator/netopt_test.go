package operator

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/netopt"
)

// TestEachOptionOfRequests: a request takes each option with the values that its row accepts, refuses others with the option's name, and declares those that copies get.
// The network's name is an argument, so that its option is refused.
func TestEachOptionOfRequests(t *testing.T) {
	ask := func(key, value string) adminapi.NetworkRequest {
		return adminapi.NetworkRequest{Name: "web", Subnets: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}, Options: map[string]string{key: value}}
	}
	for _, row := range netopt.Networks() {
		for _, value := range row.Samples {
			asked, err := netopt.ParseNetwork(map[string]string{row.Key: value})
			if err != nil {
				t.Fatal(err)
			}
			refused := row.Key == netopt.KeyName || asked.CheckFamilies(true, false) != nil
			r := ask(row.Key, value)
			if err := checkRequest(&r); refused != (err != nil) || err != nil && !strings.Contains(err.Error(), row.Key) {
				t.Errorf("%s=%s: %v", row.Key, value, err)
			} else if refused {
				continue
			}
			want, err := New(Deps{}).wanted(t.Context(), r)
			if got, is := want.Options[row.Key]; err != nil || is != row.Merge.Copied() || is && got != value || want.MTU != asked.MTU {
				t.Errorf("%s=%s is declared as %+v, %v", row.Key, value, want, err)
			}
		}
		const nonsense = "%no such value/"
		if row.Check(nonsense) != nil {
			if r := ask(row.Key, nonsense); checkRequest(&r) == nil {
				t.Errorf("%s=%s is accepted", row.Key, nonsense)
			}
		}
	}
}
