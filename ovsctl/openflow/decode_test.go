package openflow

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write what the switch says to testdata/capture")

// lastXID is that of the last request of a captured conversation.
const lastXID = 0x7fffffff

// TestCapture has a conversation with a real switch that has every kind of flow,
// refusals and features in it; with -update it becomes the seeds of FuzzDecode.
func TestCapture(t *testing.T) {
	sw, c := startSwitch(t)
	apply(t, c, Change{Add: caseFlows()})
	sw.Ofctl("add-flow", bridge, "priority=3,cookie=3,actions=learn(table=1,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[]),load:1->NXM_NX_REG0[2..5]")
	sw.Ofctl("add-flow", bridge, "priority=4,cookie=4,ct_state=+trk,tcp,tcp_flags=+syn,vlan_tci=0x1000/0x1000,actions=ct(commit,zone=1),write_metadata:1")

	refused := mod{flow: Flow{Match: Match{Addr(IPv4Dst, ip4)}}}
	bad, err := appendBundleAdd(nil, 11, 7, refused)
	if err != nil {
		t.Fatal(err)
	}
	conversations := map[string][][]byte{
		"flows":    {flowStatsRequest(lastXID, 0, 0)},
		"features": {simpleMessage(typeFeaturesRequest, 1, nil), simpleMessage(typeEchoRequest, lastXID, []byte("x"))},
		"bundle":   {bundleControl(10, 7, bundleOpen), bad, bundleControl(12, 7, bundleClose), bundleControl(lastXID, 7, bundleCommit)},
	}
	for name, requests := range conversations {
		t.Run(name, func(t *testing.T) {
			got := capture(t, sw.Mgmt(bridge), requests)
			decodeAll(t, got)
			if *update {
				if err := os.WriteFile(filepath.Join("testdata", "capture", name+".bin"), got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// capture sends requests and returns all that the switch says up to its answer
// to the last transaction.
func capture(t *testing.T, path string, requests [][]byte) []byte {
	t.Helper()
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if d, ok := deadline(t).Deadline(); ok {
		if err := nc.SetDeadline(d); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := nc.Write(append(helloMessage(0), bytes.Join(requests, nil)...)); err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	for {
		m, err := readMessage(io.TeeReader(nc, &all))
		if err != nil {
			t.Fatal(err)
		}
		if m.xid == lastXID && m.kind != typeHello {
			return all.Bytes()
		}
	}
}

// FuzzDecode feeds what a switch could say. Whatever it is, decoding ends without
// a panic, and a flow that is not opaque can be sent and comes back as the same.
func FuzzDecode(f *testing.F) {
	seeds, err := filepath.Glob(filepath.Join("testdata", "capture", "*.bin"))
	if err != nil || len(seeds) == 0 {
		f.Fatalf("no seeds: %v", err)
	}
	for _, path := range seeds {
		b, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		for r := bytes.NewReader(b); r.Len() > 0; { // each message alone mutates better
			at := len(b) - r.Len()
			if _, err := readMessage(r); err != nil {
				f.Fatal(err)
			}
			f.Add(b[at : len(b)-r.Len()])
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) { decodeAll(t, b) })
}

func decodeAll(t *testing.T, b []byte) {
	pending := &bundle{mods: make([]mod, 3), closed: make(chan struct{}), committed: make(chan struct{})}
	var flows []Flow
	for r := bytes.NewReader(b); ; {
		m, err := readMessage(r)
		if err != nil {
			break
		}
		helloAccepts(m)
		pending.handle(m, m.xid-10)
		if err := decodeError(m.body, "x"); err.Error() == "" {
			t.Error("an error without a text")
		}
		if m.kind == typeMultipartReply {
			_, _ = eachFlowStats(m.body, func(f Flow) { flows = append(flows, f.Clone()) })
		}
	}
	_ = pending.result()
	for _, f := range flows {
		checkReencodes(t, f)
	}
}

func checkReencodes(t *testing.T, f Flow) {
	if f.String() == "" || f.Key() == "" {
		t.Error("no text")
	}
	match, err := appendMatch(nil, f)
	if err != nil {
		t.Fatalf("match of %v: %v", f, err)
	}
	again := Flow{Table: f.Table, Priority: f.Priority, Cookie: f.Cookie}
	if f.Opaque != "" {
		if _, err := appendFlowMod(nil, 1, mod{flow: f}); !errors.Is(err, ErrInvalid) {
			t.Errorf("an opaque flow was encoded: %v: %v", f, err)
		}
		return
	}
	var unknown string
	if again.Match, unknown, err = decodeMatch(match[4:be16(match[2:])], nil); err != nil || unknown != "" {
		t.Fatalf("match of %v: %q, %v", f, unknown, err)
	}
	doing, err := appendInstructions(nil, f)
	if errors.Is(err, ErrInvalid) && len(f.Actions) > 1000 {
		return // Others' actions can be shorter than ours for the same.
	}
	if err == nil {
		err = decodeInstructions(doing, &again)
	}
	if err != nil || !f.Equal(again) || f.Key() != again.Key() {
		t.Errorf("%v\nbecame\n%v\nerror %v", f, again, err)
	}
}
