package hostlink

import (
	"testing"

	"github.com/vishvananda/netlink"
)

func TestHasKernelDatapath(t *testing.T) {
	s := newSpace(t)
	_, err := netlink.GenlFamilyGet("ovs_datapath")
	if got := s.HasKernelDatapath(); got != (err == nil) {
		t.Errorf("HasKernelDatapath is %t, the kernel says %v", got, err)
	}
}

func TestHasFamily(t *testing.T) {
	s := newSpace(t)
	if !s.hasFamily("nlctrl") {
		t.Error("the kernel has no nlctrl, which answers the question")
	}
	if s.hasFamily("nosuchfamily") {
		t.Error("the kernel has a family that nobody made")
	}
}
