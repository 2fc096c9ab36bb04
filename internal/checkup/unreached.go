package checkup

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/socketplane/socketplane/internal/dataplane/ovs"
	"github.com/socketplane/socketplane/internal/netview"
)

// Unreached says, a line for each network, how many other hosts its broadcasts do not reach. networks has their names.
func Unreached(st ovs.Status, networks func() []netview.Network) []string {
	if len(st.Unreached) == 0 {
		return nil
	}
	names := map[string]string{}
	for _, n := range networks() {
		names[n.ID] = n.Name
	}
	var lines []string
	for id, hosts := range st.Unreached {
		lines = append(lines, fmt.Sprintf("broadcasts of network %s do not reach %d of its hosts", cmp.Or(names[id], id), hosts))
	}
	slices.Sort(lines)
	return lines
}
