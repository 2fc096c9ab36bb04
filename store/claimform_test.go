package store_test

import (
	"errors"
	"maps"
	"net/netip"
	"testing"

	"github.com/socketplane/socketplane/store"
)

// TestClaimsForm: what a block's record may say, and what not: it expands to more than it has bytes.
func TestClaimsForm(t *testing.T) {
	claim := store.Claim{Owner: store.HostOwner("a"), Nonce: "x"}
	for name, tt := range map[string]struct {
		addrs string
		want  []string // none: it is refused
	}{
		"one":                  {`"10.1.0.2"`, []string{"10.1.0.2"}},
		"range":                {`"10.1.0.2-10.1.0.4"`, []string{"10.1.0.2", "10.1.0.3", "10.1.0.4"}},
		"IPv6":                 {`"fd00::fe-fd00::ff","fd00::1"`, []string{"fd00::fe", "fd00::ff", "fd00::1"}},
		"range of one":         {`"10.1.0.2-10.1.0.2"`, []string{"10.1.0.2"}},
		"twice":                {`"10.1.0.2-10.1.0.4","10.1.0.3"`, nil},
		"more than a block":    {`"10.1.0.0-10.1.0.64"`, nil},
		"everything":           {`"::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"`, nil},
		"backwards":            {`"10.1.0.4-10.1.0.2"`, nil},
		"backwards at the end": {`"255.255.255.255-255.255.255.254"`, nil},
		"two families":         {`"10.1.0.4-fd00::1"`, nil},
		"zone":                 {`"fe80::1%eth0"`, nil},
		"no address":           {`"x"`, nil},
		"three":                {`"10.1.0.1-10.1.0.2-10.1.0.3"`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			value := `{"schema":1,"claims":[{"owner":"a","nonce":"x","addrs":[` + tt.addrs + `]}]}`
			b, err := store.Decode[store.Block](store.Entry{Key: "k", Value: []byte(value)})
			if tt.want == nil {
				if !errors.Is(err, store.ErrInvalid) {
					t.Errorf("%s is read as %v, %v", value, b.Claims, err)
				}
				return
			}
			want := store.Claims{}
			for _, a := range tt.want {
				want[netip.MustParseAddr(a)] = claim
			}
			if err != nil || !maps.Equal(b.Claims, want) {
				t.Errorf("%s is read as %v, %v", value, b.Claims, err)
			}
		})
	}
}
