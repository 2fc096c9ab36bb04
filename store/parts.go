package store

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

const (
	// hashBytes are how many bytes of a part's SHA-256 are its hash, and hashText how long that is
	// in base64.
	hashBytes, hashText = 6, 8
	// maxPart is the largest value of a part in bytes: the copy in a host's own store fits in, too.
	maxPart = MaxValue / 4
	// maxParts is how many hashes a head can have.
	maxParts = MaxValue / hashText / 2
)

// noHash stands in a head's record for a part that is not there. A hash has no dots.
var noHash = strings.Repeat(".", hashText)

// hashOf is the hash of a part's value.
func hashOf(value []byte) string {
	sum := sha256.Sum256(value)
	return base64.RawURLEncoding.EncodeToString(sum[:hashBytes])
}

// Head says which parts a host's endpoints on a network have.
type Head struct {
	// Parts are the parts' hashes by number; "" for one that is not there. It is nil if the reader
	// has said that it knows this version.
	Parts []string
	// Version is that of the record which was read. It is not part of what is stored.
	Version uint64
}

// headRecord is the stored form of Head. Its hashes are one text, as a watcher reads some tens of
// heads for each change.
type headRecord struct {
	Schema int    `json:"schema"`
	Parts  string `json:"p"`
}

// encode gives the stored form.
func (h Head) encode() []byte {
	var all strings.Builder
	for _, hash := range h.Parts {
		if hash == "" {
			hash = noHash
		}
		all.WriteString(hash)
	}
	return Encode(headRecord{Schema, all.String()})
}

// DecodeHead reads a head, and refuses one of a newer schema with ErrInvalid and ErrNewer.
func DecodeHead(e Entry) (Head, error) {
	r, err := Decode[headRecord](e)
	if err != nil {
		return Head{}, err
	}
	if len(r.Parts)%hashText != 0 || len(r.Parts)/hashText > maxParts {
		return Head{}, fmt.Errorf("%w: record %s has hashes of %d bytes", ErrInvalid, e.Key, len(r.Parts))
	}
	h := Head{Parts: make([]string, 0, len(r.Parts)/hashText), Version: e.Version}
	for hash := range slices.Chunk([]byte(r.Parts), hashText) {
		if text := string(hash); text != noHash {
			h.Parts = append(h.Parts, text)
		} else {
			h.Parts = append(h.Parts, "")
		}
	}
	return h, nil
}

// Part are some of a host's endpoints on a network, without labels.
type Part struct {
	Hash      string
	Endpoints []Endpoint
	// Value is the record as it is stored.
	Value []byte
}

// partRecord is the stored form of Part. Its names are short, as each change of one endpoint makes
// all watchers read a part.
type partRecord struct {
	Schema    int            `json:"schema"`
	Endpoints []partEndpoint `json:"e"`
}

type partEndpoint struct {
	ID        string         `json:"i"`
	MAC       string         `json:"m"`
	Addrs     []netip.Addr   `json:"a,omitempty"`
	MTU       int            `json:"u,omitempty"`
	Container *partContainer `json:"c,omitempty"`
}

type partContainer struct {
	ID        string       `json:"i,omitempty"`
	Name      string       `json:"n,omitempty"`
	Aliases   []string     `json:"s,omitempty"`
	LinkLocal []netip.Addr `json:"l,omitempty"`
}

// newPart gives the stored form of endpoints. Their labels are left out.
func newPart(endpoints []Endpoint) Part {
	r := partRecord{Schema: Schema}
	for _, e := range endpoints {
		p := partEndpoint{ID: e.ID, MAC: e.MAC, Addrs: e.Addrs, MTU: e.MTU}
		if c := e.Container; c != nil {
			p.Container = &partContainer{c.ID, c.Name, c.Aliases, c.LinkLocal}
		}
		r.Endpoints = append(r.Endpoints, p)
	}
	value := Encode(r)
	return Part{hashOf(value), endpoints, value}
}

// DecodePart reads a part, and refuses one of a newer schema with ErrInvalid and ErrNewer.
func DecodePart(e Entry) (Part, error) {
	r, err := Decode[partRecord](e)
	if err != nil {
		return Part{}, err
	}
	p := Part{hashOf(e.Value), make([]Endpoint, 0, len(r.Endpoints)), e.Value}
	for _, in := range r.Endpoints {
		out := Endpoint{ID: in.ID, MAC: in.MAC, Addrs: in.Addrs, MTU: in.MTU}
		if c := in.Container; c != nil {
			out.Container = &Container{ID: c.ID, Name: c.Name, Aliases: c.Aliases, LinkLocal: c.LinkLocal}
		}
		p.Endpoints = append(p.Endpoints, out)
	}
	return p, nil
}

// labelsRecord are the labels of a part's containers, by endpoint.
type labelsRecord struct {
	Schema int                          `json:"schema"`
	Labels map[string]map[string]string `json:"l"`
}

// labelsValue is the stored form of the endpoints' labels, nil if none has labels.
func labelsValue(endpoints []Endpoint) []byte {
	r := labelsRecord{Schema, map[string]map[string]string{}}
	for _, e := range endpoints {
		if e.Container != nil && len(e.Container.Labels) > 0 {
			r.Labels[e.ID] = e.Container.Labels
		}
	}
	if len(r.Labels) == 0 {
		return nil
	}
	return Encode(r)
}

// withLabels adds labels to endpoints that are in no other hands: they were
// decoded just now.
func withLabels(endpoints []Endpoint, labels map[string]map[string]string) {
	for _, e := range endpoints {
		if its := labels[e.ID]; its != nil && e.Container != nil {
			e.Container.Labels = its
		}
	}
}
