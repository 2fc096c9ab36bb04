package trust

import (
	"net/netip"
	"testing"
	"time"
)

// TestEarly: a certificate of a clock that was ahead is known as such, and a clock that is far behind, as after a boot without a battery, does not condemn
// one that is good.
func TestEarly(t *testing.T) {
	k, err := Open(t.TempDir(), Lifetimes{})
	if err != nil {
		t.Fatal(err)
	}
	now, host := time.Now(), Subject{ID: "h1", Addr: netip.MustParseAddr("192.0.2.1")}
	creds, err := Found(k.Identity(), host, false, Lifetimes{}, now.Add(-30*24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		made, looked time.Time
		want         bool
	}{
		"as it should be":        {now, now, false},
		"a clock that was ahead": {now.Add(100 * 24 * time.Hour), now, true},
		"a day ahead":            {now.Add(23 * time.Hour), now, false},
		"a clock without time":   {now, time.Unix(0, 0), false},
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			if creds.Cert, err = Issue(creds.Keys, host, k.Identity().Public(), k.life.Leaf, c.made); err != nil {
				t.Fatal(err)
			}
			if got := early(creds, c.looked); got != c.want || !k.fits(creds, host, c.looked) {
				t.Errorf("early is %t, fits %t", got, k.fits(creds, host, c.looked))
			}
		})
	}
}
