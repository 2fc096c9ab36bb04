package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/version"
)

func newVersion(d Deps) *cobra.Command {
	cmd := &cobra.Command{Use: "version", Short: "Show the version of this program", Args: noArgs,
		Example: "  socketplane version --format json"}
	format := bindFormat(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		shown := struct {
			Schema int `json:"schema"`
			version.Info
		}{adminapi.Schema, d.Version}
		return format.write(d.Stdout, shown, func(w io.Writer) error { return versionTable(w, d.Version) })
	}
	return cmd
}

func versionTable(w io.Writer, v version.Info) error {
	_, err := fmt.Fprintf(w, "socketplane %s (commit %s, %s, %s)\n", v.Version, short(v.Commit), v.Go, v.Platform)
	return err
}
