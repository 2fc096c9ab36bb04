package hostlink

import (
	"sync"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// genlHeader is struct genlmsghdr of linux/genetlink.h: command, version, two reserved bytes. The library's own is
// two bytes long and is sent as four, so that it reads what lies beside it.
type genlHeader [nl.SizeofGenlmsg]byte

// Len is the header's length.
func (h genlHeader) Len() int { return len(h) }

// Serialize is the header as it is sent.
func (h genlHeader) Serialize() []byte { return h[:] }

// askAgain is how long a kernel that has no openvswitch module is not asked for it by name again.
const askAgain = 10 * time.Minute

// family remembers the question for the datapath's family.
type family struct {
	mu    sync.Mutex
	asked time.Time // by name, in vain
	again time.Duration
}

// HasKernelDatapath says whether the kernel has Open vSwitch's datapath, by its generic netlink family. The
// kernel loads the module by itself when it is asked for the family by name and can; when it can't, it has run modprobe in vain. So that
// is asked once and every ten minutes; in between the families that are there are listed, which finds a module that
// somebody else has loaded.
func (l *Links) HasKernelDatapath() bool {
	const name = "ovs_datapath"
	l.family.mu.Lock()
	defer l.family.mu.Unlock()
	if l.listsFamily(name) {
		l.family.asked = time.Time{}
		return true
	}
	if !l.family.asked.IsZero() && time.Since(l.family.asked) < l.family.again {
		return false
	}
	l.family.asked = time.Now()
	return l.hasFamily(name)
}

// hasFamily asks for a family by name.
func (l *Links) hasFamily(name string) bool {
	l.counts.moduleAsks.Add(1)
	req := l.request(nl.GENL_ID_CTRL, 0)
	req.AddData(genlHeader{nl.GENL_CTRL_CMD_GETFAMILY, nl.GENL_CTRL_VERSION})
	req.AddData(nl.NewRtAttr(nl.GENL_CTRL_ATTR_FAMILY_NAME, nl.ZeroTerminated(name)))
	families, err := req.Execute(unix.NETLINK_GENERIC, 0)
	return err == nil && len(families) == 1
}

// listsFamily looks for a family among those that the kernel has now.
func (l *Links) listsFamily(name string) bool {
	req := l.request(nl.GENL_ID_CTRL, unix.NLM_F_DUMP)
	req.AddData(genlHeader{nl.GENL_CTRL_CMD_GETFAMILY, nl.GENL_CTRL_VERSION})
	families, err := req.Execute(unix.NETLINK_GENERIC, nl.GENL_ID_CTRL)
	if err != nil {
		return false
	}
	for _, m := range families {
		if len(m) < nl.SizeofGenlmsg {
			continue
		}
		attrs, err := nl.ParseRouteAttr(m[nl.SizeofGenlmsg:])
		if err != nil {
			continue
		}
		for _, a := range attrs {
			if a.Attr.Type == nl.GENL_CTRL_ATTR_FAMILY_NAME && unix.ByteSliceToString(a.Value) == name {
				return true
			}
		}
	}
	return false
}
