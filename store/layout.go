package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Layouts of the cluster's records. In the first one a network's record has its hosts and a pool's its holders, and a host's sign of life lies
// beside its record. In the second these are keys of their own. docs/design/0020-layout.md has the reasons and the way from one to the other.
const (
	FirstLayout  = 1
	NewestLayout = 2
)

// LayoutKey says which layout the cluster's records are written in. It is not below cluster/, which members of a cluster of our own may only read.
const LayoutKey = Root + "layout"

// LayoutSoak is for how long all hosts must know a layout before it is used without an operator's word: so long agents can be replaced
// by those of the former release without another step.
const LayoutSoak = 24 * time.Hour

// ErrOlderHosts says that hosts have agents that do not know a layout.
var ErrOlderHosts = errors.New("older agents")

// Layout is the record at LayoutKey. Where there is none, the layout is the first.
type Layout struct {
	Schema int `json:"schema"`
	Layout int `json:"layout"`
	// Since is when every host's record was first seen to say that its agent knows the newest layout; zero while one does not.
	Since time.Time `json:"since,omitzero"`
	// Pinned says that an operator chose the layout: it is not raised by itself.
	Pinned bool   `json:"pinned,omitempty"`
	Nonce  string `json:"nonce"`
}

// permanent ends the keys that stand under watched prefixes so that these are never empty: Consul ends a blocking list of an empty prefix on
// every write anywhere (hashicorp/consul#9449). No address, id or name that is drawn is this word. Agents that know the first layout only take the
// keys for garbage, so they are there in the second one only.
const permanent = "permanent"

// permanentPrefixes are those that are watched and can be empty. Each network's shards have such a key, too, which its watchers write. Agents of before do not look below
// ShardsPrefix, whose key is there in every layout.
func permanentPrefixes() []string {
	return []string{AsksPrefix, DeclaredPrefix, AlivePrefix, IndexesPrefix, HostShardsPrefix}
}

// PermanentKey is the key that keeps a watched prefix from being empty in the second layout.
func PermanentKey(prefix string) string { return prefix + permanent }

// isPermanent says whether the key is there only so that its prefix is not empty.
func isPermanent(key string) bool { return Last(key) == permanent }

// drop leaves the permanent keys out.
func dropPermanent(entries []Entry) []Entry {
	return slices.DeleteFunc(entries, func(e Entry) bool { return isPermanent(e.Key) })
}

// readLayout reads the layout and the version of its record. A layout that this agent does not know is refused with ErrNewer.
func readLayout(ctx context.Context, kv KV) (Layout, uint64, error) {
	l, version, err := find[Layout](ctx, kv, LayoutKey)
	if err == nil {
		l, err = l.known()
	}
	return l, version, err
}

// known fills in what an absent record means.
func (l Layout) known() (Layout, error) {
	l.Layout = cmp.Or(l.Layout, FirstLayout)
	if l.Layout < FirstLayout || l.Layout > NewestLayout {
		return l, fmt.Errorf("%w: %w: the cluster's records have layout %d, this agent knows %d: upgrade socketplane on this host",
			ErrInvalid, ErrNewer, l.Layout, NewestLayout)
	}
	return l, nil
}

// layout is which layout records are written in now, and the operation by which a transaction fails when that has changed.
func (c *core) layout(ctx context.Context) (int, Op, error) {
	l, version, err := readLayout(ctx, c.kv)
	return l.Layout, Op{Kind: OpCheck, Key: LayoutKey, Version: version}, err
}

// LayoutState is the layout as it is, for people.
type LayoutState struct {
	Layout
	// Older are the hosts whose agents do not know the newest layout, or whose records this agent can't read, sorted by name.
	Older []Host
}

// LayoutState reads the layout and which hosts are older.
func (c LayoutRecord) LayoutState(ctx context.Context) (LayoutState, error) {
	l, _, err := readLayout(ctx, c.kv)
	if err != nil {
		return LayoutState{}, err
	}
	members, err := c.hosts().Hosts(ctx)
	return LayoutState{l, older(members)}, err
}

func older(m Membership) []Host {
	hosts := m.where(func(h Host) bool { return max(h.Layout, FirstLayout) < NewestLayout })
	for id := range m.Unreadable {
		hosts = append(hosts, Host{ID: id})
	}
	slices.SortFunc(hosts, func(a, b Host) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return hosts
}

// BeginLayout writes which layout the cluster has if that is not written: the newest in a cluster without records and without an agent of before, which would have written the
// schema, else the first. [Guarded] calls it before anything else, and an agent again before it writes its host's record.
func (c LayoutRecord) BeginLayout(ctx context.Context) error {
	return c.change(ctx, func() ([]Op, error) {
		_, version, err := readLayout(ctx, c.kv)
		if err != nil || version != 0 {
			return nil, err
		}
		for _, prefix := range []string{SchemaKey, HostsPrefix, NetworksPrefix, PoolsPrefix} {
			entries, err := c.kv.List(ctx, prefix)
			if err != nil {
				return nil, err
			}
			if len(entries) > 0 {
				return []Op{setLayout(Layout{Layout: FirstLayout}, 0), permanentOp(ShardsPrefix)}, nil
			}
		}
		ops, err := c.layoutOps(ctx, Layout{Layout: NewestLayout}, 0)
		for i := range ops {
			if ops[i].Key == SchemaKey { // an agent of before may write it at this moment
				ops[i].Version = 0
			}
		}
		return ops, err
	})
}

// TendLayout notes since when all hosts know the newest layout, and raises the layout when that was so for soak. It returns the layout. One agent does
// it for all, every minute or so; members are the hosts as it saw them last.
func (c LayoutRecord) TendLayout(ctx context.Context, members Membership, now time.Time, soak time.Duration) (int, error) {
	var next Layout
	err := c.change(ctx, func() ([]Op, error) {
		have, version, err := readLayout(ctx, c.kv)
		if next = have; err != nil || have.Layout == NewestLayout || have.Pinned {
			return nil, err
		}
		complete := len(members.Hosts) > 0 && len(older(members)) == 0
		switch {
		case !complete:
			next.Since = time.Time{}
		case have.Since.IsZero(), have.Since.After(now): // or noted by a host whose clock was ahead
			next.Since = now.UTC()
		case now.Sub(have.Since) >= soak:
			if members, err = c.hosts().Hosts(ctx); err != nil {
				return nil, err
			}
			if len(older(members)) > 0 { // since members were seen
				return nil, nil
			}
			next.Layout, next.Since = NewestLayout, time.Time{}
			return c.layoutOps(ctx, next, version)
		}
		if next == have && version != 0 {
			return nil, nil
		}
		return []Op{setLayout(next, version)}, nil
	})
	return next.Layout, err
}

// SetLayout is an operator's word: the newest layout at once, or the first one, which stays until another word. All records have its form when it returns nil; it
// can be repeated. It returns ErrOlderHosts if hosts do not know it, and ErrInvalid if there is no such layout.
func (c LayoutRecord) SetLayout(ctx context.Context, layout int) error {
	if layout < FirstLayout || layout > NewestLayout {
		return fmt.Errorf("%w: there is no layout %d: give %d or %d", ErrInvalid, layout, FirstLayout, NewestLayout)
	}
	err := c.change(ctx, func() ([]Op, error) {
		have, version, err := readLayout(ctx, c.kv)
		if err != nil {
			return nil, err
		}
		next := Layout{Layout: layout, Pinned: layout < NewestLayout}
		if have.Layout == layout && have.Pinned == next.Pinned && version != 0 {
			return nil, nil
		}
		members, err := c.hosts().Hosts(ctx)
		if err != nil {
			return nil, err
		}
		if old := older(members); layout == NewestLayout && len(old) > 0 {
			return nil, fmt.Errorf("%w: layout %d is not known to the agents of %s: upgrade socketplane there, or 'socketplane host rm' those that do not come back",
				ErrOlderHosts, layout, titles(old))
		}
		return c.layoutOps(ctx, next, version)
	})
	if err != nil {
		return err
	}
	unread, err := c.Reform(ctx)
	if err == nil && len(unread) > 0 {
		err = fmt.Errorf("the layout is %d, but some records stay as they are: %w", layout, unread.Err())
	}
	if err == nil && layout == FirstLayout {
		err = c.formerForGone(ctx)
	}
	return err
}

// titles names hosts for people.
func titles(hosts []Host) string {
	names := make([]string, len(hosts))
	for i, h := range hosts {
		names[i] = cmp.Or(h.Name, h.ID)
	}
	return strings.Join(names, ", ")
}

// layoutOps changes the layout, with the permanent keys and the number of the store's schema, by which agents of before there were layouts refuse all
// data of a later one: they would take hosts for gone whose signs of life they do not see.
func (c *core) layoutOps(ctx context.Context, l Layout, version uint64) ([]Op, error) {
	schema, err := c.kv.Get(ctx, SchemaKey)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	ops := []Op{setLayout(l, version), permanentOp(ShardsPrefix), {Kind: OpSet, Key: SchemaKey, Value: Encode(schemaRecord{max(Schema, l.Layout)}), Version: schema.Version}}
	if l.Layout == FirstLayout { // whose janitor is the first host that is alive
		ops = append(ops, Op{Kind: OpRemove, Key: JanitorKey})
	}
	for _, prefix := range permanentPrefixes() {
		op := Op{Kind: OpRemove, Key: PermanentKey(prefix)}
		if l.Layout > FirstLayout {
			op = permanentOp(prefix)
		}
		ops = append(ops, op)
	}
	return ops, nil
}

// permanentOp writes the key that keeps a prefix from being empty.
func permanentOp(prefix string) Op {
	return Op{Kind: OpPut, Key: PermanentKey(prefix), Value: Encode(schemaRecord{Schema})}
}

func setLayout(l Layout, version uint64) Op {
	l.Schema, l.Nonce = Schema, NewNonce()
	return Op{Kind: OpSet, Key: LayoutKey, Value: Encode(l), Version: version}
}
