package store

import (
	"errors"
	"net/netip"
	"slices"
	"testing"
)

// TestPartForms holds the stored forms of heads, parts and labels: other versions of the agent read
// them.
func TestPartForms(t *testing.T) {
	e := []Endpoint{
		{ID: "e", MAC: "02:00:00:00:00:01", Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.2")}, MTU: 1450, Container: &Container{
			ID: "c", Name: "n", Aliases: []string{"s"}, LinkLocal: []netip.Addr{netip.MustParseAddr("169.254.1.1")}, Labels: map[string]string{"k": "v"}}},
		{ID: "f", MAC: "02:00:00:00:00:02"},
	}
	p := newPart(e)
	for got, want := range map[string]string{
		string(p.Value): `{"schema":1,"e":[{"i":"e","m":"02:00:00:00:00:01","a":["10.1.0.2"],"u":1450,"c":{"i":"c","n":"n","s":["s"],"l":["169.254.1.1"]}},` +
			`{"i":"f","m":"02:00:00:00:00:02"}]}`,
		string(labelsValue(e)):     `{"schema":1,"l":{"e":{"k":"v"}}}`,
		string(labelsValue(e[1:])): "",
		string(Head{Parts: []string{"AbCdEfGh", "", "01234567"}}.encode()): `{"schema":1,"p":"AbCdEfGh........01234567"}`,
		HeadKey("n", "a"):           "socketplane/v1/heads/n/" + ShardOf("a") + "/a",
		ShardKey("n", "0a"):         "socketplane/v1/shards/n/0a",
		PartKey("n", "a", 3):        "socketplane/v1/parts/n/a/3",
		LabelsKey("n", "a", 3):      "socketplane/v1/labels/n/a/3",
		LocalPartKey("n", "a", 12):  "socketplane/v1/local/parts/n/a/12",
		ShardOf("0123456789abcdef"): "1d",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	read, err := DecodePart(Entry{Key: "k", Value: p.Value})
	if err != nil || read.Hash != p.Hash || len(p.Hash) != hashText || len(read.Endpoints) != 2 || read.Endpoints[0].Container.Labels != nil {
		t.Errorf("part is read as %+v, %v", read, err)
	}
	if network, host, part, is := ParseLocalPart(LocalPartKey("n", "a", 12)); network != "n" || host != "a" || part != 12 || !is {
		t.Errorf("the key is read as %s, %s, %d, %t", network, host, part, is)
	}
	for _, key := range []string{LocalPeerKey("n", "a"), LocalPeerKey("n", "0000000000000001"), LocalPeerKey("n", "12"), LocalPeerKey("n", "a") + "/12", LocalPartsOf("n", "a") + "01", LocalParts + "x"} {
		if _, _, _, is := ParseLocalPart(key); is {
			t.Errorf("%s is the key of a part", key)
		}
	}
}

// FuzzParts holds of heads and parts that whatever lies in Consul is either refused with
// ErrInvalid, or written again as something that reads as the same.
func FuzzParts(f *testing.F) {
	for _, value := range []string{
		`{"schema":1,"e":[{"i":"e","m":"02:00:00:00:00:01","a":["10.1.0.2"],"u":1450,"c":{"i":"c","n":"n","s":["s"],"l":["169.254.1.1"]}}]}`, `{"schema":1,"e":[{},{"c":{}}]}`,
		`{"schema":1,"p":"AbCdEfGh........01234567"}`, `{"schema":1,"p":"AbC"}`, `{"schema":1,"p":"\u00e4\u00e4\u00e4\u00e4"}`, `{"schema":2}`, `{"schema":-1}`, `null`, `[]`, ``,
	} {
		f.Add([]byte(value))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		e := Entry{Key: "k", Value: value}
		if h, err := DecodeHead(e); err == nil {
			again, err := DecodeHead(Entry{Key: "k", Value: h.encode()})
			if err != nil || !slices.Equal(again.Parts, h.Parts) {
				t.Errorf("head %v is read again as %v, %v", h, again, err)
			}
		} else if !errors.Is(err, ErrInvalid) {
			t.Error(err)
		}
		if p, err := DecodePart(e); err == nil {
			again, err := DecodePart(Entry{Key: "k", Value: newPart(p.Endpoints).Value})
			if err != nil || !sameEndpoints(again.Endpoints, p.Endpoints) {
				t.Errorf("part %+v is read again as %+v, %v", p, again, err)
			}
		} else if !errors.Is(err, ErrInvalid) {
			t.Error(err)
		}
	})
}
