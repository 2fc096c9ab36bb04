package store

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
)

// Owner says whose an address is, and who holds a subnet: one host, the network itself or Swarm. The zero Owner is nobody. Owners
// can be compared with == and are keys of maps. In records an owner is one word: "network", "swarm", or else a host's id.
type Owner struct {
	kind ownerKind
	text string // the host's id, or the word of an unknown kind
}

type ownerKind uint8

const (
	ownerNobody ownerKind = iota
	ownerHost
	ownerNetwork
	ownerSwarm
	ownerUnknown
)

// The words of owners that are not hosts. A host's id is drawn at random as hexadecimal digits and is never one of them.
const (
	wordNetwork = "network"
	wordSwarm   = "swarm"
	// kindSign is in the words of kinds that a later agent may add, and never in a host's id.
	kindSign = ":"
)

// HostOwner is the host with this id.
func HostOwner(id string) Owner { return Owner{ownerHost, id} }

// NetworkOwner owns gateway and auxiliary addresses: they are the network's on all of its hosts.
func NetworkOwner() Owner { return Owner{kind: ownerNetwork} }

// SwarmOwner owns the addresses that Swarm's manager has chosen, and holds its subnets: they are no host's, as any host may be the next manager.
func SwarmOwner() Owner { return Owner{kind: ownerSwarm} }

// ParseOwner reads what Owner.String gave. A word with a colon is a kind that a later agent has added: it is kept as it is, and is not a host.
func ParseOwner(word string) (Owner, error) {
	switch {
	case word == "":
		return Owner{}, fmt.Errorf("%w: an owner has no name", ErrInvalid)
	case word == wordNetwork:
		return NetworkOwner(), nil
	case word == wordSwarm:
		return SwarmOwner(), nil
	case strings.Contains(word, kindSign):
		return Owner{ownerUnknown, word}, nil
	case ValidKey(HostKey(word)) != nil || strings.Contains(word, "/"):
		return Owner{}, fmt.Errorf("%w: %q is not a host's id", ErrInvalid, word)
	}
	return HostOwner(word), nil
}

// Host returns the host's id if the owner is a host.
func (o Owner) Host() (id string, is bool) {
	if o.kind != ownerHost {
		return "", false
	}
	return o.text, true
}

// IsZero says whether the owner is nobody.
func (o Owner) IsZero() bool { return o == Owner{} }

// String is the owner's word in records.
func (o Owner) String() string {
	switch o.kind {
	case ownerNetwork:
		return wordNetwork
	case ownerSwarm:
		return wordSwarm
	}
	return o.text
}

// Compare orders owners by their words.
func (o Owner) Compare(other Owner) int { return cmp.Compare(o.String(), other.String()) }

// MarshalText is String. It returns an error if the owner is nobody.
func (o Owner) MarshalText() ([]byte, error) {
	if o.IsZero() {
		return nil, fmt.Errorf("%w: an owner has no name", ErrInvalid)
	}
	return []byte(o.String()), nil
}

// UnmarshalText is ParseOwner.
func (o *Owner) UnmarshalText(word []byte) (err error) {
	*o, err = ParseOwner(string(word))
	return err
}

// UnmarshalJSON is ParseOwner; null is no owner and is refused.
func (o *Owner) UnmarshalJSON(text []byte) error {
	var word string
	if err := json.Unmarshal(text, &word); err != nil {
		return err
	}
	return o.UnmarshalText([]byte(word))
}
