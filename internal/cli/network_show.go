package cli

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/socketplane/socketplane/internal/adminapi"
)

func newNetworkList(d Deps) *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{Use: "ls", Aliases: []string{"list"}, Short: "List the cluster's networks", Args: noArgs,
		Example: "  socketplane network ls\n  socketplane network ls --format json"}
	bindQuiet(cmd, &quiet, "print names only")
	format := bindFormat(cmd)
	ask := bindAsk(cmd, d)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		all, err := askedFor(cmd, ask, listTimeout, (*adminapi.Client).Networks)
		if err != nil {
			return err
		}
		if quiet {
			return lines(d.Stdout, all, func(n adminapi.NetworkDetail) string { return title(n) })
		}
		return format.write(d.Stdout, listed("networks", all), func(w io.Writer) error { return columns(w, networkTable(all)) })
	}
	return cmd
}

// networkTable has 24+2+20+2+5+2+9+2+14 = 80 columns at most.
func networkTable(all []adminapi.NetworkDetail) [][]string {
	rows := [][]string{{"NAME", "SUBNET", "HOSTS", "ENDPOINTS", "STATE"}}
	for _, n := range all {
		present := 0
		for _, h := range n.Hosts {
			if h.State == "present" {
				present++
			}
		}
		state := n.State
		switch {
		case n.Trouble != "":
			state = "trouble here"
		case !n.Shared && n.State == "active":
			state = "by hand"
		}
		first, more := "-", []netip.Prefix(nil)
		if len(n.Pools) > 0 {
			first, more = n.Pools[0].String(), n.Pools[1:]
		}
		rows = append(rows, []string{clip(plain(title(n)), 24), first, fmt.Sprintf("%d/%d", present, len(n.Hosts)), strconv.Itoa(n.Endpoints), state})
		for _, p := range more {
			rows = append(rows, []string{"", p.String(), "", "", ""})
		}
	}
	return rows
}

// title is a network's name, or its id if it has none.
func title(n adminapi.NetworkDetail) string {
	if n.Name != "" {
		return n.Name
	}
	return n.ID
}

func newNetworkInspect(d Deps) *cobra.Command {
	cmd := &cobra.Command{
		Use: "inspect NETWORK", Aliases: []string{"info"}, Short: "Show one network with its hosts and containers",
		Example: "  socketplane network inspect web\n  socketplane network inspect web --format json",
		Args:    someArgs(1, 1, "the network's name or id"),
	}
	format := bindFormat(cmd)
	ask := bindAsk(cmd, d)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var endpoints []adminapi.Endpoint
		n, err := askedFor(cmd, ask, listTimeout, func(c *adminapi.Client, ctx context.Context) (n adminapi.NetworkDetail, err error) {
			n, endpoints, err = c.Inspect(ctx, args[0])
			return n, err
		})
		if err != nil {
			return err
		}
		shown := struct {
			Schema int `json:"schema"`
			adminapi.NetworkDetail
			Containers []adminapi.Endpoint `json:"containers"`
		}{adminapi.Schema, n, orEmpty(endpoints)}
		return format.write(d.Stdout, shown, func(w io.Writer) error {
			return networkShown(w, n, endpoints, paletteFor(d.Stdout, d.Env))
		})
	}
	return cmd
}

// network asks for one network, given by name, id, or the beginning of one network's id.
func network(cmd *cobra.Command, ask asker, name string) (adminapi.NetworkDetail, error) {
	return asked(cmd, ask, func(c *adminapi.Client, ctx context.Context) (adminapi.NetworkDetail, error) {
		return c.Network(ctx, name)
	})
}

func networkShown(w io.Writer, n adminapi.NetworkDetail, endpoints []adminapi.Endpoint, p palette) error {
	var pools []string
	for _, s := range n.Pools {
		pools = append(pools, s.String())
	}
	mtu := "what every host can carry"
	if n.ContainerMTU != 0 {
		mtu += ", now " + strconv.Itoa(n.ContainerMTU)
	}
	if n.MTU != 0 {
		mtu = strconv.Itoa(n.MTU)
	}
	kind := "on all hosts"
	if !n.Shared {
		kind = "made by hand on each host"
	}
	all := []fact{
		{"Network", fmt.Sprintf("%s (id %s)", title(n), short(n.ID)), ""},
		{"State", n.State + ", " + kind, n.Trouble},
		{"Subnets", strings.Join(pools, ", "), ""},
		{"VNI", strconv.Itoa(int(n.VNI)), ""},
		{"MTU", mtu, strings.Join(n.MTUNotes, "; ")},
		{"Internal", strconv.FormatBool(n.Internal), ""},
	}
	for _, list := range []struct {
		name string
		of   map[string]string
	}{{"Options", n.Options}, {"Labels", n.Labels}} {
		if len(list.of) > 0 {
			all = append(all, fact{list.name, joined(list.of), ""})
		}
	}
	if n.Note != "" {
		all = append(all, fact{"Note", n.Note, ""})
	}
	facts(w, p, all)
	rows := [][]string{{"HOST", "STATE", "ENDPOINTS", "AGENT"}}
	twice := namesakes(n.Hosts, func(h adminapi.NetworkHost) (string, string) { return h.Name, h.ID })
	for _, h := range n.Hosts {
		name := clip(plain(hostName(h.Name, h.ID)), 30)
		if twice(h) {
			name = clip(plain(h.Name), 15) + " " + short(h.ID)
		}
		rows = append(rows, []string{name, h.State, strconv.Itoa(h.Endpoints), upDown(h.Alive)})
	}
	fmt.Fprintln(w)
	if err := columns(w, rows); err != nil {
		return err
	}
	if len(n.Addresses) > 0 {
		fmt.Fprintln(w)
		if err := columns(w, addressTable(n.Addresses)); err != nil {
			return err
		}
	}
	if len(endpoints) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	return columns(w, endpointTable(endpoints, false))
}

// addressTable shows what hosts have of a network's subnets; what is the network's own is neither static nor at rest.
func addressTable(use []adminapi.AddressUse) [][]string {
	rows := [][]string{{"ADDRESSES OF", "HOST", "USED", "STATIC", "RESTING", "SPARE"}}
	for i, u := range use {
		pool := u.Pool.String()
		if i > 0 && use[i-1].Pool == u.Pool {
			pool = ""
		}
		name, static, resting := hostName(u.Name, u.Host), strconv.Itoa(u.Static), strconv.Itoa(u.Resting)
		switch u.Host {
		case adminapi.UseNetwork:
			name, static, resting = "all (gateway, auxiliary)", "-", "-"
		case adminapi.UseSwarm:
			name, static, resting = "all (tasks of Swarm)", "-", "-"
		}
		rows = append(rows, []string{pool, clip(plain(name), 30), strconv.Itoa(u.HandedOut), static, resting, strconv.Itoa(u.Spare)})
	}
	return rows
}
