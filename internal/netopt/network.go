package netopt

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"strconv"
)

// Keys that others need by name.
const (
	KeyName   = "network"
	KeyMTU    = "mtu"
	bridge    = "com.docker.network.bridge."
	onlyTrue  = only + "true"
	onlyFalse = only + "false"
	keyIPv4   = "com.docker.network.enable_ipv4"
	keyIPv6   = "com.docker.network.enable_ipv6"
)

// Network is what the options of a network ask for.
type Network struct {
	// Name is the cluster's network that is meant, "" if none is named.
	Name string
	// MTU is in bytes, 0 for what the hosts' networks allow.
	MTU int
	// IfPrefix begins the names of interfaces in containers, "" for eth.
	IfPrefix string
	// IPv4 and IPv6 say whether the network has such addresses; nil for what its subnets say.
	IPv4, IPv6 *bool
}

// ParseNetwork reads a network's options. The error names the option, the cause and the cure.
func ParseNetwork(options map[string]string) (Network, error) {
	var n Network
	return n, parse("-o", Networks(), options, &n)
}

// Agree says why a host can't take part in a network with the options that it asks for, when the network was made with other ones; nil if it can. The rule is that of
// each row.
func Agree(made, asked Network) error { return agree("-o", Networks(), made, asked) }

// Copied are the options that copies of a network get.
func Copied(options map[string]string) map[string]string {
	copied := maps.Clone(options)
	for _, r := range Networks() {
		if !r.Merge.Copied() {
			delete(copied, r.Key)
		}
	}
	return copied
}

// Networks are the rows of -o.
func Networks() []Row[Network] {
	return append(ownRows(), append(bridgeRows(), otherRows()...)...)
}

func ownRows() []Row[Network] {
	const mtu = "the containers' MTU in bytes; without it, what the hosts' networks allow"
	mtus := []string{"1400", "1300"}
	values := fmt.Sprintf("%d (%d with IPv6) to %d", MinMTU, MinMTUIPv6, MaxMTU)
	return []Row[Network]{
		{Key: KeyName, Values: "a network's name", Samples: []string{"web", "db"}, Merge: Here, set: setName,
			Help: "binds this Docker network to the cluster's network of that name"},
		{Key: KeyMTU, Values: values, Samples: mtus, Merge: Same, Flag: "mtu", set: setMTU, get: getMTU, fits: fitsMTU, Help: mtu},
		{Key: "com.docker.network.driver.mtu", Values: values, Samples: mtus, Merge: Same, set: setMTU, get: getMTU, Help: mtu},
		{Key: "com.docker.network.container_iface_prefix", Values: fmt.Sprintf("up to %d bytes", maxName-4), Samples: []string{"web", "lan"}, Merge: Each, set: setPrefix,
			get:  func(n Network) string { return n.IfPrefix },
			Help: "begins the names of the interfaces in containers, instead of eth"},
	}
}

// bridgeRows are the options of Docker's bridge driver.
func bridgeRows() []Row[Network] {
	const (
		icc     = "containers of a SocketPlane network always reach each other: put those that must not into networks of their own"
		masq    = "docker_gwbridge masquerades what leaves the host, for all networks: use --internal for a network without a way out"
		mode    = "containers leave the host through docker_gwbridge, by NAT: use --internal for a network without a way out"
		inhibit = "a SocketPlane network has no bridge of its own, and gives that no address: leave it out"
		trusted = "published ports are docker_gwbridge's, which this does not reach: leave it out, and publish ports with -p ADDRESS:PORT:PORT"
		binding = "published ports are docker_gwbridge's, which this does not reach: publish ports with -p ADDRESS:PORT:PORT"
		named   = "a SocketPlane network has no bridge of its own: leave it out"
	)
	var rows []Row[Network]
	add := func(key, values, help string, set func(*Network, string) error) {
		rows = append(rows, Row[Network]{Key: bridge + key, Values: values, Samples: samples(values), Help: help, Merge: Implied, set: set})
	}
	add("enable_icc", onlyTrue, icc, flag[Network](true, icc))
	add("enable_ip_masquerade", onlyTrue, masq, flag[Network](true, masq))
	add("gateway_mode_ipv4", only+"nat", mode, oneOf[Network](mode, "nat", ""))
	add("gateway_mode_ipv6", only+"nat", mode, oneOf[Network](mode, "nat", ""))
	add("inhibit_ipv4", onlyFalse, inhibit, flag[Network](false, inhibit))
	add("trusted_host_interfaces", none, trusted, oneOf[Network](trusted, ""))
	add("host_binding_ipv4", only+"0.0.0.0", binding, oneOf[Network](binding, "0.0.0.0", ""))
	add("name", none, named, oneOf[Network](named))
	add("default_bridge", onlyFalse, named, flag[Network](false, named))
	return rows
}

// otherRows are the options of Docker's other drivers, and of Docker itself.
func otherRows() []Row[Network] {
	const (
		encrypted = "SocketPlane does not encrypt tunnels: keep the underlay among hosts that trust each other, or encrypt below it"
		vxlan     = "the cluster chooses the VXLAN network identifier: leave it out"
		snat      = "docker_gwbridge chooses the address with which containers leave the host: leave it out"
		parent    = "SocketPlane's networks are tunnels between hosts and have no parent interface: use the driver macvlan or ipvlan, or leave it out"
		advertise = "Docker announces a container's addresses that often, on engines since 28.0"
	)
	family := func(which func(*Network) **bool) func(*Network, string) error {
		return func(n *Network, value string) error {
			on, err := strconv.ParseBool(value)
			if err != nil {
				return errors.New("is neither true nor false")
			}
			*which(n) = &on
			return nil
		}
	}
	row := func(key, values, help string, set func(*Network, string) error) Row[Network] {
		return Row[Network]{Key: key, Values: values, Samples: samples(values), Help: help, Merge: Implied, set: set}
	}
	announced := func(key, values string, sample ...string) Row[Network] {
		return Row[Network]{Key: key, Values: values, Samples: sample, Help: advertise, Merge: Each, set: engines[Network]}
	}
	families := func(key string, which func(*Network) **bool, fits func(n Network, v4, v6 bool) error) Row[Network] {
		r := row(key, "as the network's subnets are", "Docker reads it, on engines since 28.0", family(which))
		r.Samples, r.fits = []string{"true", "false"}, fits
		return r
	}
	return []Row[Network]{
		row("encrypted", onlyFalse, encrypted, func(n *Network, value string) error {
			return flag[Network](false, encrypted)(n, cmp.Or(value, "true")) // the overlay driver takes the bare word for yes
		}),
		row("com.docker.network.driver.overlay.vxlanid_list", none, vxlan, oneOf[Network](vxlan)),
		row("com.docker.network.host_ipv4", none, snat, oneOf[Network](snat)),
		row("com.docker.network.host_ipv6", none, snat, oneOf[Network](snat)),
		row("parent", none, parent, oneOf[Network](parent)),
		row("macvlan_mode", none, parent, oneOf[Network](parent)),
		row("ipvlan_mode", none, parent, oneOf[Network](parent)),
		row("ipvlan_flag", none, parent, oneOf[Network](parent)),
		families(keyIPv4, func(n *Network) **bool { return &n.IPv4 }, func(n Network, v4, _ bool) error {
			return fitsFamily(keyIPv4, n.IPv4, v4, "give an IPv4 --subnet", "use --ipv4=false")
		}),
		families(keyIPv6, func(n *Network) **bool { return &n.IPv6 }, func(n Network, _, v6 bool) error {
			return fitsFamily(keyIPv6, n.IPv6, v6, "use --ipv6", "leave out --ipv6")
		}),
		announced("com.docker.network.advertise_addr_nmsgs", "0 to 3", "3", "0"),
		announced("com.docker.network.advertise_addr_ms", "100 to 2000", "200", "2000"),
	}
}

// CheckFamilies says whether the options contradict the families of the network's subnets: one that is asked for and not there, or an MTU that is too
// small for IPv6.
func (n Network) CheckFamilies(v4, v6 bool) error {
	for _, r := range Networks() {
		if r.fits == nil {
			continue
		}
		if err := r.fits(n, v4, v6); err != nil {
			return err
		}
	}
	return nil
}

// fitsMTU refuses an MTU that IPv6 does not allow.
func fitsMTU(n Network, _, v6 bool) error {
	if v6 && n.MTU != 0 && n.MTU < MinMTUIPv6 {
		return fmt.Errorf("-o %s=%d is too small for IPv6, which needs an MTU of %d", KeyMTU, n.MTU, MinMTUIPv6)
	}
	return nil
}

// fitsFamily refuses a family that is asked for and not there, with the cure more, and one that is there and not wanted, with the cure less.
func fitsFamily(key string, asked *bool, has bool, more, less string) error {
	switch {
	case asked == nil || *asked == has:
		return nil
	case *asked:
		return fmt.Errorf("-o %s=true, but the network has no such subnet: %s", key, more)
	}
	return fmt.Errorf("-o %s=false, but the network has such a subnet: %s", key, less)
}
