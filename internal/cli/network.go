package cli

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/socketplane/socketplane/internal/adminapi"
)

// Pauses and bound of commands that wait until hosts have done what was asked.
const (
	waitEvery   = 100 * time.Millisecond
	waitDefault = 15 * time.Second
)

func newNetwork(d Deps) *cobra.Command {
	cmd := group("network", "Create, list, show and remove networks")
	cmd.AddCommand(newNetworkCreate(d), newNetworkList(d), newNetworkInspect(d), newNetworkRemove(d), newNetworkAttach(d))
	return cmd
}

func newNetworkCreate(d Deps) *cobra.Command {
	var r adminapi.NetworkRequest
	var ranges, gateways, aux, labels []string
	var quiet bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "create NAME [SUBNET...]",
		Short: "Create a network on all hosts",
		Long: "Create a network on all hosts, and wait until they have it. Without a subnet, one that is free is chosen.\n" +
			"Containers use it by its name, with 'docker run --network NAME' or 'socketplane run -n NAME'.",
		Example: "  socketplane network create web\n" +
			"  socketplane network create web 10.2.0.0/16\n" +
			"  socketplane network create --internal --ip-range 10.3.1.0/24 db 10.3.0.0/16 fd00:3::/64",
		Args: someArgs(1, -1, "the network's name"),
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.BoolVar(&r.Internal, "internal", false, "no way out of the network")
	f.BoolVar(&r.IPv6, "ipv6", false, "choose an IPv6 subnet too, if none is given")
	f.StringArrayVar(&ranges, "ip-range", nil, "choose addresses from this part of a subnet")
	f.StringArrayVar(&gateways, "gateway", nil, "gateway of a subnet (default the first address)")
	f.StringArrayVar(&aux, "aux-address", nil, "NAME=ADDRESS that no container gets")
	f.IntVar(&r.MTU, "mtu", 0, "the containers' MTU in bytes (default what the hosts' network allows)")
	f.StringArrayVar(&labels, "label", nil, "NAME=VALUE to keep with the network")
	bindQuiet(cmd, &quiet, "print nothing")
	bindWait(cmd, &wait)
	ask := bindAsk(cmd, d)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		r.Name = args[0]
		if err := fill(&r, args[1:], ranges, gateways, aux, labels); err != nil {
			return &usageError{err}
		}
		c, err := ask(cmd)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
		defer cancel()
		made, err := c.CreateNetwork(ctx, r)
		if err != nil {
			return err
		}
		err = settle(cmd.Context(), d, c, wait, quiet, func(n *adminapi.NetworkDetail) (bool, string) { return everywhere(n) }, made.ID)
		if err == nil && !quiet {
			fmt.Fprintln(d.Stdout, made.Name)
		}
		return err
	}
	return cmd
}

// fill reads the arguments of create.
func fill(r *adminapi.NetworkRequest, subnets, ranges, gateways, aux, labels []string) (err error) {
	if r.Subnets, err = parseAll(subnets, "subnet", netip.ParsePrefix); err != nil {
		return err
	}
	if r.Ranges, err = parseAll(ranges, "range", netip.ParsePrefix); err != nil {
		return err
	}
	if r.Gateways, err = parseAll(gateways, "gateway", netip.ParseAddr); err != nil {
		return err
	}
	if r.Aux, err = pairs(aux, "--aux-address"); err != nil {
		return err
	}
	r.Labels, err = pairs(labels, "--label")
	return err
}

func parseAll[T any](texts []string, what string, parse func(string) (T, error)) ([]T, error) {
	var all []T
	for _, text := range texts {
		v, err := parse(text)
		if err != nil {
			return nil, fmt.Errorf("%q is not a %s", text, what)
		}
		all = append(all, v)
	}
	return all, nil
}

func pairs(texts []string, flag string) (map[string]string, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	all := map[string]string{}
	for _, text := range texts {
		k, v, _ := strings.Cut(text, "=")
		if k == "" {
			return nil, fmt.Errorf("%s %q is not NAME=VALUE", flag, text)
		}
		all[k] = v
	}
	return all, nil
}

// everywhere says whether all hosts that are up have the network, and if not, which have not.
func everywhere(n *adminapi.NetworkDetail) (bool, string) {
	if n == nil {
		return false, "it was removed meanwhile"
	}
	var without []string
	for _, h := range n.Hosts {
		if h.Alive && h.State == "absent" {
			without = append(without, h.Name)
		}
	}
	if len(without) == 0 {
		return true, ""
	}
	return false, "not yet on " + strings.Join(without, ", ")
}

// settle waits until done says so of the network with this id (nil when it is gone), and shows what it waits for.
func settle(ctx context.Context, d Deps, c *adminapi.Client, wait time.Duration, quiet bool,
	done func(*adminapi.NetworkDetail) (bool, string), id string) error {
	if wait == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	line := newProgress(d, quiet)
	defer line.end()
	last := ""
	for {
		all, err := c.Networks(ctx)
		if err == nil {
			var found *adminapi.NetworkDetail
			if i := slices.IndexFunc(all, func(n adminapi.NetworkDetail) bool { return n.ID == id }); i >= 0 {
				found = &all[i]
			}
			ok, why := done(found)
			if ok {
				return nil
			}
			last = why
			line.show(why)
		} else if ctx.Err() == nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %v: %s: 'socketplane network inspect' and 'socketplane doctor' on that host say why", wait, last)
		case <-time.After(waitEvery):
		}
	}
}

func newNetworkList(d Deps) *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{Use: "ls", Aliases: []string{"list"}, Short: "List the cluster's networks", Args: noArgs}
	bindQuiet(cmd, &quiet, "print names only")
	format := bindFormat(cmd)
	ask := bindAsk(cmd, d)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		all, err := asked(cmd, ask, (*adminapi.Client).Networks)
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
		Args: someArgs(1, 1, "the network's name or id"),
	}
	format := bindFormat(cmd)
	ask := bindAsk(cmd, d)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		all, err := asked(cmd, ask, (*adminapi.Client).Networks)
		if err != nil {
			return err
		}
		n, err := pick(all, args[0])
		if err != nil {
			return err
		}
		endpoints, err := asked(cmd, ask, (*adminapi.Client).Endpoints)
		if err != nil {
			return err
		}
		endpoints = slices.DeleteFunc(endpoints, func(e adminapi.Endpoint) bool { return e.NetworkID != n.ID })
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

// pick finds a network by name, id, or the beginning of one network's id.
func pick(all []adminapi.NetworkDetail, name string) (adminapi.NetworkDetail, error) {
	var begun []adminapi.NetworkDetail
	for _, n := range all {
		if n.Name == name || n.ID == name {
			return n, nil
		}
		if strings.HasPrefix(n.ID, name) {
			begun = append(begun, n)
		}
	}
	if len(begun) == 1 {
		return begun[0], nil
	}
	return adminapi.NetworkDetail{}, fmt.Errorf("%w: the cluster has no network %s: see 'socketplane network ls'", errNoSuch, name)
}

func networkShown(w io.Writer, n adminapi.NetworkDetail, endpoints []adminapi.Endpoint, p palette) error {
	var pools []string
	for _, s := range n.Pools {
		pools = append(pools, s.String())
	}
	mtu := "what each host's network allows"
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
		{"MTU", mtu, ""},
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
	facts(w, p, all)
	rows := [][]string{{"HOST", "STATE", "ENDPOINTS", "AGENT"}}
	for _, h := range n.Hosts {
		rows = append(rows, []string{clip(plain(hostName(h.Name, h.ID)), 30), h.State, strconv.Itoa(h.Endpoints), upDown(h.Alive)})
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

// addressTable shows what hosts have of a network's subnets; a dash is what only the host itself knows.
func addressTable(use []adminapi.AddressUse) [][]string {
	rows := [][]string{{"ADDRESSES OF", "HOST", "USED", "STATIC", "RESTING", "SPARE"}}
	for i, u := range use {
		pool := u.Pool.String()
		if i > 0 && use[i-1].Pool == u.Pool {
			pool = ""
		}
		name, static, resting := hostName(u.Name, u.Host), "-", "-"
		if u.Host == "network" {
			name = "all (gateway, auxiliary)"
		}
		if u.Here {
			static, resting = strconv.Itoa(u.Static), strconv.Itoa(u.Resting)
		}
		rows = append(rows, []string{pool, clip(plain(name), 30), strconv.Itoa(u.HandedOut), static, resting, strconv.Itoa(u.Spare)})
	}
	return rows
}

func newNetworkRemove(d Deps) *cobra.Command {
	var quiet bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use: "rm NETWORK...", Aliases: []string{"delete", "remove"}, Short: "Remove networks from all hosts",
		Long: "Remove networks from all hosts, and wait until they are gone. A network that containers use is not removed.",
		Args: someArgs(1, -1, "the network's name or id"),
	}
	bindQuiet(cmd, &quiet, "print nothing")
	bindWait(cmd, &wait)
	ask := bindAsk(cmd, d)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := ask(cmd)
		if err != nil {
			return err
		}
		return eachArg(args, func(name string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
			defer cancel()
			all, err := c.Networks(ctx)
			if err != nil {
				return err
			}
			n, err := pick(all, name)
			if err != nil {
				return err
			}
			if err := c.RemoveNetwork(ctx, n.ID); err != nil {
				return err
			}
			if err := settle(cmd.Context(), d, c, wait, quiet, nowhere, n.ID); err != nil || quiet {
				return err
			}
			_, err = fmt.Fprintln(d.Stdout, name)
			return err
		})
	}
	return cmd
}

// nowhere says whether no host that is up has the network any more, and if not, which have.
func nowhere(n *adminapi.NetworkDetail) (bool, string) {
	if n == nil {
		return true, ""
	}
	var with []string
	for _, h := range n.Hosts {
		if h.Alive && h.State == "present" {
			with = append(with, h.Name)
		}
	}
	return len(with) == 0, "still on " + strings.Join(with, ", ")
}

func newNetworkAttach(d Deps) *cobra.Command {
	var quiet bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use: "attach NETWORK", Short: "Have a network on this host again that was removed here only",
		Long: "Have a network on this host again. A network that other hosts used when 'docker network rm' removed it here stays away\n" +
			"from this host until then.",
		Args: someArgs(1, 1, "the network's name or id"),
	}
	bindQuiet(cmd, &quiet, "print nothing")
	bindWait(cmd, &wait)
	ask := bindAsk(cmd, d)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := ask(cmd)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
		defer cancel()
		if err := c.AttachNetwork(ctx, args[0]); err != nil {
			return err
		}
		info, err := c.Info(ctx)
		if err != nil {
			return err
		}
		all, err := c.Networks(ctx)
		if err != nil {
			return err
		}
		n, err := pick(all, args[0])
		if err != nil {
			return err
		}
		here := func(n *adminapi.NetworkDetail) (bool, string) {
			if n == nil {
				return false, "it was removed meanwhile"
			}
			ok := slices.ContainsFunc(n.Hosts, func(h adminapi.NetworkHost) bool { return h.ID == info.Host.ID && h.State == "present" })
			return ok, "not yet here"
		}
		if err := settle(cmd.Context(), d, c, wait, quiet, here, n.ID); err != nil || quiet {
			return err
		}
		_, err = fmt.Fprintln(d.Stdout, title(n))
		return err
	}
	return cmd
}
