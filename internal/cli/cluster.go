package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/socketplane/socketplane/internal/adminapi"
)

// clusterWait is how long join and leave wait: a server that catches up, or one that takes over, needs its seconds.
const clusterWait = time.Minute

// joinTokenEnv is the variable that the agent reads too.
const joinTokenEnv = "SOCKETPLANE_JOIN_TOKEN"

// maxToken is the largest token file that is read, in bytes.
const maxToken = 4096

func newCluster(d Deps) *cobra.Command {
	cmd := group("cluster", "Show, join, leave and lock the cluster that hosts form")
	cmd.Long = "Show, join, leave and lock the cluster that hosts form by themselves.\n\n" +
		"Hosts of one network segment find each other and need none of these commands. Where multicast does not reach,\n" +
		"'join' or the agent's --join names a host of the cluster. A host with a Consul of its user's has no such cluster."
	cmd.AddCommand(newClusterStatus(d), newClusterMembers(d), newClusterInit(d), newClusterJoin(d), newClusterLeave(d),
		newClusterLock(d, true), newClusterLock(d, false), newClusterToken(d), newClusterLayout(d), newClusterBind())
	return cmd
}

func newClusterInit(d Deps) *cobra.Command {
	var r adminapi.InitRequest
	cmd := &cobra.Command{
		Use: "init", Short: "Found a cluster on this host, without listening for others",
		Long: "Found a cluster on this host, without listening for others. Agents do it by themselves when they hear none; this is for a\n" +
			"host that has left its cluster, and for one that is to have a locked cluster from the start.",
		Example: "  socketplane cluster init\n  socketplane cluster init --locked && socketplane cluster token create",
		Args:    noArgs,
	}
	cmd.Flags().BoolVar(&r.Locked, "locked", false, "hosts need a token to join, from the start")
	change := bindChange(cmd, d)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return change.run(cmd, hasJoined, func(ctx context.Context, c *adminapi.Client) error {
			return c.InitCluster(ctx, r)
		})
	}
	return cmd
}

func newClusterJoin(d Deps) *cobra.Command {
	var tokenFile string
	cmd := &cobra.Command{
		Use: "join [ADDRESS...]", Short: "Join the cluster of other hosts",
		Long: "Join the cluster of other hosts, given by address (HOST or HOST:PORT, of any of its hosts), or the one that this host hears.\n" +
			"The networks of this host come along; if a name or a subnet is taken there, nothing is changed and all that collide are named.\n" +
			"A locked cluster needs a token, from a file or from " + joinTokenEnv + ": command lines are readable by every user of a host.",
		Example: "  socketplane cluster join\n" +
			"  socketplane cluster join 192.0.2.11\n" +
			"  ssh alpha socketplane cluster token create | socketplane cluster join --token-file - alpha",
	}
	cmd.Flags().StringVar(&tokenFile, "token-file", "", "read the token from this file; - for standard input")
	change := bindChange(cmd, d)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		token, err := readToken(cmd, d, tokenFile)
		if err != nil {
			return err
		}
		return change.run(cmd, hasJoined, func(ctx context.Context, c *adminapi.Client) error {
			return c.JoinCluster(ctx, adminapi.JoinRequest{Addresses: args, Token: token})
		})
	}
	return cmd
}

// readToken reads a token from a file, standard input or the environment.
func readToken(cmd *cobra.Command, d Deps, file string) (string, error) {
	if file == "" {
		text, _ := d.Env(joinTokenEnv)
		return strings.TrimSpace(text), nil
	}
	in := cmd.InOrStdin()
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("the token can't be read: %w", err)
		}
		defer f.Close()
		in = f
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxToken))
	if err != nil {
		return "", fmt.Errorf("the token can't be read: %w", err)
	}
	text := strings.TrimSpace(string(raw))
	if text == "" {
		return "", fmt.Errorf("there is no token in %s: 'socketplane cluster token create' on a host of the cluster prints one", file)
	}
	return text, nil
}

func newClusterLeave(d Deps) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "leave", Short: "Leave the cluster",
		Long: "Leave the cluster: another host takes over what this one did for it, and this host's records and addresses go. It is refused\n" +
			"while containers of this host use the cluster's networks, or when the others could not go on without it.\n" +
			"Afterwards the host is alone until 'socketplane cluster join' or 'init'.",
		Example: "  socketplane cluster leave",
		Args:    noArgs,
	}
	cmd.Flags().BoolVar(&force, "force", false, "leave whatever containers use, and even if the others can't be asked")
	change := bindChange(cmd, d)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return change.run(cmd, hasLeft, func(ctx context.Context, c *adminapi.Client) error {
			return c.LeaveCluster(ctx, force)
		})
	}
	return cmd
}

// change is what commands that change this host's membership have in common.
type change struct {
	d      Deps
	ask    asker
	quiet  bool
	wait   time.Duration
	format *format
}

func bindChange(cmd *cobra.Command, d Deps) *change {
	c := &change{d: d}
	bindQuiet(cmd, &c.quiet, "print nothing")
	cmd.Flags().DurationVar(&c.wait, "wait", clusterWait, "wait so long until it is done; 0 does not wait")
	c.format, c.ask = bindFormat(cmd), bindAsk(cmd, d)
	return c
}

// verdict says of a status whether what was asked for is done (with a sentence), goes on ("", nil), or has failed.
type verdict func(adminapi.ClusterStatus) (done string, err error)

func hasJoined(s adminapi.ClusterStatus) (string, error) {
	switch {
	case s.State == adminapi.ClusterMember && s.Trouble == "":
		return fmt.Sprintf("member of cluster %s as a %s", short(s.ID), s.Role), nil
	case s.State == adminapi.ClusterAlone:
		return "", errors.New(either(s.Trouble, "this host is alone again: the agent's log says why"))
	}
	return "", nil
}

func hasLeft(s adminapi.ClusterStatus) (string, error) {
	switch s.State {
	case adminapi.ClusterAlone, adminapi.ClusterForming:
		return "this host is in no cluster", nil
	case adminapi.ClusterMember:
		return "", errors.New(either(s.Trouble, "this host is a member again: the agent's log says why"))
	}
	return "", nil
}

// run asks for a change of this host's membership, waits until the verdict is there, and tells it; as JSON, what this host is in which cluster then.
func (c *change) run(cmd *cobra.Command, judge verdict, begin func(context.Context, *adminapi.Client) error) error {
	client, err := c.ask(cmd)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
	err = begin(ctx, client)
	cancel()
	if err != nil {
		return err
	}
	if c.wait == 0 {
		if c.quiet || *c.format != formatJSON {
			return nil
		}
		return c.tell(cmd, client)
	}
	text, s, err := follow(cmd.Context(), client, c.wait, newProgress(c.d, c.quiet), judge)
	if err != nil || c.quiet {
		return err
	}
	return c.format.write(c.d.Stdout, clusterShown(s), func(w io.Writer) error {
		_, err := fmt.Fprintln(w, text)
		return err
	})
}

// tell writes as JSON what this host is now.
func (c *change) tell(cmd *cobra.Command, client *adminapi.Client) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
	defer cancel()
	s, err := client.Cluster(ctx)
	if err != nil {
		return err
	}
	return c.format.write(c.d.Stdout, clusterShown(s), nil)
}

// follow asks how far the agent is until the verdict is there, and shows it.
func follow(ctx context.Context, c *adminapi.Client, wait time.Duration, line *progress, judge verdict) (string, adminapi.ClusterStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	defer line.end()
	last := "the agent has not said how far it is"
	for {
		s, err := c.Cluster(ctx)
		if err != nil && ctx.Err() == nil {
			return "", s, err
		}
		if err == nil {
			if done, err := judge(s); done != "" || err != nil {
				return done, s, err
			}
			last = either(s.State, "beginning")
			if s.Trouble != "" {
				last += ": " + s.Trouble
			}
			line.show(last)
		}
		select {
		case <-ctx.Done():
			return "", s, fmt.Errorf("after %v not done yet, but it goes on (%s): see 'socketplane cluster status'", wait, last)
		case <-time.After(waitEvery):
		}
	}
}

// newClusterBind answers a command that the first SocketPlane had.
func newClusterBind() *cobra.Command {
	return &cobra.Command{
		Use: "bind IFACE", Short: "Replaced by the agent's --advertise", Hidden: true,
		Args: someArgs(1, 1, "the interface"),
		RunE: func(_ *cobra.Command, args []string) error {
			return &usageError{fmt.Errorf("'cluster bind' is no more: start the agent with --advertise and the address of %s, "+
				"or set SOCKETPLANE_ADVERTISE", plain(args[0]))}
		},
	}
}
