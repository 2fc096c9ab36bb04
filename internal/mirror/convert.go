package mirror

import (
	"maps"
	"regexp"

	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/internal/netopt"
	"github.com/socketplane/socketplane/store"
)

// declaration is what other hosts must know of a network that Docker has here.
func declaration(n dockerwatch.Network) store.Declaration {
	d := store.Declaration{
		IPv6: n.IPv6, Attachable: n.Attachable, Options: netopt.Copied(n.Options), Labels: maps.Clone(n.Labels),
		DockerIPAM: n.IPAMDriver != DriverName,
	}
	for _, s := range n.Subnets {
		d.Subnets = append(d.Subnets, store.Subnet{CIDR: s.CIDR, Range: s.Range, Gateway: s.Gateway, Aux: s.Aux})
	}
	return d
}

// copied is the Docker network that is a copy of the cluster's.
func copied(n store.Network) dockerwatch.Network {
	c := dockerwatch.Network{
		Name: n.Name, IPv6: n.Declared.IPv6, Internal: n.Internal, Attachable: n.Declared.Attachable,
		Options: maps.Clone(n.Declared.Options), Labels: n.Declared.Labels,
	}
	if n.Declared.DockerIPAM {
		c.IPAMOptions = map[string]string{netopt.KeyFill: netopt.FillTop}
	}
	for _, pool := range n.Pools {
		subnet := dockerwatch.Subnet{CIDR: pool}
		for _, s := range n.Declared.Subnets {
			if s.CIDR == pool {
				subnet.Range, subnet.Gateway, subnet.Aux = s.Range, s.Gateway, s.Aux
			}
		}
		c.Subnets = append(c.Subnets, subnet)
	}
	return c
}

// plainName is what any shell and Docker's command line take as it is.
var plainName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)

// called is how a command on this host names one of Docker's networks: Docker takes nearly any text for a name, but some can't
// be typed, and some (a//b) its API does not find.
func called(n dockerwatch.Network) string {
	if plainName.MatchString(n.Name) {
		return n.Name
	}
	return n.ID[:min(len(n.ID), 12)]
}
