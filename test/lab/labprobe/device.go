package main

import (
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// bindToDevice is a dialer's control function: the socket uses this interface whatever the routes say.
func bindToDevice(name string) func(string, string, syscall.RawConn) error {
	return func(_, _ string, raw syscall.RawConn) error {
		var bindErr error
		err := raw.Control(func(fd uintptr) {
			bindErr = unix.SetsockoptString(int(fd), unix.SOL_SOCKET, unix.SO_BINDTODEVICE, name)
		})
		if err != nil {
			return err
		}
		return bindErr
	}
}

func firstAddr(iface *net.Interface, v4 bool) (*net.UDPAddr, error) {
	addrs, err := iface.Addrs()
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && (n.IP.To4() != nil) == v4 {
			addr := &net.UDPAddr{IP: n.IP}
			if !v4 && n.IP.IsLinkLocalUnicast() {
				addr.Zone = iface.Name
			}
			return addr, nil
		}
	}
	return nil, fmt.Errorf("%s has no address of that family", iface.Name)
}
