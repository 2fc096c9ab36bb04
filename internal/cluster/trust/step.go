package trust

import (
	"slices"
	"time"

	"github.com/socketplane/socketplane/store"
)

// patience is how long a phase of a rotation waits for members that are there but don't follow. Then it goes on: a host that
// can't write its disk must not keep the old keys alive. It is admitted again by its key.
const patience = 3 * time.Minute

// View is what a step of the rotation depends on beside the keys.
type View struct {
	// Epochs are those of the members that are up.
	Epochs []uint64
	// Gossip says that all members that are up have Keys.Gossip, and nothing else, and use the first.
	Gossip bool
	Now    time.Time
}

// Fresh is what a rotation brings.
type Fresh struct {
	CA                 store.Authority
	Gossip, Management store.Secret
}

// Step moves a rotation on by one phase if it can. It is the same whoever takes it, and when: what it depends on is in its
// arguments. The second result says whether anything changed.
func Step(keys store.Keys, v View, life Lifetimes, make func() (Fresh, error)) (store.Keys, bool, error) {
	if keys.Phase == store.PhaseNone && !keys.Rotate && !expiring(keys, life, v.Now) {
		return keys, false, nil
	}
	if !followed(keys, v) {
		return keys, false, nil
	}
	switch keys.Phase {
	case store.PhaseNone:
		made, err := make()
		if err != nil {
			return keys, false, err
		}
		keys.CAs = append(slices.Clone(keys.CAs), made.CA)
		keys.Gossip = append(slices.Clone(keys.Gossip), made.Gossip)
		if keys.Split { // otherwise agents that know one management token only may be there
			keys.Management = append(slices.Clone(keys.Management), made.Management)
		}
		keys.Phase, keys.Rotate = store.PhaseSpread, false
	case store.PhaseSpread:
		keys.CAs = lastFirst(keys.CAs)
		keys.Gossip = lastFirst(keys.Gossip)
		keys.Management = lastFirst(keys.Management)
		keys.Phase = store.PhaseUse
	default:
		keys.CAs, keys.Gossip, keys.Management = keys.CAs[:1:1], keys.Gossip[:1:1], keys.Management[:min(1, len(keys.Management)):1]
		keys.Phase = store.PhaseNone
	}
	keys.Epoch++
	keys.Since = v.Now.UTC()
	return keys, true, nil
}

// followed says whether all that are up have the keys as they are.
func followed(keys store.Keys, v View) bool {
	if v.Now.Sub(keys.Since) > patience {
		return true
	}
	return v.Gossip && !slices.ContainsFunc(v.Epochs, func(e uint64) bool { return e < keys.Epoch })
}

// expiring says whether the authority in use has two thirds of its life behind it.
func expiring(keys store.Keys, life Lifetimes, now time.Time) bool {
	if len(keys.CAs) == 0 {
		return false
	}
	cert, err := parseCert([]byte(keys.CAs[0].Cert))
	return err == nil && due(cert, life.Complete().CA, now)
}

func lastFirst[T any](all []T) []T {
	last := len(all) - 1
	if last < 1 {
		return all
	}
	return append([]T{all[last]}, all[:last]...)
}
