package onehost

import (
	"strings"
	"testing"
)

// TestStopIsNoTrouble: an agent that is told to end complains of nothing.
func TestStopIsNoTrouble(t *testing.T) {
	h := newHost(t)
	h.start()
	ctx := h.Deadline(patience)
	n, err := h.Docker().Network(ctx, id("net", 1), "10.1.0.0/24", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Join(ctx, id("ep", 1), mac(1)); err != nil {
		t.Fatal(err)
	}
	before := len(h.log())
	h.stop()
	said := h.log()[before:]
	if strings.Contains(said, "level=ERROR") || strings.Contains(said, "level=WARN") {
		t.Errorf("at its end the agent says:\n%s", said)
	}
}
