package cli_test

import (
	"strings"
	"testing"

	"github.com/socketplane/socketplane/internal/cli"
	"github.com/socketplane/socketplane/internal/netopt"
)

// TestOptionsOfNetworks: the command line knows each option of networks as its row has it: a shell is offered those that do something, with their help; those with a
// flag have it in the command's help, the flag asks for the same as --opt, and refuses what the row refuses.
func TestOptionsOfNetworks(t *testing.T) {
	offered := operated(t, busy(), "__complete", "network", "create", "-o", "").stdout
	help := operated(t, busy(), "network", "create", "--help").stdout
	flags := 0
	for _, row := range netopt.Networks() {
		offers := row.Does() && row.Key != netopt.KeyName // the name is an argument
		if is := strings.Contains("\n"+offered, "\n"+row.Key+"=\t"+row.Help+"\n"); is != offers {
			t.Errorf("%s is offered: %v, want %v", row.Key, is, offers)
		}
		for _, value := range row.Samples {
			c := busy()
			if got := operated(t, c, "network", "create", "-o", row.Key+"="+value, "db"); got.code != 0 || len(c.requests) != 1 || c.requests[0].Options[row.Key] != value {
				t.Errorf("-o %s=%s: %+v, %+v", row.Key, value, got, c.requests)
			}
		}
		if row.Flag == "" {
			continue
		}
		flags++
		if !strings.Contains(help, "--"+row.Flag+" ") || !strings.Contains(help, row.Help) {
			t.Errorf("--%s is not in the help:\n%s", row.Flag, help)
		}
		c := busy()
		if got := operated(t, c, "network", "create", "--"+row.Flag, row.Samples[0], "db"); got.code != 0 || len(c.requests) != 1 || c.requests[0].Options[row.Key] != row.Samples[0] {
			t.Errorf("--%s: %+v, %+v", row.Flag, got, c.requests)
		}
		for _, args := range [][]string{
			{"--" + row.Flag, "no such value", "db"},
			{"--" + row.Flag, row.Samples[0], "-o", row.Key + "=" + row.Samples[1], "db"},
		} {
			if got := operated(t, busy(), append([]string{"network", "create"}, args...)...); got.code != cli.ExitUsage || !strings.Contains(got.stderr, row.Flag) {
				t.Errorf("%q: %+v", args, got)
			}
		}
	}
	if flags == 0 {
		t.Error("no option has a flag")
	}
}
