package cli

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

const (
	formatTable = "table"
	formatJSON  = "json"
)

// format is the value of --format; it satisfies pflag's Value, so a wrong one is a flag error before anything runs.
type format string

func (f *format) String() string { return string(*f) }
func (*format) Type() string     { return "table|json" }

func (f *format) Set(v string) error {
	if v != formatTable && v != formatJSON {
		return fmt.Errorf("must be %s or %s", formatTable, formatJSON)
	}
	*f = format(v)
	return nil
}

func bindFormat(cmd *cobra.Command) *format {
	f := format(formatTable)
	cmd.Flags().Var(&f, "format", "form of the output: a table for people, JSON for programs")
	// It fails only for a flag that does not exist, and this one was made a line above.
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(
		[]string{formatTable, formatJSON}, cobra.ShellCompDirectiveNoFileComp))
	return &f
}

// write writes v as JSON, or the table.
func (f *format) write(w io.Writer, v any, table func(io.Writer) error) error {
	if *f == formatTable {
		return table(w)
	}
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
