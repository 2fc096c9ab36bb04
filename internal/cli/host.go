package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/socketplane/socketplane/internal/adminapi"
)

func newHost(d Deps) *cobra.Command {
	cmd := group("host", "List, show and forget hosts")
	cmd.AddCommand(newHostList(d), newHostInspect(d), newHostRemove(d))
	return cmd
}

func newHostList(d Deps) *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{Use: "ls", Aliases: []string{"list"}, Short: "List the cluster's hosts", Args: noArgs,
		Example: "  socketplane host ls\n  socketplane host ls --quiet"}
	bindQuiet(cmd, &quiet, "print names only")
	format := bindFormat(cmd)
	ask := bindAsk(cmd, d)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		info, err := asked(cmd, ask, (*adminapi.Client).Info)
		if err != nil {
			return err
		}
		if info.Store.Error != "" {
			return fmt.Errorf("the hosts are not known at the moment: %s", info.Store.Error)
		}
		if quiet {
			return lines(d.Stdout, info.Hosts, quietHosts(info.Hosts))
		}
		return format.write(d.Stdout, listed("hosts", info.Hosts), func(w io.Writer) error { return columns(w, hostRows(info.Hosts)) })
	}
	return cmd
}

func newHostInspect(d Deps) *cobra.Command {
	cmd := &cobra.Command{
		Use: "inspect HOST", Aliases: []string{"info"}, Short: "Show one host with its containers",
		Example: "  socketplane host inspect host2",
		Args:    someArgs(1, 1, "the host's name or id"),
	}
	format := bindFormat(cmd)
	ask := bindAsk(cmd, d)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		info, err := asked(cmd, ask, (*adminapi.Client).Info)
		if err != nil {
			return err
		}
		h, err := pickHost(info.Hosts, args[0])
		if err != nil {
			return err
		}
		endpoints, err := askedFor(cmd, ask, listTimeout, (*adminapi.Client).Endpoints)
		if err != nil {
			return err
		}
		var its []adminapi.Endpoint
		for _, e := range endpoints {
			if e.HostID == h.ID {
				its = append(its, e)
			}
		}
		shown := struct {
			Schema int `json:"schema"`
			adminapi.Member
			Containers []adminapi.Endpoint `json:"containers"`
		}{adminapi.Schema, h, orEmpty(its)}
		return format.write(d.Stdout, shown, func(w io.Writer) error {
			return hostShown(w, h, its, paletteFor(d.Stdout, d.Env))
		})
	}
	return cmd
}

// pickHost finds a host by its id, its name, or the beginning of its id.
func pickHost(all []adminapi.Member, name string) (adminapi.Member, error) {
	for _, is := range []func(adminapi.Member) bool{
		func(h adminapi.Member) bool { return h.ID == name },
		func(h adminapi.Member) bool { return h.Name == name },
		func(h adminapi.Member) bool { return strings.HasPrefix(h.ID, name) },
	} {
		var found []adminapi.Member
		for _, h := range all {
			if name != "" && is(h) {
				found = append(found, h)
			}
		}
		switch len(found) {
		case 0:
		case 1:
			return found[0], nil
		default:
			return adminapi.Member{}, ambiguous(found, name)
		}
	}
	return adminapi.Member{}, fmt.Errorf("%w: the cluster has no host %s: see 'socketplane host ls'", errNoSuch, name)
}

// ambiguous names the hosts of which one was meant.
func ambiguous(found []adminapi.Member, name string) error {
	var each []string
	for _, h := range found {
		each = append(each, fmt.Sprintf("%s (%s at %s, %s)", h.ID, hostName(h.Name, h.ID), address(h.VTEP), upDown(h.Alive)))
	}
	return fmt.Errorf("%q means %d hosts: %s: give the id of one", name, len(found), strings.Join(each, ", "))
}

// namesakes says of each host in a list, given as name and id, whether another one has its name.
func namesakes[T any](all []T, host func(T) (name, id string)) func(T) bool {
	ids := map[string]string{} // by name; "" for several
	for _, v := range all {
		name, id := host(v)
		if known, seen := ids[name]; seen && known != id {
			id = ""
		}
		ids[name] = id
	}
	return func(v T) bool { name, _ := host(v); return ids[name] == "" }
}

// quietHosts prints what tells each host from the others: its name, or its id where another one has the name.
func quietHosts(all []adminapi.Member) func(adminapi.Member) string {
	twice := namesakes(all, func(h adminapi.Member) (string, string) { return h.Name, h.ID })
	return func(h adminapi.Member) string {
		if twice(h) {
			return h.ID
		}
		return hostName(h.Name, h.ID)
	}
}

func hostShown(w io.Writer, h adminapi.Member, endpoints []adminapi.Endpoint, p palette) error {
	var subnets []string
	for _, s := range h.Subnets {
		subnets = append(subnets, s.String())
	}
	started := "-"
	if !h.Started.IsZero() {
		started = h.Started.UTC().Format(time.RFC3339)
	}
	facts(w, p, []fact{
		{"Host", fmt.Sprintf("%s (id %s)", hostName(h.Name, h.ID), short(h.ID)), ""},
		{"Agent", fmt.Sprintf("%s, version %s, started %s", upDown(h.Alive), either(h.Version, "-"), started), ""},
		{"Tunnel", address(h.VTEP), ""},
		{"Subnets", either(strings.Join(subnets, " "), "-"), ""},
	})
	if len(endpoints) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	return columns(w, endpointTable(endpoints, true))
}

func newHostRemove(d Deps) *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use: "rm HOST...", Aliases: []string{"delete", "remove"}, Short: "Forget hosts that will not come back",
		Long:    "Forget hosts that will not come back: their containers' addresses are free again. The agent of such a host must be down.",
		Example: "  socketplane host rm host2",
		Args:    someArgs(1, -1, "the host's name or id"),
	}
	bindQuiet(cmd, &quiet, "print nothing")
	format := bindFormat(cmd)
	ask := bindAsk(cmd, d)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := ask(cmd)
		if err != nil {
			return err
		}
		return removeEach(d, format, quiet, args, func(name string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
			defer cancel()
			return c.RemoveHost(ctx, name)
		})
	}
	return cmd
}
