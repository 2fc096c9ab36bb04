package hostlink

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/socketplane/socketplane/internal/crashpoint"
)

// Commands of linux/ethtool.h.
const (
	ethtoolGetTXChecksum = 0x16 // ETHTOOL_GTXCSUM
	ethtoolSetTXChecksum = 0x17 // ETHTOOL_STXCSUM
)

// ethtoolValue is struct ethtool_value.
type ethtoolValue struct{ cmd, data uint32 }

// ethtoolRequest is struct ifreq with ifr_data; the kernel copies 40 bytes on 64-bit machines.
type ethtoolRequest struct {
	name [unix.IFNAMSIZ]byte
	data unsafe.Pointer
	_    [16]byte
}

func (l *Links) ethtool(link string, value *ethtoolValue) error {
	req := ethtoolRequest{data: unsafe.Pointer(value)}
	copy(req.name[:unix.IFNAMSIZ-1], link)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(l.ioctl), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
	if errno != 0 {
		return errno
	}
	return nil
}

// setTXChecksum turns TX checksum offload on or off. The kernel turns off what depends on it (segmentation of
// TCP and UDP) by itself, and gives it back with it. ethtool may still call TSO on, for the sake of AccECN since
// Linux 6.18: without checksums the kernel segments such packets itself all the same (harmonize_features).
func (l *Links) setTXChecksum(link string, on bool) error {
	value := ethtoolValue{cmd: ethtoolGetTXChecksum}
	if err := l.ethtool(link, &value); err != nil {
		return fmt.Errorf("read the TX checksum offload of link %s: %w", link, err)
	}
	if (value.data != 0) == on {
		return nil
	}
	value = ethtoolValue{cmd: ethtoolSetTXChecksum}
	if on {
		value.data = 1
	}
	crashpoint.Hit("link: checksums")
	if err := l.ethtool(link, &value); err != nil {
		return fmt.Errorf("turn the TX checksum offload of link %s to %t: %w", link, on, err)
	}
	crashpoint.Hit("link: checksums set")
	return nil
}
