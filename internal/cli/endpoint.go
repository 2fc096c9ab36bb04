package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/socketplane/socketplane/internal/adminapi"
)

func newEndpoint(d Deps) *cobra.Command {
	cmd := group("endpoint", "List the containers on networks")
	cmd.AddCommand(newEndpointList(d))
	return cmd
}

func newEndpointList(d Deps) *cobra.Command {
	var quiet bool
	var network string
	cmd := &cobra.Command{Use: "ls", Aliases: []string{"list"}, Short: "List the containers on networks, of all hosts", Args: noArgs,
		Example: "  socketplane endpoint ls\n  socketplane endpoint ls -n web --format json"}
	cmd.Flags().StringVarP(&network, "network", "n", "", "of this network only, given by name or id")
	bindQuiet(cmd, &quiet, "print endpoint ids only")
	format := bindFormat(cmd)
	ask := bindAsk(cmd, d)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		all, err := askedFor(cmd, ask, listTimeout, func(c *adminapi.Client, ctx context.Context) ([]adminapi.Endpoint, error) {
			return c.EndpointsOn(ctx, network)
		})
		if err != nil {
			return err
		}
		if quiet {
			return lines(d.Stdout, all, func(e adminapi.Endpoint) string { return e.ID })
		}
		return format.write(d.Stdout, listed("endpoints", all), func(w io.Writer) error { return columns(w, endpointTable(all, true)) })
	}
	return cmd
}

// endpointTable has 18+2+14+2+12+2+15+2+13 = 80 columns at most with IPv4; an IPv6 address, which is longer, has a line to
// itself, and is shown in full all the same.
func endpointTable(all []adminapi.Endpoint, network bool) [][]string {
	head := []string{"CONTAINER", "NETWORK", "HOST", "ADDRESS", "ENDPOINT"}
	if !network {
		head = []string{"CONTAINER", "HOST", "ADDRESS", "MAC", "ENDPOINT"}
	}
	rows := [][]string{head}
	hosts := hostColumn(all)
	for _, e := range all {
		addrs := []string{"-"}
		if len(e.Addrs) > 0 {
			addrs = addrs[:0]
			for _, a := range e.Addrs {
				addrs = append(addrs, a.String())
			}
		}
		name, host := named(e.Container), hosts(e)
		row := []string{name, clip(plain(either(e.Network, short(e.NetworkID))), 14), host, addrs[0], short(e.ID)}
		if !network {
			row = []string{clip(name, 16), host, addrs[0], e.MAC, short(e.ID)}
		}
		rows = append(rows, row)
		for _, more := range addrs[1:] {
			next := make([]string, len(head))
			next[slices.Index(head, "ADDRESS")] = more
			rows = append(rows, next)
		}
	}
	return rows
}

// hostColumn shows the host's name, or its id where another host in the table has that name.
func hostColumn(all []adminapi.Endpoint) func(adminapi.Endpoint) string {
	twice := namesakes(all, func(e adminapi.Endpoint) (string, string) { return e.Host, e.HostID })
	return func(e adminapi.Endpoint) string {
		if twice(e) {
			return short(e.HostID)
		}
		return clip(plain(hostName(e.Host, e.HostID)), 12)
	}
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// containerInfo shows the endpoints of one container, given by its name or the beginning of its id.
func containerInfo(cmd *cobra.Command, d Deps, ask asker, f *format, name string) error {
	all, err := askedFor(cmd, ask, listTimeout, (*adminapi.Client).Endpoints)
	if err != nil {
		return err
	}
	its := slices.DeleteFunc(slices.Clone(all), func(e adminapi.Endpoint) bool { return e.Container != name })
	if len(its) == 0 { // a name such as db may begin another one's id
		its = slices.DeleteFunc(all, func(e adminapi.Endpoint) bool { return e.ContainerID == "" || !strings.HasPrefix(e.ContainerID, name) })
	}
	if len(its) == 0 {
		return fmt.Errorf("%w: no container %s is on a network of SocketPlane: see 'socketplane endpoint ls'", errNoSuch, name)
	}
	return f.write(d.Stdout, listed("endpoints", its), func(w io.Writer) error {
		for i, e := range its {
			if i > 0 {
				fmt.Fprintln(w)
			}
			var addrs []string
			for _, a := range e.Addrs {
				addrs = append(addrs, a.String())
			}
			facts(w, paletteFor(d.Stdout, d.Env), []fact{
				{"Container", fmt.Sprintf(" %s (id %s)", e.Container, short(e.ContainerID)), ""},
				{"Network", either(e.Network, e.NetworkID), ""},
				{"Host", hostName(e.Host, e.HostID), ""},
				{"Address", strings.Join(addrs, ", "), ""},
				{"MAC", e.MAC, ""},
				{"Aliases", either(strings.Join(e.Aliases, ", "), "-"), ""},
				{"Labels", either(joined(e.Labels), "-"), ""},
			})
		}
		return nil
	})
}
