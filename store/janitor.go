package store

import "context"

// JanitorKey says which host is the cluster's janitor, in the second layout.
const JanitorKey = Root + "janitor"

// janitorRecord is the record at JanitorKey. It counts while the host's agent is alive.
type janitorRecord struct {
	Schema int    `json:"schema"`
	Host   string `json:"host"`
	Nonce  string `json:"nonce"`
}

// IsJanitor says whether this host is the cluster's janitor, whose agent removes for all what is not needed any more. In the
// second layout that is a lock: one host holds it while its sign of life is there, which its session keeps, and the next one
// that asks gets it; two never hold it. It reads two or three small keys in a cluster of any size. In the first layout it is the
// first host that is alive of members, as agents of before have it.
func (c HostRecords) IsJanitor(ctx context.Context, members Membership) (mine bool, err error) {
	err = c.change(ctx, func() ([]Op, error) {
		mine = false
		layout, same, err := c.layout(ctx)
		if err != nil {
			return nil, err
		}
		if layout == FirstLayout {
			mine = c.firstAlive(members)
			return nil, nil
		}
		has, version, err := find[janitorRecord](ctx, c.kv, JanitorKey)
		if err != nil {
			return nil, err
		}
		guards := []Op{same}
		if has.Host != "" && ValidKey(AliveKey(has.Host)) == nil {
			_, up, err := c.sign(ctx, has.Host)
			if err != nil {
				return nil, err
			}
			if up {
				mine = has.Host == c.host
				return nil, nil
			}
			guards = append(guards, notAlive(has.Host)...)
		}
		own, up, err := c.sign(ctx, c.host)
		if err != nil || !up { // others take this agent for down
			return nil, err
		}
		mine = true
		return append(guards, own, Op{Kind: OpSet, Key: JanitorKey, Value: Encode(janitorRecord{Schema, c.host, NewNonce()}), Version: version}), nil
	})
	return mine && err == nil, err
}

// firstAlive says whether this host is the first of those that are alive.
func (c *core) firstAlive(members Membership) bool {
	for id := range members.Alive {
		if members.Known(id) && id < c.host {
			return false
		}
	}
	return members.Alive[c.host]
}
