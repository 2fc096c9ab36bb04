package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/socketplane/socketplane/test/lab"
)

// metricsAddr is where agents serve their metrics, in each host.
const metricsAddr = "127.0.0.1:9477"

// hostLook reads in one go what takes effect on a host.
const hostLook = `set -e
ovs-vsctl --timeout=5 --format=json --columns=name,external_ids list Interface; echo ===
ovs-ofctl -OOpenFlow14 --no-stats --names dump-flows socketplane0; echo ===
ip -o -d link show; echo ===
bridge fdb show; echo ===
busybox wget -qO- http://` + metricsAddr + `/metrics | grep '^socketplane_addresses{'; echo ===
`

// look reads the hosts' facts, and adds those of Docker and of the cluster's records.
func (w *world) look(ctx context.Context, r records, docker map[string]map[string]string) (facts, error) {
	have := facts{}
	var mu sync.Mutex
	err := w.each(func(h *lab.Host) error {
		out, err := h.Exec(ctx, "sh", "-c", hostLook)
		if err != nil {
			return err
		}
		parts := strings.Split(out, "===\n")
		if len(parts) != 6 {
			return fmt.Errorf("%s: %q", h.Name, out)
		}
		mu.Lock()
		defer mu.Unlock()
		s := seen{facts: have, host: h.Name}
		if err := s.ports(parts[0]); err != nil {
			return err
		}
		s.flows(parts[1])
		s.links(parts[2])
		s.forwarding(parts[3])
		if m := handedOut.FindStringSubmatch(parts[4]); m != nil {
			have.add("%s has handed out %s addresses", h.Name, m[1])
		}
		for id, name := range docker[h.Name] {
			have.add("docker network %s at %s is %s", id, h.Name, name)
		}
		return nil
	})
	r.facts(have)
	return have, err
}

// seen is what is being read of a host.
type seen struct {
	facts
	host string
	// owner says what a port is for: an endpoint's id, or "tunnel"; network is the id of its network.
	owner, network map[string]string
}

var (
	handedOut = regexp.MustCompile(`state="handed_out"} (\d+)`)
	flowField = regexp.MustCompile(`\b(reg1|in_port|dl_src|dl_dst|nw_src|nw_dst|arp_spa|arp_tpa)=([^, ]+)`)
	flowTable = regexp.MustCompile(`table=(\d+)`)
	flowVNI   = regexp.MustCompile(`\breg0=0x([0-9a-f]+)|set_field:0x([0-9a-f]+)->reg0`)
	flowOut   = regexp.MustCompile(`output:([^, ]+)`)
	flowMAC   = regexp.MustCompile(`set_field:([0-9a-f:]{17})->eth_(?:src|dst)`)
	flowDst   = regexp.MustCompile(`set_field:([0-9.]+)->tun_dst`)
	linkName  = regexp.MustCompile(`^\d+: ([^:@]+)`)
	linkVNI   = regexp.MustCompile(` vxlan id (\d+) `)
	entry     = regexp.MustCompile(`(?m)^(\S+) dev (spx\S+) dst (\S+) `)
)

// ports reads the rows of the switch's database.
func (s *seen) ports(text string) error {
	s.owner, s.network = map[string]string{}, map[string]string{}
	var table struct{ Data [][]json.RawMessage }
	if err := json.Unmarshal([]byte(text), &table); err != nil {
		return fmt.Errorf("ports of %s: %w", s.host, err)
	}
	for _, row := range table.Data {
		var name string
		var wire []json.RawMessage
		var pairs [][2]string
		if len(row) != 2 || json.Unmarshal(row[0], &name) != nil || json.Unmarshal(row[1], &wire) != nil || len(wire) != 2 || json.Unmarshal(wire[1], &pairs) != nil {
			return fmt.Errorf("ports of %s: %s", s.host, row)
		}
		ids := map[string]string{}
		for _, p := range pairs {
			ids[p[0]] = p[1]
		}
		s.network[name] = ids["socketplane-network"]
		switch ids["socketplane"] {
		case "endpoint":
			s.owner[name] = ids["socketplane-endpoint"]
			s.add("port at %s of %s on %s", s.host, s.owner[name], s.network[name])
		case "", "bridge":
		default:
			s.owner[name] = "tunnel"
		}
	}
	return nil
}

// flows reads those of networks; what all networks have in common is compared at the end.
func (s *seen) flows(text string) {
	for line := range strings.Lines(text) {
		m := flowVNI.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		vni, _ := strconv.ParseUint(m[1]+m[2], 16, 32) // as it matched
		match, actions, _ := strings.Cut(strings.TrimSpace(line), " actions=")
		table := "0"
		if m := flowTable.FindStringSubmatch(match); m != nil {
			table = m[1]
		}
		what := []string{"table", table}
		var fields []string
		dst := everybody
		for _, m := range flowField.FindAllStringSubmatch(match, -1) {
			if m[1] == "in_port" {
				m[2] = s.of(m[2])
			}
			if m[1] == "dl_dst" {
				dst = m[2]
			}
			fields = append(fields, m[1]+"="+m[2])
		}
		slices.Sort(fields)
		what = append(append(what, fields...), s.actions(table, actions)...)
		s.add("flow at %s of VNI %d: %s", s.host, vni, strings.Join(what, " "))
		if table == "50" || table == "70" {
			for _, m := range flowDst.FindAllStringSubmatch(actions, -1) {
				s.add("forwarding at %s of VNI %d: %s to %s", s.host, vni, dst, m[1])
			}
		}
	}
}

// actions are the words of what a flow does that an expectation has.
func (s *seen) actions(table, actions string) (words []string) {
	mac := flowMAC.FindStringSubmatch(actions)
	switch table {
	case "30":
		if mac != nil {
			words = append(words, "answered with", mac[1])
		}
	case "50", "60", "70":
		var to []string
		tunnel := false
		for _, m := range flowOut.FindAllStringSubmatch(actions, -1) {
			if who := s.of(m[1]); who == "tunnel" {
				tunnel = true
			} else {
				to = append(to, who)
			}
		}
		slices.Sort(to)
		words = append(append(words, "to"), to...)
		if tunnel {
			words = append(words, "tunnel")
		}
		if mac != nil {
			words = append(words, mac[1])
		}
	}
	return words
}

// of says what a port is for, or its name if nobody knows.
func (s *seen) of(port string) string {
	port = strings.Trim(port, `"`)
	if owner, known := s.owner[port]; known {
		return owner
	}
	return port
}

// links reads the kernel's devices that are named as ours are.
func (s *seen) links(text string) {
	for line := range strings.Lines(text) {
		m := linkName.FindStringSubmatch(line)
		switch {
		case m == nil:
		case strings.HasPrefix(m[1], "sph"), strings.HasPrefix(m[1], "spc"):
			s.add("link at %s of %s", s.host, s.of(m[1]))
		case strings.HasPrefix(m[1], "spx"):
			vni := append(linkVNI.FindStringSubmatch(line), "", "")[1]
			s.add("tunnel at %s of VNI %s on %s", s.host, vni, s.network[m[1]])
			s.network[m[1]] = vni // for its forwarding entries
		}
	}
}

func (s *seen) forwarding(text string) {
	for _, m := range entry.FindAllStringSubmatch(text, -1) {
		s.add("forwarding at %s of VNI %s: %s to %s", s.host, s.network[m[2]], m[1], m[3])
	}
}
