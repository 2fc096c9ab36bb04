package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/socketplane/socketplane/internal/adminapi"
)

// newClusterLayout shows or sets how the cluster's records are laid out.
func newClusterLayout(d Deps) *cobra.Command {
	cmd := &cobra.Command{Use: "layout [NUMBER]", Short: "Show or set how the cluster's records are laid out",
		Long: "Show or set how the cluster's records are laid out.\n\n" +
			"A newer layout comes into use by itself when the agents of all hosts have known it for a day, also those of hosts that are\n" +
			"down. A number sets it at once. An older one stays until another is set: before agents are replaced by those of a former\n" +
			"release, set the layout that these know.",
		Example: "  socketplane cluster layout\n  socketplane cluster layout 1",
		Args:    cobra.MaximumNArgs(1)}
	format := bindFormat(cmd)
	ask := bindAsk(cmd, d)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		wanted := 0
		if len(args) > 0 {
			var err error
			if wanted, err = strconv.Atoi(args[0]); err != nil {
				return &usageError{fmt.Errorf("%q is not the number of a layout", args[0])}
			}
		}
		s, err := asked(cmd, ask, func(c *adminapi.Client, ctx context.Context) (adminapi.LayoutStatus, error) {
			if len(args) > 0 {
				if err := c.SetLayout(ctx, wanted); err != nil {
					return adminapi.LayoutStatus{}, err
				}
			}
			return c.Layout(ctx)
		})
		if err != nil {
			return err
		}
		shown := struct {
			Schema int `json:"schema"`
			adminapi.LayoutStatus
		}{adminapi.Schema, s}
		return format.write(d.Stdout, shown, func(w io.Writer) error {
			_, err := fmt.Fprintln(w, layoutText(s))
			return err
		})
	}
	return cmd
}

// layoutText says which layout is used, and what keeps the newest from it.
func layoutText(s adminapi.LayoutStatus) string {
	switch {
	case len(s.Unsettled) > 0:
		return fmt.Sprintf("layout %d; agents of the former release do not see the containers of %s yet: replace no agent before these hosts have followed",
			s.Layout, strings.Join(s.Unsettled, ", "))
	case s.Layout >= s.Newest:
		return fmt.Sprintf("layout %d, the newest that this agent knows", s.Layout)
	case len(s.Older) > 0:
		return fmt.Sprintf("layout %d; layout %d waits for the agents of %s", s.Layout, s.Newest, strings.Join(s.Older, ", "))
	case s.Pinned:
		return fmt.Sprintf("layout %d, set by an operator; 'socketplane cluster layout %d' sets the newest", s.Layout, s.Newest)
	case s.Due != nil:
		return fmt.Sprintf("layout %d; layout %d comes into use at %s, or at once by 'socketplane cluster layout %d'",
			s.Layout, s.Newest, s.Due.UTC().Format(time.RFC3339), s.Newest)
	}
	return fmt.Sprintf("layout %d; layout %d comes into use when the agents of all hosts have known it for a day", s.Layout, s.Newest)
}
