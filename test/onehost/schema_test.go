package onehost

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
	"github.com/socketplane/socketplane/test/internal/bare"
)

// TestNewerDataIsRefused: an agent that is older than what it finds says what, which version and what to do, in its log and to Docker and the command
// line, and changes neither its state nor what is forwarded. When the data is its own again it takes up where it was.
func TestNewerDataIsRefused(t *testing.T) {
	h := newHost(t)
	h.start()
	ctx := h.Deadline(2 * patience)
	n, err := h.Docker().Network(ctx, id("net", 1), "10.1.0.0/24", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Join(ctx, id("ep", 1), mac(1)); err != nil {
		t.Fatal(err)
	}
	h.stop()
	forwarded := h.forwarding()
	for name, c := range map[string]struct {
		plant func(t testing.TB) (undo func())
		says  []string
	}{
		"host's state":   {h.plantSchema("local.db", store.LocalSchemaKey), []string{"this host's state in " + h.Path("state/local.db"), "schema 99"}},
		"cluster's data": {h.plantSchema("cluster.db", store.SchemaKey), []string{"the cluster's data", "schema 99"}},
		"journal":        {h.plantJournal, []string{"the journal " + h.Path("state/addresses.journal"), `schema "9"`}},
	} {
		t.Run(name, func(t *testing.T) {
			undo := c.plant(t)
			before := h.files(t)
			if err := os.Truncate(h.Path("agent.log"), 0); err != nil {
				t.Fatal(err)
			}
			h.begin()
			h.refuses(obstacle{says: append(c.says, "this agent knows 1", "upgrade socketplane on this host")})
			h.kill() // a stop would do, but the state is looked at as a crash leaves it
			for file, was := range before {
				if now := h.files(t)[file]; now != was {
					t.Errorf("%s was changed", file)
				}
			}
			if now := h.forwarding(); now != forwarded {
				t.Errorf("what is forwarded changed from\n%s\nto\n%s", forwarded, now)
			}
			undo()
		})
	}
	h.start()
	if h.metric("socketplane_endpoints") != 1 {
		t.Error("the endpoint is forgotten")
	}
}

// forwarding is what the switch has of ours: ports, flows with their cookies, and links.
func (h *host) forwarding() string {
	h.T.Helper()
	return h.OVS.Vsctl("list-ports", bare.Bridge) + "\n" + strings.Join(h.OVS.Flows(bare.Bridge), "\n") + "\n" + h.links()
}

// links are the host's links as they are configured: names, peers, addresses, MTUs, and whether they are to be up. Carrier and operational state are
// left out: the kernel notes them some time after a link was set up (linkwatch), so that they may change while nothing is done.
func (h *host) links() string {
	h.T.Helper()
	var all []struct {
		Name    string   `json:"ifname"`
		Peer    string   `json:"link"`
		Address string   `json:"address"`
		MTU     int      `json:"mtu"`
		Flags   []string `json:"flags"`
	}
	if err := json.Unmarshal([]byte(h.IP("-j", "link")), &all); err != nil {
		h.T.Fatal(err)
	}
	var text strings.Builder
	for _, l := range all {
		fmt.Fprintln(&text, l.Name, l.Peer, l.Address, l.MTU, slices.Contains(l.Flags, "UP"))
	}
	return text.String()
}

// files are the state directory's files that matter.
func (h *host) files(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	paths, err := filepath.Glob(h.Path("state/*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		switch filepath.Ext(p) {
		case ".db": // bbolt changes its pages of bookkeeping when it is opened
			all[p] = records(t, p)
		default:
			text, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			all[p] = string(text)
		}
	}
	return all
}

func openDB(t testing.TB, path string) store.KV {
	t.Helper()
	kv, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return kv
}

func records(t testing.TB, path string) string {
	t.Helper()
	kv := openDB(t, path)
	defer kv.Close()
	entries, err := kv.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, e := range entries {
		out.WriteString(e.Key + "=" + string(e.Value) + "\n")
	}
	return out.String()
}

// plantSchema makes a database be of schema 99.
func (h *host) plantSchema(file, key string) func(testing.TB) func() {
	write := func(t testing.TB, schema string) {
		kv := openDB(t, h.Path("state/"+file))
		defer kv.Close()
		if err := kv.Apply(t.Context(), store.Op{Kind: store.OpPut, Key: key, Value: []byte(schema)}); err != nil {
			t.Fatal(err)
		}
	}
	return func(t testing.TB) func() {
		write(t, `{"schema":99}`)
		return func() { write(t, `{"schema":1}`) }
	}
}

// plantJournal makes the journal be of schema 9.
func (h *host) plantJournal(t testing.TB) func() {
	path := h.Path("state/addresses.journal")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(append(slices.Clone(text), journalBatch("/schema", "9")...))
	return func() { write(text) }
}

// journalBatch is one batch of the journal's file: length and checksum, then each text with its length before it.
func journalBatch(texts ...string) []byte {
	var body []byte
	for _, s := range texts {
		body = append(binary.AppendUvarint(body, uint64(len(s))), s...)
	}
	head := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	return append(binary.BigEndian.AppendUint32(head, crc32.ChecksumIEEE(body)), body...)
}
