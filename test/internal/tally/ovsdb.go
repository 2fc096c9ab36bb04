package tally

import (
	"encoding/json"
	"io"
	"net"
	"testing"
)

// OVSDB counts what passes to Open vSwitch's database (RFC 7047): "transactions", "operations" in them, "writes" among these (insert, update,
// mutate, delete), "monitors", "updates" that the database sends, and their "update bytes".
func OVSDB(t testing.TB, l net.Listener, to Dial) *Counter {
	c := &Counter{}
	stream(t, l, to, func() (asked, answered io.Writer) { return c.values(t, c.dbAsked), c.values(t, c.dbAnswered) })
	return c
}

// rpc is what both directions have in common.
type rpc struct {
	Method string            `json:"method"`
	Params []json.RawMessage `json:"params"`
}

func (c *Counter) dbAsked(m rpc, _ int64) {
	switch m.Method {
	case "transact":
		c.add("transactions", 1)
		for i, p := range m.Params {
			var op struct {
				Op string `json:"op"`
			}
			if i == 0 || json.Unmarshal(p, &op) != nil { // the first is the database's name
				continue
			}
			c.add("operations", 1)
			switch op.Op {
			case "insert", "update", "mutate", "delete":
				c.add("writes", 1)
			}
		}
	case "monitor", "monitor_cond", "monitor_cond_since":
		c.add("monitors", 1)
	}
}

func (c *Counter) dbAnswered(m rpc, bytes int64) {
	switch m.Method {
	case "update", "update2", "update3":
		c.add("updates", 1)
		c.add("update bytes", bytes)
	}
}

// values reads a stream of JSON values; each gets them with their size in bytes.
func (c *Counter) values(t testing.TB, each func(m rpc, bytes int64)) io.Writer {
	r, w := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		d, at := json.NewDecoder(r), int64(0)
		for {
			var m rpc
			if err := d.Decode(&m); err != nil {
				_ = r.CloseWithError(errTorn) // a writer must not wait for a reader that has gone
				return
			}
			each(m, d.InputOffset()-at)
			at = d.InputOffset()
		}
	}()
	t.Cleanup(func() { _ = w.Close(); <-done })
	return forgiving{w}
}

// forgiving drops what its writer does not take: what is no JSON is forwarded and not counted.
type forgiving struct{ w io.Writer }

// Write implements io.Writer.
func (f forgiving) Write(b []byte) (int, error) {
	_, _ = f.w.Write(b)
	return len(b), nil
}
