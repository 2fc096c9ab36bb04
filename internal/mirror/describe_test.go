package mirror_test

import (
	"testing"
	"time"
)

// TestConnectIsTold: who has an endpoint is told soon after Docker has noted it, though its event came before, and without another
// event or pass. One that Docker never notes does not make the agent ask for ever.
func TestConnectIsTold(t *testing.T) {
	for name, late := range map[string]time.Duration{"at once": 0, "late": 300 * time.Millisecond, "later": time.Second} {
		t.Run(name, func(t *testing.T) {
			in(t, 2, func(w *world) {
				w.pass = time.Hour
				all := w.all()
				all[0].creates(ours("web"))
				w.have(all, "web")
				all[1].docker.late = late
				all[1].runs("c", "web")
				w.wantTold("c on h2")
			})
		})
	}
}
