package store

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Claims are the claims of a block by address. Most of a block is claimed in one step, so its record names each claim once, with its addresses as
// ranges: a full block of one claim has some 150 bytes instead of 6,000, all of which would pass through Raft.
type Claims map[netip.Addr]Claim

// claimForm is a claim in a record, with its addresses: single ones, or the first and the last of a range with "-" between them.
type claimForm struct {
	Claim
	Addrs []string `json:"addrs"`
}

// MarshalJSON writes equal claims equally.
func (c Claims) MarshalJSON() ([]byte, error) {
	addrs := make([]netip.Addr, 0, len(c))
	for a := range c {
		addrs = append(addrs, a)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	forms, at := []claimForm{}, map[Claim]int{}
	for i := 0; i < len(addrs); {
		first, claim := addrs[i], c[addrs[i]]
		last := first
		for i++; i < len(addrs) && addrs[i] == last.Next() && c[addrs[i]] == claim; i++ {
			last = addrs[i]
		}
		n, is := at[claim]
		if !is {
			n = len(forms)
			at[claim], forms = n, append(forms, claimForm{Claim: claim})
		}
		text := first.String()
		if last != first {
			text += rangeSign + last.String()
		}
		forms[n].Addrs = append(forms[n].Addrs, text)
	}
	return json.Marshal(forms)
}

const rangeSign = "-"

// UnmarshalJSON refuses what can't be the claims of one block.
func (c *Claims) UnmarshalJSON(text []byte) error {
	var forms []claimForm
	if err := json.Unmarshal(text, &forms); err != nil {
		return err
	}
	*c = Claims{}
	for _, f := range forms {
		if f.Claim.Owner.IsZero() {
			return fmt.Errorf("%q are claimed by nobody", f.Addrs)
		}
		for _, part := range f.Addrs {
			from, to, isRange := strings.Cut(part, rangeSign)
			first, err := netip.ParseAddr(from)
			last := first
			if err == nil && isRange {
				last, err = netip.ParseAddr(to)
			}
			if err != nil {
				return err
			}
			if err := c.add(first, last, f.Claim); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c Claims) add(first, last netip.Addr, claim Claim) error {
	for a := first; a.Zone() == "" && len(c) < blockSize && a.IsValid(); a = a.Next() {
		if _, twice := c[a]; twice {
			return fmt.Errorf("%s is claimed twice", a)
		}
		if c[a] = claim; a == last {
			return nil
		}
	}
	return fmt.Errorf("%s to %s are not addresses of one block", first, last)
}
