package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/socketplane/socketplane/internal/adminapi"
)

// What a token is good for if nothing is said.
const (
	tokenLifetime = 24 * time.Hour
	tokenUses     = 1
)

// newClusterLock is lock, or unlock.
func newClusterLock(d Deps, locked bool) *cobra.Command {
	cmd := &cobra.Command{Use: "lock", Short: "Close the cluster: hosts need a token to join", Args: noArgs,
		Long: "Close the cluster: from now on a host needs a token to join. The cluster's keys are changed, and hosts that are in stay in,\n" +
			"also those that are down at the moment.",
		Example: "  socketplane cluster lock && socketplane cluster token create"}
	text := "locked: hosts need a token now, which 'socketplane cluster token create' makes"
	if !locked {
		cmd.Use, cmd.Short, cmd.Long = "unlock", "Open the cluster: any machine that reaches a host becomes a member by asking", ""
		cmd.Example = "  socketplane cluster unlock"
		text = "open: any machine that reaches a host's cluster port becomes a member by asking"
	}
	var quiet bool
	bindQuiet(cmd, &quiet, "print nothing")
	format := bindFormat(cmd)
	ask := bindAsk(cmd, d)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		_, err := asked(cmd, ask, func(c *adminapi.Client, ctx context.Context) (struct{}, error) {
			return struct{}{}, c.SetLocked(ctx, locked)
		})
		if err != nil || quiet {
			return err
		}
		// Not the host's status: it has the new keys a moment later.
		shown := struct {
			Schema int  `json:"schema"`
			Locked bool `json:"locked"`
		}{adminapi.Schema, locked}
		return format.write(d.Stdout, shown, func(w io.Writer) error {
			_, err := fmt.Fprintln(w, text)
			return err
		})
	}
	return cmd
}

func newClusterToken(d Deps) *cobra.Command {
	cmd := group("token", "Make, list and remove tokens for hosts that are to join")
	cmd.AddCommand(newTokenCreate(d), newTokenList(d), newTokenRemove(d))
	return cmd
}

func newTokenCreate(d Deps) *cobra.Command {
	var r adminapi.TokenRequest
	cmd := &cobra.Command{
		Use: "create", Short: "Make a token, and print it",
		Long: "Make a token, and print it; it is shown this once. A host joins with 'socketplane cluster join --token-file FILE', or its\n" +
			"agent is started with --join-token-file FILE or " + joinTokenEnv + ".",
		Example: "  socketplane cluster token create\n  socketplane cluster token create --uses 0 --expires 1h > token",
		Args:    noArgs,
	}
	cmd.Flags().DurationVar(&r.Lifetime, "expires", tokenLifetime, "how long it can be used; 0 for ever")
	cmd.Flags().IntVar(&r.Uses, "uses", tokenUses, "how many hosts may join with it; 0 for any number")
	format := bindFormat(cmd)
	ask := bindAsk(cmd, d)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if r.Lifetime < 0 || r.Uses < 0 {
			return &usageError{errors.New("--expires and --uses can't be negative")}
		}
		t, err := asked(cmd, ask, func(c *adminapi.Client, ctx context.Context) (adminapi.Token, error) { return c.CreateToken(ctx, r) })
		if err != nil {
			return err
		}
		shown := struct {
			Schema int `json:"schema"`
			adminapi.Token
		}{adminapi.Schema, t}
		return format.write(d.Stdout, shown, func(w io.Writer) error {
			_, err := fmt.Fprintln(w, t.Text)
			return err
		})
	}
	return cmd
}

func newTokenList(d Deps) *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{Use: "ls", Aliases: []string{"list"}, Short: "List the tokens that can still be used", Args: noArgs,
		Example: "  socketplane cluster token ls"}
	bindQuiet(cmd, &quiet, "print ids only")
	format := bindFormat(cmd)
	ask := bindAsk(cmd, d)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		all, err := asked(cmd, ask, (*adminapi.Client).Tokens)
		if err != nil {
			return err
		}
		if quiet {
			return lines(d.Stdout, all, func(t adminapi.Token) string { return t.ID })
		}
		return format.write(d.Stdout, listed("tokens", all), func(w io.Writer) error { return columns(w, tokenRows(all)) })
	}
	return cmd
}

func tokenRows(all []adminapi.Token) [][]string {
	rows := [][]string{{"TOKEN", "CREATED", "EXPIRES", "USED"}}
	for _, t := range all {
		expires, used := "never", strconv.Itoa(t.Used)
		if !t.Expires.IsZero() {
			expires = t.Expires.UTC().Format(time.RFC3339)
		}
		if t.Uses > 0 {
			used += " of " + strconv.Itoa(t.Uses)
		}
		rows = append(rows, []string{plain(t.ID), t.Created.UTC().Format(time.RFC3339), expires, used})
	}
	return rows
}

func newTokenRemove(d Deps) *cobra.Command {
	var quiet bool
	cmd := &cobra.Command{
		Use: "rm TOKEN...", Aliases: []string{"delete", "remove"}, Short: "Make tokens useless",
		Example: "  socketplane cluster token rm $(socketplane cluster token ls --quiet)",
		Args:    someArgs(1, -1, "the token's id"),
	}
	bindQuiet(cmd, &quiet, "print nothing")
	format := bindFormat(cmd)
	ask := bindAsk(cmd, d)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := ask(cmd)
		if err != nil {
			return err
		}
		return removeEach(d, format, quiet, args, func(id string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
			defer cancel()
			return c.RemoveToken(ctx, id)
		})
	}
	return cmd
}
