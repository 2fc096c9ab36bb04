package ovsctl

import "github.com/socketplane/socketplane/ovsctl/vswitch"

// HasBridge says whether the database has any bridge, ours or not, of that name and datapath. A
// tunnel of a user-space datapath reaches the underlay only through such a bridge.
func (s *Switch) HasBridge(name, datapathType string) bool {
	n, err := s.current()
	if err != nil {
		return false
	}
	for _, row := range n.cache.Table(vswitch.BridgeTable).RowsShallow() {
		if b := row.(*vswitch.Bridge); b.Name == name && datapath(b.DatapathType) == datapathType {
			return true
		}
	}
	return false
}
