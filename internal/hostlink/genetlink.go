package hostlink

import (
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

// HasKernelDatapath says whether the kernel has Open vSwitch's datapath, by its generic netlink family. The
// kernel loads the module by itself when it is asked and can.
func (l *Links) HasKernelDatapath() bool { return l.hasFamily("ovs_datapath") }

func (l *Links) hasFamily(name string) bool {
	req := l.request(nl.GENL_ID_CTRL, 0)
	req.AddData(genlHeader{nl.GENL_CTRL_CMD_GETFAMILY, nl.GENL_CTRL_VERSION})
	req.AddData(nl.NewRtAttr(nl.GENL_CTRL_ATTR_FAMILY_NAME, nl.ZeroTerminated(name)))
	families, err := req.Execute(unix.NETLINK_GENERIC, 0)
	return err == nil && len(families) == 1
}
