package trust_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/store"
)

// secrets names authorities and gossip keys of a step by number.
func numbered(phase store.Phase, epoch uint64, since time.Time, rotate bool, names ...string) store.Keys {
	k := store.Keys{Phase: phase, Epoch: epoch, Since: since, Rotate: rotate, Split: true}
	for _, n := range names {
		k.CAs = append(k.CAs, store.Authority{Cert: n})
		k.Gossip = append(k.Gossip, store.NewSecret(n))
		k.Management = append(k.Management, store.NewSecret(n))
	}
	return k
}

func names(k store.Keys) (all []string) {
	for i, ca := range k.CAs {
		if ca.Cert != k.Gossip[i].Reveal() || ca.Cert != k.Management[i].Reveal() || len(k.Management) != len(k.CAs) {
			return []string{"authorities, gossip keys and management tokens differ"}
		}
		all = append(all, ca.Cert)
	}
	return all
}

func TestStep(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	fresh := func() (trust.Fresh, error) {
		return trust.Fresh{CA: store.Authority{Cert: "new"}, Gossip: store.NewSecret("new"), Management: store.NewSecret("new")}, nil
	}
	for _, tc := range []struct {
		name    string
		keys    store.Keys
		epochs  []uint64
		gossip  bool
		changed bool
		phase   store.Phase
		want    []string
		rotate  bool
	}{
		{"nothing-to-do", numbered("", 5, now, false, "a"), []uint64{4, 5}, false, false, "", []string{"a"}, false},
		{"begin", numbered("", 5, now, true, "a"), []uint64{5, 5}, true, true, "spread", []string{"a", "new"}, false},
		{"begin-later", numbered("", 5, now, true, "a"), []uint64{4, 5}, true, false, "", []string{"a"}, true},
		{"begin-at-last", numbered("", 5, now.Add(-4*time.Minute), true, "a"), []uint64{4, 5}, false, true, "spread", []string{"a", "new"}, false},
		{"use", numbered("spread", 6, now, false, "a", "b"), []uint64{6, 6}, true, true, "use", []string{"b", "a"}, false},
		{"use-not-followed", numbered("spread", 6, now, false, "a", "b"), []uint64{6, 5}, true, false, "spread", []string{"a", "b"}, false},
		{"use-no-gossip", numbered("spread", 6, now, false, "a", "b"), []uint64{6, 6}, false, false, "spread", []string{"a", "b"}, false},
		{"use-after-patience", numbered("spread", 6, now.Add(-4*time.Minute), false, "a", "b"), []uint64{6, 5}, false, true, "use", []string{"b", "a"}, false},
		{"end", numbered("use", 7, now, false, "b", "a"), []uint64{7, 9}, true, true, "", []string{"b"}, false},
		{"end-not-followed", numbered("use", 7, now, false, "b", "a"), []uint64{7, 6}, true, false, "use", []string{"b", "a"}, false},
		{"another-one-waits", numbered("use", 7, now, true, "b", "a"), []uint64{7}, true, true, "", []string{"b"}, true},
		{"nobody-up", numbered("spread", 6, now, false, "a", "b"), nil, true, true, "use", []string{"b", "a"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := fmt.Sprint(names(tc.keys))
			got, changed, err := trust.Step(tc.keys, trust.View{Epochs: tc.epochs, Gossip: tc.gossip, Now: now}, trust.Lifetimes{}, fresh)
			must(t, err)
			if changed != tc.changed || got.Phase != tc.phase || !slices.Equal(names(got), tc.want) || got.Rotate != tc.rotate {
				t.Errorf("changed %v, phase %q, keys %v, rotate %v", changed, got.Phase, names(got), got.Rotate)
			}
			if changed != (got.Epoch == tc.keys.Epoch+1) || changed && !got.Since.Equal(now) {
				t.Errorf("epoch %d, since %s", got.Epoch, got.Since)
			}
			if fmt.Sprint(names(tc.keys)) != before {
				t.Error("the argument was changed")
			}
		})
	}
	broken := errors.New("no entropy")
	_, changed, err := trust.Step(numbered("", 5, now, true, "a"), trust.View{Gossip: true, Now: now}, trust.Lifetimes{},
		func() (trust.Fresh, error) { return trust.Fresh{}, broken })
	if changed || !errors.Is(err, broken) {
		t.Errorf("changed %v, error %v", changed, err)
	}
}

// TestStepBeforeTheAuthorityExpires: the rotation begins at two thirds of its life.
func TestStepBeforeTheAuthorityExpires(t *testing.T) {
	id, err := trust.LoadIdentity(t.TempDir())
	must(t, err)
	now := time.Now()
	life := trust.Lifetimes{CA: 90 * 24 * time.Hour, Leaf: 24 * time.Hour}
	keys := found(t, id, life, now).Keys
	fresh := func() (trust.Fresh, error) {
		return trust.Fresh{CA: store.Authority{Cert: "new"}, Gossip: store.NewSecret("new"), Management: store.NewSecret("new")}, nil
	}
	for days, want := range map[int]bool{0: false, 59: false, 61: true, 100: true} {
		_, changed, err := trust.Step(keys, trust.View{Epochs: []uint64{1}, Gossip: true, Now: now.Add(time.Duration(days) * 24 * time.Hour)}, life, fresh)
		must(t, err)
		if changed != want {
			t.Errorf("after %d days: rotation %v", days, changed)
		}
	}
}

// TestRotationKeepsEverybodyTogether: at each moment of rotations, whatever the order in which members follow, each
// understands each other one, by what one uses and the other accepts.
func TestRotationKeepsEverybodyTogether(t *testing.T) {
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		made := 0
		fresh := func() (trust.Fresh, error) {
			made++
			n := fmt.Sprint(made)
			return trust.Fresh{CA: store.Authority{Cert: n}, Gossip: store.NewSecret(n), Management: store.NewSecret(n)}, nil
		}
		keys := numbered("", 1, now, true, "0")
		members := make([]store.Keys, 2+random.IntN(6))
		for i := range members {
			members[i] = keys
		}
		done := 0
		for moves := 0; done < 3; moves++ {
			if moves > 5000 {
				t.Fatalf("seed %d: the rotation does not end", seed)
			}
			if i := random.IntN(len(members) + 1); i < len(members) {
				members[i] = keys
			} else {
				var epochs []uint64
				for _, m := range members {
					epochs = append(epochs, m.Epoch)
				}
				next, changed, err := trust.Step(keys, trust.View{Epochs: epochs, Gossip: true, Now: now}, trust.Lifetimes{}, fresh)
				must(t, err)
				if changed && next.Phase == store.PhaseNone {
					done++
					next.Rotate = true
				}
				keys = next
			}
			for i, a := range members {
				for j, b := range members {
					if uses := names(a)[0]; !slices.Contains(names(b), uses) {
						t.Fatalf("seed %d: member %d uses %s, member %d knows %v", seed, i, uses, j, names(b))
					}
				}
			}
		}
	}
}
