package cli

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/socketplane/socketplane/internal/adminapi"
)

// askTimeout is above the time in which an agent must answer, so that its own words are seen.
const askTimeout = 10 * time.Second

const adminSocketFlag = "admin-socket"

func newInfo(d Deps) *cobra.Command {
	cmd := &cobra.Command{
		Use: "info [CONTAINER]", Short: "Show how the agent of this host does, or a container's networks",
		Example: "  socketplane info\n  socketplane info web-1",
		Args:    someArgs(0, 1, ""),
	}
	ask := bindAsk(cmd, d)
	format := bindFormat(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 1 {
			return containerInfo(cmd, d, ask, format, args[0])
		}
		cfg, err := loadSettings(cmd, d, adminSocketFlag)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
		defer cancel()
		info, err := adminapi.NewClient(cfg.AdminSocket).Info(ctx)
		if err != nil {
			return err
		}
		return format.write(d.Stdout, info, func(w io.Writer) error {
			return infoTable(w, info, paletteFor(d.Stdout, d.Env))
		})
	}
	return cmd
}

func infoTable(w io.Writer, i adminapi.Info, p palette) error {
	facts(w, p, infoFacts(i))
	if len(i.Networks) > 0 {
		fmt.Fprintln(w)
		if err := columns(w, networkRows(i.Networks)); err != nil {
			return err
		}
	}
	if len(i.Hosts) > 0 {
		fmt.Fprintln(w)
		return columns(w, hostRows(i.Hosts))
	}
	return nil
}

// fact is one line of the head of the table; trouble is shown below it.
type fact struct{ name, value, trouble string }

func infoFacts(i adminapi.Info) []fact {
	store := i.Store.Kind
	if i.Store.Address != "" {
		store += " at " + i.Store.Address
	}
	if i.Store.Alone {
		store += "; this host is alone"
	}
	all := []fact{
		{"Agent", fmt.Sprintf("%s (commit %s, %s)", i.Version, short(i.Commit), i.Go), i.Trouble},
		{"Started", i.Started.UTC().Format(time.RFC3339), ""},
		{"Host", fmt.Sprintf("%s (id %s)", i.Host.Name, short(i.Host.ID)), ""},
		{"Underlay", underlay(i.Host), ""},
		{"Store", store, i.Store.Error},
	}
	if i.Cluster != nil {
		all = append(all, clusterFact(*i.Cluster))
	}
	return append(all, []fact{
		{"Switch", ovs(i.OVS), i.OVS.Error},
		{"Networks", strconv.Itoa(len(i.Networks)), ""},
		{"Hosts", hostCount(i.Hosts), ""},
	}...)
}

func underlay(h adminapi.Host) string {
	if !h.VTEP.IsValid() {
		return "not known yet"
	}
	parts := []string{h.VTEP.String()}
	if h.Underlay != "" {
		parts = append(parts, "on "+h.Underlay)
	}
	if h.MTU > 0 {
		parts = append(parts, fmt.Sprintf("with MTU %d", h.MTU))
		if h.ContainerMTU > 0 {
			parts = append(parts, fmt.Sprintf("(containers get %d)", h.ContainerMTU))
		}
	}
	return strings.Join(parts, " ")
}

func ovs(o adminapi.OVS) string {
	if o.Datapath == "" {
		return "not known yet"
	}
	s := "Open vSwitch"
	if o.Version != "" { // written into the database by the distribution's start script, not by the switch
		s += " " + o.Version
	}
	s += fmt.Sprintf(", datapath %s, tunnel %s, bridge %s", o.Datapath, o.Tunnel, o.Bridge)
	if o.TSO {
		s += ", TSO in user space"
	}
	return s
}

func hostCount(hosts []adminapi.Member) string {
	down := 0
	for _, h := range hosts {
		if !h.Alive {
			down++
		}
	}
	if down > 0 {
		return fmt.Sprintf("%d, %d with its agent down", len(hosts), down)
	}
	return strconv.Itoa(len(hosts))
}

// nameWidth is that of the column of names: "Networks" and two spaces.
const nameWidth = 10

func facts(w io.Writer, p palette, all []fact) {
	for _, f := range all {
		name := f.name
		for _, line := range wrap(plain(f.value), lineWidth-nameWidth) {
			fmt.Fprintf(w, "%-*s%s\n", nameWidth, name, line)
			name = ""
		}
		if f.trouble == "" {
			continue
		}
		for _, line := range wrap(plain("error: "+f.trouble), lineWidth-nameWidth) {
			fmt.Fprintf(w, "%*s%s\n", nameWidth, "", p.bad(line))
		}
	}
}

// networkRows has 12+2+18+2+8+2+18+2+9+2+5 = 80 columns at most; an IPv6 pool, which is longer, is shown in
// full all the same: half an address helps nobody.
func networkRows(nets []adminapi.Network) [][]string {
	rows := [][]string{{"NETWORK", "NAME", "VNI", "POOL", "ENDPOINTS", "PEERS"}}
	for _, n := range nets {
		pools := n.Pools
		first := "-"
		if len(pools) > 0 {
			first, pools = pools[0].String(), pools[1:]
		}
		rows = append(rows, []string{plain(short(n.ID)), named(n.Name), strconv.Itoa(int(n.VNI)), first,
			strconv.Itoa(n.Endpoints), strconv.Itoa(n.Peers)})
		for _, more := range pools {
			rows = append(rows, []string{"", "", "", more.String(), "", ""})
		}
	}
	return rows
}

func hostRows(hosts []adminapi.Member) [][]string {
	rows := [][]string{{"HOST", "NAME", "TUNNEL ADDRESS", "AGENT"}}
	for _, h := range hosts {
		state := "up"
		if !h.Alive {
			state = "down"
		}
		rows = append(rows, []string{plain(short(h.ID)), named(h.Name), address(h.VTEP), state})
	}
	return rows
}

// named clips a name to a column's width.
func named(name string) string {
	if name == "" {
		return "-"
	}
	return clip(plain(name), 18)
}

func address(a netip.Addr) string {
	if !a.IsValid() {
		return "-"
	}
	return a.String()
}
