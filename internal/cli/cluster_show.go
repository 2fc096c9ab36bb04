package cli

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/socketplane/socketplane/internal/adminapi"
)

func newClusterStatus(d Deps) *cobra.Command {
	cmd := &cobra.Command{
		Use: "status", Aliases: []string{"info"}, Short: "Show what this host is in which cluster", Args: noArgs,
		Example: "  socketplane cluster status",
	}
	var quiet bool
	bindQuiet(cmd, &quiet, "print the state only")
	format := bindFormat(cmd)
	ask := bindAsk(cmd, d)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := asked(cmd, ask, (*adminapi.Client).Cluster)
		if err != nil {
			return err
		}
		if quiet {
			_, err := fmt.Fprintln(d.Stdout, plain(s.State))
			return err
		}
		return format.write(d.Stdout, clusterShown(s), func(w io.Writer) error {
			facts(w, paletteFor(d.Stdout, d.Env), clusterFacts(s))
			return nil
		})
	}
	return cmd
}

// clusterShown is the JSON form of what this host is in which cluster.
func clusterShown(s adminapi.ClusterStatus) any {
	return struct {
		Schema int `json:"schema"`
		adminapi.ClusterStatus
	}{adminapi.Schema, s}
}

func clusterFacts(s adminapi.ClusterStatus) []fact {
	all := []fact{
		{"Cluster", either(s.ID, "none"), ""},
		{"State", either(s.State, "-"), s.Trouble},
	}
	if s.ID != "" {
		up, voters := 0, 0
		for _, m := range s.Members {
			if m.Alive {
				up++
			}
			if m.Voter {
				voters++
			}
		}
		all = append(all,
			fact{"Role", either(s.Role, "-"), ""},
			fact{"Access", access(s.Locked), ""},
			fact{"Keys", "epoch " + strconv.Itoa(s.Epoch), ""},
			fact{"Servers", fmt.Sprintf("%d, %d of them voting", s.Servers, voters), ""},
			fact{"Members", fmt.Sprintf("%d, %d of them up", len(s.Members), up), ""})
	}
	for _, f := range s.Foreign {
		all = append(all, fact{"Foreign", fmt.Sprintf("%s at %s", short(f.ID), strings.Join(f.Hosts, " ")), foreignTrouble(f)})
	}
	return all
}

// access says who may join, and the command that changes it.
func access(locked bool) string {
	if locked {
		return "locked: a host needs a token ('socketplane cluster token create')"
	}
	return "open: any machine that reaches a host's cluster port becomes a member by asking ('socketplane cluster lock' closes it)"
}

// foreignTrouble says what another cluster means, and what unites the two.
func foreignTrouble(f adminapi.ForeignCluster) string {
	at := "ADDRESS"
	if len(f.Hosts) > 0 {
		at = f.Hosts[0]
	}
	return fmt.Sprintf("clusters do not merge by themselves: 'socketplane cluster leave' and 'socketplane cluster join %s' on each host "+
		"of the smaller one unite them", at)
}

// clusterFact is the line of info.
func clusterFact(c adminapi.ClusterSummary) fact {
	text := c.State
	if c.ID != "" {
		text = fmt.Sprintf("%s, %s (%s), %s", short(c.ID), c.State, either(c.Role, "no role yet"), access(c.Locked))
	}
	f := fact{"Cluster", text, c.Trouble}
	if len(c.Foreign) > 0 {
		f.trouble = strings.TrimPrefix(f.trouble+"; ", "; ") + "another cluster is here, too: see 'socketplane cluster status'"
	}
	return f
}

func newClusterMembers(d Deps) *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{Use: "members", Aliases: []string{"ls", "list"}, Short: "List the cluster's hosts and what they do for it", Args: noArgs,
		Example: "  socketplane cluster members"}
	bindQuiet(cmd, &quiet, "print names only")
	format := bindFormat(cmd)
	ask := bindAsk(cmd, d)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		s, err := asked(cmd, ask, (*adminapi.Client).Cluster)
		switch {
		case err != nil:
			return err
		case len(s.Members) == 0 && s.Trouble != "":
			return fmt.Errorf("the members are not known at the moment: %s", s.Trouble)
		case quiet:
			return lines(d.Stdout, s.Members, func(m adminapi.ClusterMemberInfo) string { return hostName(m.Name, m.ID) })
		}
		return format.write(d.Stdout, listed("members", s.Members), func(w io.Writer) error { return columns(w, memberRows(s.Members)) })
	}
	return cmd
}

// memberRows has 20+2+15+2+11+2+7+2+5+2+12 = 80 columns at most, but for IPv6 addresses, which are shown in full.
func memberRows(all []adminapi.ClusterMemberInfo) [][]string {
	rows := [][]string{{"NAME", "ADDRESS", "ROLE", "STATE", "AGENT", "VERSION"}}
	for _, m := range all {
		role := m.Role
		switch {
		case m.Leader:
			role = "leader"
		case m.Role == adminapi.RoleServer && !m.Voter:
			role = "catching up"
		}
		rows = append(rows, []string{clip(plain(hostName(m.Name, m.ID)), 20), address(m.Addr), plain(role), plain(m.State), upDown(m.Alive),
			either(clip(plain(m.Version), shortLen), "-")})
	}
	return rows
}
