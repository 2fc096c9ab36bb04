package netopt

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Endpoint is what the options of a container's endpoint ask for.
type Endpoint struct {
	// IfName is the interface's name in the container, "" for one that Docker makes.
	IfName string
	// Unknown are options of Docker that this version does not know, sorted.
	Unknown []string
}

// docker begins the keys of Docker's own options, by which engines also tell drivers what no user has given.
const docker = "com.docker."

// ParseEndpoint reads an endpoint's options. api is the API version of the host's Docker Engine, "" when it is not known.
// Options of Docker that are not in the table are not refused, as a newer engine may add them to each request; they are listed.
func ParseEndpoint(options map[string]string, api string) (Endpoint, error) {
	var e Endpoint
	known := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(options)) {
		row, is := find(Endpoints(), key)
		switch {
		case !is && strings.HasPrefix(key, docker):
			if _, ofNetwork := find(Networks(), key); ofNetwork {
				return e, fmt.Errorf("driver-opt %s is a network's option: give it to 'docker network create -o'", key)
			}
			e.Unknown = append(e.Unknown, key)
			continue
		case is && row.Since != "" && api != "" && Older(api, row.Since):
			return e, fmt.Errorf("driver-opt %s=%.100q can't be had on this host: its Docker Engine has API %s and ignores it, API %s is needed: "+
				"upgrade Docker, or leave it out", key, options[key], api, row.Since)
		}
		known[key] = options[key]
	}
	return e, parse("driver-opt", Endpoints(), known, &e)
}

// Endpoints are the rows of driver-opt.
func Endpoints() []Row[Endpoint] {
	engine := func(key, help, since string) Row[Endpoint] {
		return Row[Endpoint]{Key: key, Values: only + "Docker's own", Samples: []string{"x"}, Help: help, Merge: Here, Since: since, set: engines[Endpoint]}
	}
	return []Row[Endpoint]{
		{Key: "com.docker.network.endpoint.ifname", Values: fmt.Sprintf("up to %d bytes", maxName), Samples: []string{"web0"}, Merge: Here, Since: "1.56", set: setIfName,
			Help: "the name of the interface in the container"},
		{Key: "com.docker.network.endpoint.sysctls", Values: "settings with IFNAME", Samples: []string{"net.ipv4.conf.IFNAME.log_martians=1"}, Merge: Here, Since: "1.46", set: engines[Endpoint],
			Help: "settings of the interface in the container, which Docker makes"},
		engine("com.docker.network.endpoint.macaddress", "the MAC address; give it with --mac-address", ""),
		engine("com.docker.network.endpoint.exposedports", "the image's ports", ""),
		engine("com.docker.network.endpoint.dnsservers", "the container's name servers", ""),
		engine("com.docker.network.endpoint.name", "the container's name", ""),
		engine("com.docker.network.portmap", "the published ports; give them with -p", ""),
	}
}

// Older compares API versions, which have two numbers. What is no version is not older.
func Older(a, b string) bool {
	x, errX := version(a)
	y, errY := version(b)
	return errX == nil && errY == nil && slices.Compare(x[:], y[:]) < 0
}

func version(text string) (v [2]int, err error) {
	major, minor, ok := strings.Cut(text, ".")
	if !ok {
		return v, errors.New("no API version")
	}
	if v[0], err = strconv.Atoi(major); err != nil {
		return v, err
	}
	v[1], err = strconv.Atoi(minor)
	return v, err
}
