package ipalloc

import (
	"net/netip"
	"testing"
)

func TestUsable(t *testing.T) {
	for cidr, want := range map[string]bool{
		"10.1.0.0/16": true, "10.1.0.0/31": true, "172.18.0.0/16": true, "100.64.0.0/10": true, "169.254.7.0/24": true, "8.8.8.0/24": true, "240.0.0.0/24": true,
		"fd00:1::/64": true, "fd00::/127": true, "2001:db8::/32": true,
		"0.0.0.0/0": false, "0.0.0.0/1": false, "0.1.0.0/16": false, "127.0.0.0/8": false, "127.9.0.0/24": false, "126.0.0.0/7": false, "224.0.0.0/8": false,
		"239.1.0.0/16": false, "10.1.1.1/32": false, "::/0": false, "::1/128": false, "fe80::/64": false, "fe80::/10": false, "ff02::/64": false, "fd00::1/128": false,
	} {
		if err := Usable(netip.MustParsePrefix(cidr)); (err == nil) != want {
			t.Errorf("%s: %v", cidr, err)
		}
	}
}
