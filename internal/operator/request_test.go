package operator

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/store"
)

func TestCheckRequest(t *testing.T) {
	subnets := func(texts ...string) (all []netip.Prefix) {
		for _, text := range texts {
			all = append(all, netip.MustParsePrefix(text))
		}
		return all
	}
	tests := []struct {
		name string
		r    adminapi.NetworkRequest
		want string // "" if it is fine
	}{
		{"name only", adminapi.NetworkRequest{Name: "web"}, ""},
		{"everything", adminapi.NetworkRequest{Name: "w_e.b-1", Subnets: subnets("10.1.0.0/16", "fd00::/64"), Ranges: subnets("10.1.2.0/24"),
			Gateways: []netip.Addr{netip.MustParseAddr("10.1.0.9")}, Aux: map[string]string{"a": "fd00::5"}, MTU: 1400}, ""},
		{"no name", adminapi.NetworkRequest{}, "not a network's name"},
		{"one of Docker's names", adminapi.NetworkRequest{Name: "host"}, "Docker's own"},
		{"a name that is a path", adminapi.NetworkRequest{Name: "../x"}, "not a network's name"},
		{"host bits", adminapi.NetworkRequest{Name: "web", Subnets: subnets("10.1.0.1/16")}, "use 10.1.0.0/16"},
		{"loopback", adminapi.NetworkRequest{Name: "web", Subnets: subnets("127.0.0.0/8")}, "10.1.0.0/16"},
		{"a range elsewhere", adminapi.NetworkRequest{Name: "web", Subnets: subnets("10.1.0.0/16"), Ranges: subnets("10.2.0.0/24")}, "none of the network's subnets"},
		{"a range that is too large", adminapi.NetworkRequest{Name: "web", Subnets: subnets("10.1.0.0/16"), Ranges: subnets("10.1.0.0/8")}, "none of the network's subnets"},
		{"a gateway without subnet", adminapi.NetworkRequest{Name: "web", Gateways: []netip.Addr{netip.MustParseAddr("10.1.0.9")}}, "name the subnet"},
		{"the broadcast address", adminapi.NetworkRequest{Name: "web", Subnets: subnets("10.1.0.0/16"), Aux: map[string]string{"a": "10.1.255.255"}}, "can't be used"},
		{"no address", adminapi.NetworkRequest{Name: "web", Subnets: subnets("10.1.0.0/16"), Aux: map[string]string{"a": "x"}}, "not an IP address"},
		{"options", adminapi.NetworkRequest{Name: "web", MTU: 1400, Options: map[string]string{"mtu": "1400", "com.docker.network.bridge.enable_icc": "true"}}, ""},
		{"an option that is not given", adminapi.NetworkRequest{Name: "web", Options: map[string]string{"com.docker.network.bridge.enable_icc": "false"}}, "enable_icc"},
		{"an option that is unknown", adminapi.NetworkRequest{Name: "web", Options: map[string]string{"colour": "red"}}, "colour"},
		{"another name", adminapi.NetworkRequest{Name: "web", Options: map[string]string{"network": "db"}}, "argument"},
		{"two MTUs", adminapi.NetworkRequest{Name: "web", MTU: 1400, Options: map[string]string{"mtu": "1300"}}, "--mtu"},
		{"IPv6 that is not there", adminapi.NetworkRequest{Name: "web", Options: map[string]string{"com.docker.network.enable_ipv6": "true"}}, "--ipv6"},
		{"an MTU too small for IPv6", adminapi.NetworkRequest{Name: "web", IPv6: true, MTU: 600}, "MTU"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := checkRequest(&tt.r)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// TestWantedRange: a range is declared as a CIDR without host bits, which engines from 28 on demand of copies.
func TestWantedRange(t *testing.T) {
	r := adminapi.NetworkRequest{Name: "web", Subnets: []netip.Prefix{netip.MustParsePrefix("10.3.0.0/16")}, Ranges: []netip.Prefix{netip.MustParsePrefix("10.3.1.5/24")}}
	want, err := New(Deps{}).wanted(t.Context(), r)
	if err != nil || len(want.Subnets) != 1 || want.Subnets[0].Range.String() != "10.3.1.0/24" {
		t.Errorf("wanted is %+v, %v", want, err)
	}
}

// TestSpoken: an operator reads one sentence, and its kind crosses the socket.
func TestSpoken(t *testing.T) {
	err := Spoken(fmt.Errorf("%w: network web is used by containers on h2: remove these first", store.ErrHasEndpoints))
	if !errors.Is(err, adminapi.ErrConflict) || err.Error() != "network web is used by containers on h2: remove these first" {
		t.Errorf("%v", err)
	}
	down := fmt.Errorf("%w: consul at 192.0.2.1:8500", store.ErrUnavailable)
	if got := Spoken(down); got != down {
		t.Errorf("%v", got)
	}
	if Spoken(nil) != nil {
		t.Error("nil is spoken")
	}
}
