package pipeline

import (
	"strings"

	"github.com/socketplane/socketplane/ovsctl/openflow"
)

// Text is the flows as ovs-ofctl takes them, one a line in the given order, for
// people and for tests.
func Text(flows []openflow.Flow) string {
	var b strings.Builder
	for _, f := range flows {
		b.WriteString(f.String())
		b.WriteByte('\n')
	}
	return b.String()
}
